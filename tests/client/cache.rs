//! Caches: in step with the store, through restarts and compaction, and never behind what was written before they are asked.

use std::collections::BTreeMap;

use futures::future::join_all;
use keystead_client::{
    Cache, CacheNotice, Client, Compact, EventKind, KeyRange, Op, Put, Range, Txn,
};
use keystead_tests::Server;
use tokio::time::timeout;

use super::{PATIENCE, eventually, on_each};

fn connect(server: &Server) -> Client {
    super::client(server).with_deadline(PATIENCE)
}

/// The cache has what the store has, now.
async fn agrees(cache: &Cache, client: &Client) {
    cache.sync().await.expect("it gets there");
    let view = cache.range(cache.keys().clone()).expect("it goes on");
    let at_that_time = Range {
        revision: view.revision,
        ..Range::new(cache.keys().clone())
    };
    let read = client.range(at_that_time).await.expect("a read");
    assert_eq!(view.kvs, read.kvs, "at {}", view.revision);
}

#[tokio::test]
async fn what_was_written_by_anybody_before_is_read_after_a_sync() {
    const ROUNDS: usize = 30;
    on_each(async |server| {
        let (client, other) = (connect(server), connect(server));
        client.put("config/before", "there").await.expect("written");
        let cache = client.cache(KeyRange::prefix("config/")).await;
        let cache = cache.expect("it has the state");
        assert!(cache.get("config/before").expect("kept").is_some());
        for round in 0..ROUNDS {
            let value = round.to_string();
            other.put("config/a", value.clone()).await.expect("written");
            cache.sync().await.expect("it gets there");
            let read = cache.get("config/a").expect("kept").expect("written");
            assert_eq!(read.value, value);
            // What happens elsewhere moves the store on, and the cache with it.
            let done = other.put("elsewhere", value).await.expect("written");
            let revision = done.header.revision;
            assert!(cache.sync().await.expect("it gets there") >= revision);
            assert!(cache.lag().revision >= revision);
        }
        other.delete("config/a").await.expect("deleted");
        cache.sync().await.expect("it gets there");
        assert_eq!(cache.get("config/a").expect("kept"), None);
        assert_eq!(cache.len().expect("kept"), 1);
        agrees(&cache, &other).await;
    })
    .await;
}

#[tokio::test]
async fn readers_see_no_half_of_a_transaction_and_never_an_older_state_than_before() {
    const ROUNDS: usize = 100;
    on_each(async |server| {
        let (client, other) = (connect(server), connect(server));
        let cache = client.cache(KeyRange::prefix("pair/")).await;
        let cache = cache.expect("it has the state");
        let write = async {
            for round in 0..ROUNDS {
                let put = |key: &'static str| Op::Put(Put::new(key, round.to_string()));
                let both = Txn::when([]).then([put("pair/a"), put("pair/b")]);
                other.txn(both).await.expect("written");
            }
        };
        let readers = join_all((0..4).map(async |_| {
            let mut newest = 0;
            loop {
                let revision = cache.sync().await.expect("it gets there");
                assert!(revision >= newest);
                newest = revision;
                let view = cache.range(cache.keys().clone()).expect("kept");
                assert!(view.revision >= revision);
                let values: Vec<_> = view.kvs.iter().map(|kv| kv.value.clone()).collect();
                match &values[..] {
                    [] => {}
                    [one, other] => {
                        assert_eq!(one, other);
                        if *one == (ROUNDS - 1).to_string() {
                            return;
                        }
                    }
                    half => panic!("{half:?}"),
                }
            }
        }));
        let (_, ()) = tokio::join!(readers, write);
    })
    .await;
}

#[tokio::test]
async fn a_cache_and_its_subscribers_survive_a_kill_and_a_compaction_of_what_they_missed() {
    on_each(async |server| {
        let (client, other) = (connect(server), connect(server));
        for key in ["a", "b", "c"] {
            client.put(format!("k/{key}"), "1").await.expect("written");
        }
        let cache = client.cache(KeyRange::prefix("k/")).await;
        let cache = cache.expect("it has the state");
        let subscription = cache.subscribe();
        let mut copy = BTreeMap::new();
        let mut follow = async || {
            let next = timeout(PATIENCE, subscription.next()).await;
            let next = next.expect("there is news").expect("the cache goes on");
            match next.expect("nobody has cancelled it") {
                CacheNotice::State(view) => {
                    copy = view.kvs.into_iter().map(|kv| (kv.key, kv.value)).collect();
                }
                CacheNotice::Changes { events, .. } => {
                    for event in events {
                        match event.kind {
                            EventKind::Put => {
                                copy.insert(event.kv.key, event.kv.value);
                            }
                            EventKind::Delete => {
                                copy.remove(&event.kv.key);
                            }
                        }
                    }
                }
                other => panic!("{other:?}"),
            }
            copy.clone()
        };
        assert_eq!(follow().await.len(), 3);
        server.kill();
        eventually("the loss", async || (!cache.lag().connected).then_some(())).await;
        assert_eq!(cache.len().expect("it serves what it has"), 3);
        server.restart().await;
        other.delete("k/b").await.expect("deleted");
        let newest = other.put("k/c", "2").await.expect("written");
        let compact = Compact {
            revision: newest.header.revision,
            physical: true,
        };
        other.compact(compact).await.expect("compacted");
        agrees(&cache, &other).await;
        // Whichever way it came to know: by the events, or by the state after the compaction.
        loop {
            let copy = follow().await;
            if copy.len() == 2 && copy.get(&b"k/c"[..]).is_some_and(|value| value == "2") {
                break;
            }
        }
    })
    .await;
}
