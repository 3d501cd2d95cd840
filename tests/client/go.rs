//! This client and Go's concurrency package in one queue.

use std::process::{Command, Stdio};

use futures::future::join_all;
use keystead_client::Client;
use keystead_tests::{Server, oracle};

use super::{client as connect, eventually, increment, keys_below, number, on_each};

const WORKERS: usize = 3;
const ROUNDS: usize = 20;

/// Runs Go's part of a contention on each server, and ours at the same time. Says so where there is no Go.
async fn beside_go(thing: &'static str, ours: impl AsyncFn(&mut Server)) {
    let Some(program) = oracle("concurrency") else {
        println!("skipped: there is no Go to build its client with");
        return;
    };
    on_each(async |server| {
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
        ours(server).await;
        let status = tokio::task::spawn_blocking(move || go.wait()).await;
        let status = status.expect("no panic").expect("it can be waited for");
        assert!(status.success(), "{status}");
    })
    .await;
}

/// Lets three workers of Go and three of ours add to a counter, each time while they hold `thing`.
async fn contend(thing: &'static str, counter: &'static str, round: impl AsyncFn(&Client)) {
    beside_go(thing, async |server| {
        let ours = (0..WORKERS).map(async |_| {
            let client = connect(server);
            for _ in 0..ROUNDS {
                round(&client).await;
            }
        });
        join_all(ours).await;
        let client = connect(server);
        // Go's are not all done when ours are.
        eventually("every count", async || {
            let counted = number(&client, counter).await;
            (counted == 2 * (WORKERS * ROUNDS) as u64).then_some(())
        })
        .await;
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

#[tokio::test]
async fn gos_rwmutex_and_our_rwlock_exclude_each_others_writers() {
    const COUNTER: &str = "contended/rwlock-counter";
    contend("rwlock", COUNTER, async |client| {
        let lock = client.rwlock("contended/rwlock");
        let reader = lock.read().await.expect("its turn");
        // While somebody reads nobody writes.
        let first = number(client, COUNTER).await;
        assert_eq!(number(client, COUNTER).await, first);
        reader.unlock().await.expect("it was held");
        let writer = lock.write().await.expect("its turn");
        increment(client, COUNTER).await;
        writer.unlock().await.expect("it was held");
    })
    .await;
}

#[tokio::test]
async fn every_item_of_a_queue_is_taken_once_by_go_or_by_us() {
    const TAKEN: &str = "contended/taken/";
    beside_go("queue", async |server| {
        join_all((0..WORKERS).map(async |worker| {
            let client = connect(server);
            let queue = client.queue("contended/queue");
            for round in 0..ROUNDS {
                let item = format!("rust-{worker}-{round}");
                queue.enqueue(item).await.expect("written");
                let item = queue.dequeue().await.expect("an item");
                let note = [TAKEN.as_bytes(), &item].concat();
                client.put(note, "").await.expect("written");
            }
        }))
        .await;
        let client = connect(server);
        // One that was taken twice would leave another one there.
        eventually("a note of every item", async || {
            let taken = keys_below(&client, TAKEN).await;
            (taken == 2 * (WORKERS * ROUNDS) as i64).then_some(())
        })
        .await;
        assert_eq!(keys_below(&client, "contended/queue/").await, 0);
    })
    .await;
}

#[tokio::test]
async fn go_waits_at_our_barrier_and_we_at_gos() {
    beside_go("barrier", async |server| {
        let client = connect(server);
        let own = client.barrier("contended/barrier-rust");
        assert!(own.hold().await.expect("set up"));
        // Go has seen it then.
        eventually("Go's barrier", async || {
            (keys_below(&client, "contended/barrier-go").await == 1).then_some(())
        })
        .await;
        let gos = client.barrier("contended/barrier-go");
        let waits = tokio::spawn(async move { gos.wait().await });
        client.put("something", "").await.expect("written");
        assert!(!waits.is_finished());
        assert!(own.release().await.expect("released"));
        waits.await.expect("no panic").expect("it goes on");
    })
    .await;
}
