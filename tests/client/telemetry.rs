//! What is told of watches and sessions when a member dies under them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use keystead_client::{
    Client, ConnectOptions, KeyRange, Loss, Notice, SessionChange, SessionState, Telemetry,
    TelemetrySink, Watch, WatchChange, WatchEvent,
};
use tokio::time::timeout;

use super::{PATIENCE, eventually, on_each};

#[derive(Clone, Default)]
struct Diary {
    sessions: Arc<Mutex<Vec<SessionChange>>>,
    watches: Arc<Mutex<Vec<(WatchEvent, usize)>>>,
}

impl Telemetry for Diary {
    fn session(&self, change: &SessionChange) {
        let mut sessions = self.sessions.lock().expect("no test panics there");
        sessions.push(*change);
    }

    fn watch(&self, change: &WatchChange<'_>) {
        let mut watches = self.watches.lock().expect("no test panics there");
        watches.push((change.event, change.watches));
    }
}

#[tokio::test]
async fn a_member_that_dies_is_told_once_and_so_is_its_return() {
    on_each(async |server| {
        let diary = Diary::default();
        let client = Client::lazy(ConnectOptions {
            telemetry: Some(TelemetrySink::new(diary.clone())),
            ..ConnectOptions::new([format!("http://{}", server.address())])
        });
        let client = client.expect("an address is an endpoint");
        let session = client.session(Duration::from_secs(60)).await;
        let session = session.expect("it is granted");
        let lease = session.lease();
        let watchers = [
            client.watch(Watch::new(KeyRange::key("a"))).await,
            client.watch(Watch::new(KeyRange::key("b"))).await,
        ]
        .map(|watcher| watcher.expect("it is watched"));
        server.kill();
        for watcher in &watchers {
            let notice = timeout(PATIENCE, watcher.next()).await.expect("in time");
            let notice = notice.expect("it goes on").expect("nobody cancelled it");
            assert!(matches!(notice, Notice::Disconnected { .. }), "{notice:?}");
        }
        server.restart().await;
        for watcher in &watchers {
            let notice = timeout(PATIENCE, watcher.next()).await.expect("in time");
            let notice = notice.expect("it goes on").expect("nobody cancelled it");
            assert!(matches!(notice, Notice::Resumed { .. }), "{notice:?}");
        }
        let told = diary.watches.lock().expect("no test panics there").clone();
        assert_eq!(
            told,
            [(WatchEvent::Disconnected, 2), (WatchEvent::Resumed, 2)]
        );
        session.close().await.expect("it is there");
        let states = [SessionState::Active, SessionState::Lost(Loss::Revoked)];
        eventually("the end of the session to be told", async || {
            let told = diary.sessions.lock().expect("no test panics there").clone();
            let expected = states.map(|state| SessionChange { lease, state });
            (told == expected).then_some(())
        })
        .await;
    })
    .await;
}
