//! This client and Go's concurrency package in one queue.

use std::process::{Command, Stdio};

use futures::future::join_all;
use keystead_client::Client;
use keystead_tests::oracle;

use super::{client as connect, increment, number, on_each};

const WORKERS: usize = 3;
const ROUNDS: usize = 20;

/// Lets three workers of Go and three of ours add to a counter, each time while they hold `thing`.
async fn contend(thing: &'static str, counter: &'static str, round: impl AsyncFn(&Client)) {
    let Some(program) = oracle("concurrency") else {
        println!("skipped: there is no Go to build its client with");
        return;
    };
    on_each(async |server| {
        let client = connect(server);
        let endpoint = format!("http://{}", server.address());
        let mut go = Command::new(&program)
            .args(["-endpoint", &endpoint, "-contend", thing])
            .args([
                "-workers",
                &WORKERS.to_string(),
                "-rounds",
                &ROUNDS.to_string(),
            ])
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the Go program can be run");
        let ours = (0..WORKERS).map(async |_| {
            let client = connect(server);
            for _ in 0..ROUNDS {
                round(&client).await;
            }
        });
        join_all(ours).await;
        let status = tokio::task::spawn_blocking(move || go.wait()).await;
        let status = status.expect("no panic").expect("it can be waited for");
        assert!(status.success(), "{status}");
        assert_eq!(
            number(&client, counter).await,
            2 * (WORKERS * ROUNDS) as u64
        );
    })
    .await;
}

#[tokio::test]
async fn gos_mutex_and_our_lock_exclude_each_other() {
    const COUNTER: &str = "contended/lock-counter";
    contend("lock", COUNTER, async |client| {
        let guard = client
            .lock("contended/lock")
            .lock()
            .await
            .expect("its turn");
        increment(client, COUNTER).await;
        guard.unlock().await.expect("it was held");
    })
    .await;
}

#[tokio::test]
async fn gos_candidates_and_ours_lead_one_at_a_time() {
    const COUNTER: &str = "contended/election-counter";
    contend("election", COUNTER, async |client| {
        let election = client.election("contended/election");
        let leadership = election.campaign("rust").await.expect("its turn");
        increment(client, COUNTER).await;
        leadership.resign().await.expect("it led");
    })
    .await;
}
