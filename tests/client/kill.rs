//! kill -9 and restart under the calls of a client that goes on: what it was told of each write is true. An answered write is
//! there with its revision, one that was NotApplied is not, one that is Unknown may be, and none is there twice.

use std::collections::HashMap;
use std::env;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use keystead_client::{Client, Compare, KeyRange, KeyValue, Op, Outcome, Put, Scan, Txn};
use keystead_tests::Server;

use super::{client, on_each};

const KILLS: usize = 6;
const LONG_KILLS: usize = 60;
const WRITERS: usize = 8;
/// So many writes are answered between two kills.
const WRITES: usize = 60;

/// How a write ended: the revision it was given, or the outcome of its error.
type Ending = Result<i64, Outcome>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_calls_makes_no_outcome_a_lie() {
    let long = env::var_os("KEYSTEAD_TEST_LONG").is_some();
    on_each(async |server| {
        let kills = if long { LONG_KILLS } else { KILLS };
        let endings = write_and_kill(server, kills).await;
        let stored = read_all(&client(server)).await;
        let count = |of: fn(&Ending) -> bool| endings.values().filter(|ending| of(ending)).count();
        println!(
            "{:?}: {} answered, {} unknown, {} not applied",
            server.kind(),
            count(Result::is_ok),
            count(|ending| *ending == Err(Outcome::Unknown)),
            count(|ending| *ending == Err(Outcome::NotApplied)),
        );
        assert!(
            count(Result::is_ok) >= kills * WRITES,
            "the load was no load"
        );
        for (key, ending) in &endings {
            judge(key, ending, stored.get(key));
            let twin = stored.get(&format!("{key}-twin"));
            let revision = |kv: &KeyValue| kv.mod_revision;
            assert_eq!(
                twin.map(revision),
                stored.get(key).filter(|_| is_txn(key)).map(revision),
                "{key}: a transaction is there whole or not at all"
            );
        }
    })
    .await;
}

fn judge(key: &str, ending: &Ending, stored: Option<&KeyValue>) {
    let honest = match ending {
        Ok(revision) => stored.is_some_and(|kv| kv.mod_revision == *revision),
        Err(Outcome::NotApplied) => stored.is_none(),
        Err(Outcome::Unknown) => true,
        Err(Outcome::Applied) => false,
    };
    let once = stored.is_none_or(|kv| kv.version == 1);
    assert!(honest && once, "{key}: {ending:?}, stored {stored:?}");
}

fn is_txn(key: &str) -> bool {
    key.starts_with("txn/")
}

async fn write_and_kill(server: &mut Server, kills: usize) -> HashMap<String, Ending> {
    let client = client(server);
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let writer = async |writer: usize| {
        let mut endings = Vec::new();
        while !stop.load(Relaxed) {
            let kind = if writer.is_multiple_of(2) {
                "put"
            } else {
                "txn"
            };
            let key = format!("{kind}/{writer}/{}", endings.len());
            let ending = write(&client, &key).await;
            answered.fetch_add(usize::from(ending.is_ok()), Relaxed);
            endings.push((key, ending));
        }
        endings
    };
    let killer = async {
        for kill in 1..=kills {
            while answered.load(Relaxed) < kill * WRITES {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            server.kill();
            server.restart().await;
        }
        // The client has found it again when a last write is answered.
        let enough = answered.load(Relaxed) + 1;
        while answered.load(Relaxed) < enough {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.store(true, Relaxed);
    };
    let writers = futures::future::join_all((0..WRITERS).map(writer));
    let (endings, ()) = tokio::join!(writers, killer);
    endings.into_iter().flatten().collect()
}

async fn write(client: &Client, key: &str) -> Ending {
    let answer = if is_txn(key) {
        let put = |key: String| Op::Put(Put::new(key, "v"));
        let txn = Txn::when([Compare::missing(key.to_owned())])
            .then([put(key.to_owned()), put(format!("{key}-twin"))]);
        client.txn(txn).await.map(|done| {
            assert!(done.succeeded, "{key} was there: it was sent twice");
            done.header.revision
        })
    } else {
        client
            .put(key.to_owned(), "v")
            .await
            .map(|put| put.header.revision)
    };
    answer.map_err(|error| error.outcome)
}

async fn read_all(client: &Client) -> HashMap<String, KeyValue> {
    let mut stored = HashMap::new();
    let mut scan = client.scan(Scan::new(KeyRange::all()));
    while let Some(kv) = scan.next().await.expect("it runs") {
        stored.insert(String::from_utf8_lossy(&kv.key).into_owned(), kv);
    }
    stored
}
