//! What is told of calls, attempts and connections.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use keystead_client::{
    Attempt, Call, Client, ConnectOptions, ConnectionChange, ConnectionEvent, Failed, Kind,
    Outcome, Telemetry, TelemetrySink,
};

use crate::fake::{Act, Fake};
use crate::member::eventually;

/// What was told, in order, in words.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn write(&self, line: String) {
        self.0.lock().expect("no test panics there").push(line);
    }

    /// What was told since the last time.
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("no test panics there"))
    }

    async fn wait_for(&self, line: &str) {
        eventually(line, async || {
            let lines = self.0.lock().expect("no test panics there");
            lines.iter().any(|told| told == line).then_some(())
        })
        .await;
    }
}

fn end(failure: Option<Failed>) -> String {
    failure.map_or("ok".to_owned(), |failed| {
        format!("{:?} {:?}", failed.kind, failed.outcome)
    })
}

impl Telemetry for Diary {
    fn call(&self, call: &Call<'_>) {
        assert!(call.duration > Duration::ZERO);
        let (rpc, attempts) = (call.rpc, call.attempts);
        self.write(format!("{rpc} in {attempts}: {}", end(call.failure)));
    }

    fn attempt(&self, attempt: &Attempt<'_>) {
        assert!(attempt.endpoint.starts_with("http://127.0.0.1:"));
        let (rpc, number) = (attempt.rpc, attempt.number);
        self.write(format!("{rpc} #{number}: {}", end(attempt.failure)));
    }

    fn connection(&self, change: &ConnectionChange<'_>) {
        assert!(change.endpoint.starts_with("http://127.0.0.1:"));
        let because = change.event == ConnectionEvent::DialFailed;
        assert_eq!(!change.reason.is_empty(), because, "{change:?}");
        self.write(format!("{:?}", change.event));
    }
}

fn client(fake: &Fake) -> (Client, Diary) {
    let diary = Diary::default();
    let client = Client::lazy(ConnectOptions {
        telemetry: Some(TelemetrySink::new(diary.clone())),
        ..fake.options()
    });
    (client.expect("the URL is one"), diary)
}

#[tokio::test]
async fn every_attempt_and_every_call_is_told_with_its_end() {
    let fake = Fake::start([
        Act::Answer,
        Act::Refuse(2, "etcdserver: too many requests"),
        Act::Answer,
        Act::Refuse(7, "etcdserver: permission denied"),
    ])
    .await;
    let (client, diary) = client(&fake);
    client.put("k", "v").await.expect("it is answered");
    assert_eq!(
        diary.take(),
        [
            "Up",
            "/etcdserverpb.KV/Put #1: ok",
            "/etcdserverpb.KV/Put in 1: ok"
        ]
    );
    client.put("k", "v").await.expect("it is sent again");
    assert_eq!(
        diary.take(),
        [
            "/etcdserverpb.KV/Put #1: TooManyRequests NotApplied",
            "/etcdserverpb.KV/Put #2: ok",
            "/etcdserverpb.KV/Put in 2: ok"
        ]
    );
    client.get("k").await.expect_err("it is refused");
    assert_eq!(
        diary.take(),
        [
            "/etcdserverpb.KV/Range #1: PermissionDenied NotApplied",
            "/etcdserverpb.KV/Range in 1: PermissionDenied NotApplied"
        ]
    );
}

#[tokio::test]
async fn connections_are_told_when_they_come_and_go() {
    let fake = Fake::start([Act::DropAfter]).await;
    let (client, diary) = client(&fake);
    let error = client.put("k", "v").await.expect_err("it breaks");
    assert_eq!(
        (error.kind, error.outcome),
        (Kind::Unavailable, Outcome::Unknown)
    );
    diary.wait_for("Down").await;
    let told = diary.take();
    for line in [
        "Up",
        "Ejected",
        "/etcdserverpb.KV/Put #1: Unavailable Unknown",
        "/etcdserverpb.KV/Put in 1: Unavailable Unknown",
    ] {
        assert!(told.iter().any(|told| told == line), "{line}: {told:?}");
    }
    fake.stop();
    let short = client.with_deadline(Duration::from_millis(300));
    eventually("a call that found nobody", async || {
        short.put("k", "v").await.expect_err("there is nobody");
        let told = diary.take();
        let failed = told.iter().any(|line| line == "DialFailed");
        let call = "/etcdserverpb.KV/Put in 0: Unavailable NotApplied";
        (failed && told.iter().any(|line| line == call)).then_some(())
    })
    .await;
}
