//! Stm: what a function reads and writes happens as if nobody else were there, or not at all.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use keystead_client::{Client, Error, Isolation, KeyRange, Kind, Op, Put, Range, Stm, Txn};

use super::{client, on_each};

fn number(value: Option<impl AsRef<[u8]>>) -> i64 {
    let text = value.map(|value| String::from_utf8_lossy(value.as_ref()).into_owned());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

const ACCOUNTS: i64 = 5;
const BALANCE: i64 = 100;

async fn transfer(client: Client, from: i64, to: i64) -> Result<(), Error> {
    let work = |stm: Stm| async move {
        let name = |account: i64| format!("account/{account}");
        let (left, right) = (stm.get(name(from)).await?, stm.get(name(to)).await?);
        stm.put(name(from), (number(left) - 1).to_string());
        stm.put(name(to), (number(right) + 1).to_string());
        Ok(())
    };
    client.stm(Isolation::default(), work).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_from_many_tasks_keep_the_sum() {
    const TASKS: i64 = 6;
    const TRANSFERS: i64 = 15;
    on_each(async |server| {
        let client = client(server);
        let begin = (0..ACCOUNTS)
            .map(|account| Op::Put(Put::new(format!("account/{account}"), BALANCE.to_string())));
        client.txn(Txn::when([]).then(begin)).await.expect("a txn");
        let tasks = (0..TASKS).map(|task| {
            let client = client.clone();
            // It can be spawned: the future may move between threads.
            tokio::spawn(async move {
                for turn in 0..TRANSFERS {
                    let from = (task + turn) % ACCOUNTS;
                    let to = (from + 1 + turn % (ACCOUNTS - 1)) % ACCOUNTS;
                    transfer(client.clone(), from, to)
                        .await
                        .expect("it is made in the end");
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("no task panics");
        }
        let all = client.range(Range::new(KeyRange::prefix("account/"))).await;
        let all = all.expect("a range").kvs;
        let sum: i64 = all.iter().map(|kv| number(Some(&kv.value))).sum();
        let versions: i64 = all.iter().map(|kv| kv.version).sum();
        assert_eq!(sum, ACCOUNTS * BALANCE);
        // Two accounts a transfer: none was lost, none was made twice.
        assert_eq!(versions, ACCOUNTS + 2 * TASKS * TRANSFERS);
    })
    .await;
}

#[tokio::test]
async fn a_run_sees_its_own_writes_and_one_revision_of_all_others() {
    on_each(async |server| {
        let client = client(server);
        for key in ["r/a", "r/b", "r/c"] {
            client.put(key, "old").await.expect("a put");
        }
        let runs = AtomicUsize::new(0);
        let (client, runs) = (&client, &runs);
        let work = |stm: Stm| async move {
            let run = runs.fetch_add(1, Relaxed);
            let first = stm.get("r/a").await?;
            if run == 0 {
                client.put("r/b", "new").await?;
                assert_eq!(stm.get("r/b").await?, Some("old".into()));
            }
            assert_eq!(first, stm.get("r/a").await?);
            stm.put("r/a", "mine");
            stm.delete("r/c");
            stm.put("r/d", "added");
            assert_eq!(stm.get("r/a").await?, Some("mine".into()));
            assert_eq!(stm.get("r/c").await?, None);
            let seen = stm.range(KeyRange::prefix("r/")).await?;
            let keys: Vec<_> = seen.iter().map(|(key, _)| &key[..]).collect();
            assert_eq!(keys, [b"r/a", b"r/b", b"r/d"]);
            assert_eq!(seen[0].1, "mine");
            Ok::<(), Error>(())
        };
        client
            .stm(Isolation::default(), work)
            .await
            .expect("the second run");
        assert_eq!(
            runs.load(Relaxed),
            2,
            "what it had read was changed meanwhile"
        );
    })
    .await;
}

/// What somebody else does to a range that was read.
async fn disturb(client: &Client, how: &str) {
    match how {
        "a key is added" => drop(client.put("r/b", "new").await.expect("a put")),
        "a key is removed" => drop(client.delete("r/a").await.expect("a delete")),
        "a key is changed" => drop(client.put("r/a", "new").await.expect("a put")),
        "what is written was changed" => drop(client.put("out", "new").await.expect("a put")),
        _ => drop(client.put("elsewhere", "new").await.expect("a put")),
    }
}

#[tokio::test]
async fn whatever_changes_what_a_run_saw_makes_it_run_again() {
    on_each(async |server| {
        let client = client(server);
        for (how, isolation, expected) in [
            ("a key is added", Isolation::SerializableSnapshot, 2),
            ("a key is removed", Isolation::SerializableSnapshot, 2),
            ("a key is changed", Isolation::SerializableSnapshot, 2),
            (
                "what is written was changed",
                Isolation::SerializableSnapshot,
                2,
            ),
            (
                "nothing of it is changed",
                Isolation::SerializableSnapshot,
                1,
            ),
            ("a key is removed", Isolation::Serializable, 2),
            ("what is written was changed", Isolation::Serializable, 1),
            ("a key is changed", Isolation::RepeatableReads, 2),
            ("a key is changed", Isolation::ReadCommitted, 1),
        ] {
            client.delete("r/b").await.expect("a delete");
            client.put("r/a", "1").await.expect("a put");
            let runs = AtomicUsize::new(0);
            let (client, runs) = (&client, &runs);
            let work = |stm: Stm| async move {
                stm.range(KeyRange::prefix("r/")).await?;
                if runs.fetch_add(1, Relaxed) == 0 {
                    disturb(client, how).await;
                }
                stm.put("out", "1");
                Ok::<(), Error>(())
            };
            client.stm(isolation, work).await.expect("it is made");
            assert_eq!(runs.load(Relaxed), expected, "{how}, {isolation:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_run_that_fails_writes_nothing_and_one_that_never_wins_ends() {
    on_each(async |server| {
        let client = &client(server);
        let failing = |stm: Stm| async move {
            stm.put("k", "1");
            client.put("", "no key").await.map(drop)
        };
        let failed = client.stm(Isolation::default(), failing).await;
        assert_eq!(failed.expect_err("it failed").kind, Kind::InvalidArgument);
        assert_eq!(client.get("k").await, Ok(None));
        let losing = |stm: Stm| async move {
            stm.get("hot").await?;
            client.put("hot", "again").await?;
            stm.put("k", "1");
            Ok::<(), Error>(())
        };
        let loser = client.stm(Isolation::default(), losing).await;
        assert_eq!(loser.expect_err("it never wins").kind, Kind::CompareFailed);
        assert_eq!(client.get("k").await, Ok(None));
    })
    .await;
}
