//! A member's socket file, in place of a port.

use std::time::Duration;

use keystead_client::{Client, ConnectOptions, KeyRange, Notice, Watch};
use keystead_tests::Server;
use tokio::time::timeout;

use super::{PATIENCE, SERVERS};

#[tokio::test]
async fn a_socket_file_is_as_good_as_a_port_through_a_kill_and_a_restart() {
    for kind in SERVERS {
        let Some(mut server) = Server::prepare(kind, &[], &[]) else {
            println!("skipped on {kind:?}: there is none");
            continue;
        };
        let file = server.directory().join("client.sock");
        let both = format!("http://{},unix://{}", server.address(), file.display());
        server.set_flag("--listen-client-urls", &both);
        server.restart().await;

        let url = format!("unix://{}", file.display());
        let client = Client::connect(ConnectOptions::new([url])).await;
        let client = client.expect("it listens there").with_deadline(PATIENCE);
        let watch = Watch::new(KeyRange::prefix("k"));
        let watcher = client.watch(watch).await.expect("a watch");
        client.put("k", "1").await.expect("written");
        let lock = client.lock("lock").with_ttl(Duration::from_secs(60));
        let guard = lock.lock().await.expect("it is free");
        server.kill();
        server.restart().await;
        guard.put("k", "2").await.expect("the lock is held still");
        guard.unlock().await.expect("it is held");
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let next = timeout(PATIENCE, watcher.next()).await.expect("in time");
            if let Some(Notice::Events { events, .. }) = next.expect("it goes on") {
                seen.extend(events.into_iter().map(|event| event.kv.value));
            }
        }
        assert_eq!(seen, ["1", "2"], "{kind:?}");
        let stored = client.get("k").await.expect("a read").expect("it is there");
        assert_eq!(stored.version, 2);
    }
}
