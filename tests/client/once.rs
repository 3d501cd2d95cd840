//! Transactions that run exactly once: answers are lost on the way, members are killed, leases end, and each has run once or is told as what
//! nobody can know.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::future::{join, join_all};
use keystead_client::{Client, Compare, KeyRange, Kind, Op, OpResult, Outcome, Put, Range, Txn};
use tokio::time::timeout;

use super::relay::{Mode, Relay};
use super::{PATIENCE, client, client_of, eventually, keys_below, on_each};

/// A write that shows how often it was done: by the version of its key.
fn mark(key: &'static str) -> Txn {
    Txn::when([]).then([Op::Put(Put::new(key, "once"))])
}

async fn version(client: &Client, key: &'static str) -> i64 {
    let kv = client.get(key).await.expect("a read");
    kv.map_or(0, |kv| kv.version)
}

/// A way to `server` and a patient client that goes it.
async fn way(server: &keystead_tests::Server) -> (Relay, Client) {
    let relay = Relay::before(server.address()).await;
    let through = client_of([relay.address()]).with_deadline(PATIENCE);
    (relay, through)
}

#[tokio::test]
async fn a_transaction_whose_answer_is_lost_fifty_times_over_is_applied_exactly_fifty_times() {
    const TIMES: i64 = 50;
    on_each(async |server| {
        let direct = client(server);
        let (relay, through) = way(server).await;
        for time in 1..=TIMES {
            let holds = time % 2 == 1;
            let compare = if holds {
                Compare::missing("never")
            } else {
                Compare::present("never")
            };
            let txn = Txn {
                otherwise: mark("k").then,
                ..Txn::when([compare]).then(mark("k").then)
            };
            let once = through.once(txn);
            // The slot and the connection are there before the answer is lost.
            through.once(mark("other")).run().await.expect("it runs");
            relay.set(Mode::Deafen);
            let lose = async {
                eventually("it is applied", async || {
                    (version(&direct, "k").await >= time).then_some(())
                })
                .await;
                relay.set(Mode::Open);
                relay.break_connections();
            };
            let (ran, ()) = join(once.run(), lose).await;
            let ran = ran.expect("it is known in the end");
            let now = direct.get("k").await.expect("a read").expect("written");
            assert_eq!(
                (ran.header.revision, ran.succeeded, now.version),
                (now.mod_revision, holds, time),
            );
            let results = ran.results.expect("a put answers nothing");
            assert!(
                matches!(&results[..], [OpResult::Put(put)] if put.header.revision == now.mod_revision),
                "{results:?}"
            );
            assert_eq!(once.run().await.expect("it is known").header, ran.header);
        }
        assert_eq!(version(&direct, "k").await, TIMES);
        // One after the other they need one slot.
        assert_eq!(keys_below(&direct, "__once/").await, 1);
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_arrives_is_that_of_an_ordinary_transaction() {
    on_each(async |server| {
        let client = client(server).namespace("app/");
        client.put("a", "1").await.expect("a put");
        let txn = Txn::when([Compare::present("a")])
            .then([
                Op::Range(Range::new(KeyRange::key("a"))),
                Op::Put(Put {
                    prev_kv: true,
                    ..Put::new("a", "2")
                }),
            ])
            .otherwise([]);
        let ran = client.once(txn).run().await.expect("it runs");
        let results = ran.results.expect("the answer has come");
        let [OpResult::Range(read), OpResult::Put(put)] = &results[..] else {
            panic!("{results:?}");
        };
        assert_eq!(read.kvs[0].value, "1");
        assert_eq!(put.prev_kv.as_ref().expect("it was there").key, "a");
        let written = client.get("a").await.expect("a read").expect("it is there");
        assert_eq!(
            (&written.value[..], written.mod_revision),
            (&b"2"[..], ran.header.revision)
        );

        let too_many = vec![Op::Range(Range::new(KeyRange::key("a"))); 127];
        let refused = client.once(Txn::when([]).then(too_many)).run().await;
        assert_eq!(refused.expect_err("too many").kind, Kind::InvalidArgument);
        let most = vec![Op::Range(Range::new(KeyRange::key("a"))); 126];
        let ran = client.once(Txn::when([]).then(most)).run().await;
        assert_eq!(
            ran.expect("as many as it takes")
                .results
                .expect("all")
                .len(),
            126
        );
        let twice = Txn::when([]).then([mark("k").then, mark("k").then].concat());
        let refused = client.once(twice).run().await.expect_err("one key twice");
        assert_eq!(
            (refused.kind, refused.outcome),
            (Kind::InvalidArgument, Outcome::NotApplied)
        );
    })
    .await;
}

#[tokio::test]
async fn more_than_there_are_slots_run_all_and_leave_nothing_behind() {
    const ALL: i64 = 300;
    on_each(async |server| {
        let direct = client(server);
        let another = client(server).with_deadline(PATIENCE);
        let runs = (0..ALL).map(|_| async { another.once(mark("k")).run().await });
        let revisions = join_all(runs).await.into_iter();
        let revisions = revisions.map(|ran| ran.expect("it runs").header.revision);
        let distinct: std::collections::BTreeSet<i64> = revisions.collect();
        assert_eq!(distinct.len() as i64, ALL, "each has its own revision");
        assert_eq!(version(&direct, "k").await, ALL);
        assert!((1..=64).contains(&keys_below(&direct, "__once/").await));
        drop(another);
        eventually("the slots go with their client", async || {
            (keys_below(&direct, "__once/").await == 0).then_some(())
        })
        .await;
        assert_eq!(direct.leases().await.expect("a list"), [0; 0]);
    })
    .await;
}

#[tokio::test]
async fn what_nobody_can_know_any_more_is_told_and_never_runs_again() {
    on_each(async |server| {
        let direct = client(server);
        let (relay, through) = way(server).await;
        through.once(mark("other")).run().await.expect("it runs");
        let revoke = async || {
            for lease in direct.leases().await.expect("a list") {
                direct.revoke(lease).await.expect("it is there");
            }
        };
        // Nothing is in doubt: other slots are as good.
        revoke().await;
        through.once(mark("k")).run().await.expect("it runs");
        assert_eq!(version(&direct, "k").await, 1);

        let once = through.once(mark("k"));
        relay.set(Mode::Deafen);
        let lose = async {
            eventually("it is applied", async || {
                (version(&direct, "k").await == 2).then_some(())
            })
            .await;
            relay.set(Mode::Cut);
            revoke().await;
            relay.set(Mode::Open);
        };
        let (ran, ()) = join(once.run(), lose).await;
        for error in [ran, once.run().await] {
            let error = error.expect_err("nobody knows");
            assert_eq!(
                (error.kind, error.outcome, error.retryable),
                (Kind::LeaseNotFound, Outcome::Unknown, false)
            );
        }
        assert_eq!(version(&direct, "k").await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_run_that_ends_unknown_is_taken_up_again() {
    on_each(async |server| {
        let direct = client(server);
        let (relay, through) = way(server).await;
        through.once(mark("other")).run().await.expect("it runs");
        let once = through
            .with_deadline(Duration::from_millis(800))
            .once(mark("k"));
        relay.set(Mode::Deafen);
        let error = once.run().await.expect_err("no answer comes");
        assert_eq!((error.outcome, error.retryable), (Outcome::Unknown, true));
        // One that is dropped on its way is no other than one that failed.
        assert!(
            timeout(Duration::from_millis(50), once.run())
                .await
                .is_err()
        );
        relay.set(Mode::Open);
        relay.break_connections();
        let ran = timeout(PATIENCE, async {
            loop {
                match once.run().await {
                    Err(error) if error.retryable => continue,
                    ran => return ran,
                }
            }
        });
        let ran = ran.await.expect("in time").expect("it is known");
        let now = direct.get("k").await.expect("a read").expect("written");
        assert_eq!((now.version, now.mod_revision), (1, ran.header.revision));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_transactions_makes_none_run_twice() {
    const WRITERS: usize = 8;
    const KILLS: usize = 3;
    /// So many are answered between two kills.
    const ANSWERS: usize = 40;
    on_each(async |server| {
        let writing = client(server).with_deadline(PATIENCE);
        let answered = AtomicUsize::new(0);
        let writer = async |_| {
            while answered.load(Relaxed) < ANSWERS * (KILLS + 1) {
                writing.once(mark("k")).run().await.expect("it runs");
                answered.fetch_add(1, Relaxed);
            }
        };
        let killer = async {
            for kill in 1..=KILLS {
                eventually("answers", async || {
                    (answered.load(Relaxed) >= kill * ANSWERS).then_some(())
                })
                .await;
                server.kill();
                server.restart().await;
            }
        };
        join(join_all((0..WRITERS).map(writer)), killer).await;
        let ran = version(&client(server), "k").await;
        assert_eq!(ran, answered.load(Relaxed) as i64);
    })
    .await;
}
