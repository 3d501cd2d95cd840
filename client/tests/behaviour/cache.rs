//! Caches over watches that the test plays: whole revisions, gaps, restores, and reads that wait for what they must have.

use std::time::Duration;

use futures::future::join_all;
use keystead_client::{
    Cache, CacheNotice, CacheOptions, Client, Event, EventKind, KeyRange, Kind, Subscription,
};
use keystead_proto::etcdserverpb::WatchResponse;
use keystead_proto::etcdserverpb::watch_request::RequestUnion;
use tokio::time::timeout;

use crate::member::eventually;
use crate::puppet::{LIMIT, Puppet, Stream, kv};

fn client(puppet: &Puppet) -> Client {
    let client = Client::lazy(puppet.options()).expect("the URL is right");
    client.with_deadline(LIMIT)
}

/// Makes a cache of all keys and answers the creation of its watch.
async fn begin(puppet: &mut Puppet) -> (Cache, Stream) {
    begin_with(puppet, CacheOptions::new(KeyRange::all())).await
}

async fn begin_with(puppet: &mut Puppet, options: CacheOptions) -> (Cache, Stream) {
    let client = client(puppet);
    let (cache, stream) = tokio::join!(client.cache_with(options), async {
        let mut stream = puppet.stream().await;
        stream.create_one().await;
        stream
    });
    (cache.expect("it has the state"), stream)
}

/// The keys of the cache with their revisions, and the revision of all.
fn held(cache: &Cache) -> String {
    let view = cache.range(KeyRange::all()).expect("it goes on");
    let kvs = view.kvs.iter().map(|kv| {
        let key = String::from_utf8_lossy(&kv.key);
        format!("{key}@{}", kv.mod_revision)
    });
    let kvs = kvs.collect::<Vec<_>>().join(" ");
    format!("{}: {kvs}", view.revision)
}

async fn holds(cache: &Cache, expected: &str) {
    eventually(expected, async || (held(cache) == expected).then_some(())).await;
}

fn change(event: &Event) -> String {
    let key = String::from_utf8_lossy(&event.kv.key);
    let sign = match event.kind {
        EventKind::Put => "+",
        EventKind::Delete => "-",
    };
    let before = event.prev_kv.as_ref().map_or(0, |kv| kv.mod_revision);
    format!("{sign}{key}@{} was {before}", event.kv.mod_revision)
}

/// The next thing that a subscriber is told, in a few words.
async fn told(subscription: &Subscription) -> String {
    let next = timeout(LIMIT, subscription.next()).await;
    let next = next.expect("there is news").expect("the cache goes on");
    match next.expect("nobody has cancelled it") {
        CacheNotice::State(view) => format!("{}: {} keys", view.revision, view.kvs.len()),
        CacheNotice::Changes { revision, events } => {
            let events = events.iter().map(change).collect::<Vec<_>>().join(", ");
            format!("{revision}: {events}")
        }
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn a_cache_holds_the_state_and_then_whole_revisions() {
    let mut puppet = Puppet::start().await;
    puppet.set(|store| store.kvs = vec![kv("a", 4), kv("b", 7)]);
    let (cache, stream) = begin(&mut puppet).await;
    assert_eq!(held(&cache), "10: a@4 b@7");
    assert_eq!(cache.len().expect("it goes on"), 2);
    assert_eq!(cache.get("a").expect("kept"), Some(kv("a", 4)));
    assert_eq!(cache.get("c").expect("kept"), None);

    // One revision in two messages is seen when it is whole.
    stream.fragment(1, &[("a", 11)]);
    stream.puts(1, &[("c", 11)]);
    holds(&cache, "11: a@11 b@7 c@11").await;
    let within = cache.range(KeyRange::between("b", "c")).expect("kept");
    assert_eq!(within.kvs, [kv("b", 7)]);
    let nothing = cache.range(KeyRange::between("c", "b")).expect("kept");
    assert_eq!(nothing.kvs, []);
    assert!(cache.lag().connected && cache.lag().revision == 11);
}

#[tokio::test]
async fn what_is_not_kept_is_refused_and_not_said_to_be_missing() {
    let mut puppet = Puppet::start().await;
    let options = CacheOptions::new(KeyRange::prefix("a/"));
    let (cache, _stream) = begin_with(&mut puppet, options).await;
    assert_eq!(cache.get("a/k").expect("kept"), None);
    let error = cache.get("b/k").expect_err("it is not kept");
    assert_eq!(error.kind, Kind::InvalidArgument);
    let error = cache.range(KeyRange::all()).expect_err("it is not kept");
    assert_eq!(error.kind, Kind::InvalidArgument);
}

#[tokio::test]
async fn a_read_that_is_to_be_linearizable_waits_for_progress_which_it_asks_for() {
    let mut puppet = Puppet::start().await;
    let (cache, mut stream) = begin(&mut puppet).await;
    // Nothing has happened: the store's word is enough.
    assert_eq!(cache.sync().await.expect("it is there"), 10);
    // Somebody has written other keys.
    puppet.set(|store| store.revision = 15);
    let (synced, ()) = tokio::join!(cache.sync(), async {
        stream.asked_for_progress().await;
        assert_eq!(cache.lag().revision, 10, "nobody has said so yet");
        stream.progress();
    });
    assert_eq!(synced.expect("it got there"), 15);
}

#[tokio::test]
async fn a_read_that_is_to_be_linearizable_waits_for_the_event_on_its_way() {
    let mut puppet = Puppet::start().await;
    let (cache, stream) = begin(&mut puppet).await;
    puppet.set(|store| store.revision = 11);
    let mut sync = Box::pin(cache.sync());
    // However long the member takes, and however often it is asked.
    let early = timeout(Duration::from_millis(500), &mut sync).await;
    assert!(early.is_err(), "{early:?}");
    stream.puts(1, &[("a", 11)]);
    assert_eq!(sync.await.expect("it got there"), 11);
    assert_eq!(cache.get("a").expect("kept"), Some(kv("a", 11)));
}

#[tokio::test]
async fn many_who_want_to_read_at_once_share_the_stores_word() {
    const READERS: usize = 50;
    let mut puppet = Puppet::start().await;
    let (cache, _stream) = begin(&mut puppet).await;
    let before = puppet.reads();
    for done in join_all((0..READERS).map(|_| cache.sync())).await {
        assert_eq!(done.expect("it is there"), 10);
    }
    let reads = puppet.reads() - before;
    // The first asks for itself: it began before the others came.
    assert!((1..=2).contains(&reads), "{reads} reads");
    cache.sync().await.expect("it is there");
    assert_eq!(puppet.reads() - before, reads + 1, "the word was older");
}

#[tokio::test]
async fn who_comes_while_the_store_is_asked_does_not_take_the_answer_that_is_on_its_way() {
    let mut puppet = Puppet::start().await;
    let (cache, mut stream) = begin(&mut puppet).await;
    let before = puppet.reads();
    puppet.set(|store| store.slow = Duration::from_millis(300));
    let early = cache.sync();
    let late = async {
        eventually("the question", async || {
            (puppet.reads() > before).then_some(())
        })
        .await;
        // Somebody has written since, and knows it.
        puppet.set(|store| {
            store.revision = 11;
            store.slow = Duration::ZERO;
        });
        let asked = async {
            stream.asked_for_progress().await;
            stream.progress();
        };
        tokio::join!(cache.sync(), asked).0
    };
    let (early, late) = tokio::join!(early, late);
    assert_eq!(early.expect("it is there"), 10);
    assert_eq!(late.expect("it got there"), 11);
}

#[tokio::test]
async fn a_certain_revision_can_be_waited_for() {
    let mut puppet = Puppet::start().await;
    let (cache, mut stream) = begin(&mut puppet).await;
    cache.reach(10).await.expect("it is there");
    let (reached, ()) = tokio::join!(cache.reach(12), async {
        stream.asked_for_progress().await;
        stream.puts(1, &[("a", 11), ("b", 12)]);
    });
    reached.expect("it got there");
    assert_eq!(held(&cache), "12: a@11 b@12");
    let hurried = Client::lazy(puppet.options()).expect("the URL is right");
    let hurried = hurried.with_deadline(Duration::from_millis(200));
    let (cache, _other) = tokio::join!(hurried.cache(KeyRange::all()), async {
        let mut stream = puppet.stream().await;
        stream.create_one().await;
        stream
    });
    let error = cache.expect("in time").reach(99).await.expect_err("late");
    assert_eq!(error.kind, Kind::DeadlineExceeded);
}

#[tokio::test]
async fn a_cache_that_missed_history_takes_the_state_and_tells_what_differs() {
    let mut puppet = Puppet::start().await;
    puppet.set(|store| store.kvs = vec![kv("a", 4), kv("b", 7), kv("c", 8)]);
    let (cache, stream) = begin(&mut puppet).await;
    let subscription = cache.subscribe();
    assert_eq!(told(&subscription).await, "10: 3 keys");
    puppet.set(|store| {
        store.kvs = vec![kv("a", 4), kv("b", 20), kv("d", 21)];
        store.revision = 30;
        store.compacted = 25;
    });
    stream.compacted(1, 25);
    assert_eq!(
        told(&subscription).await,
        "30: +b@20 was 7, -c@30 was 8, +d@21 was 0"
    );
    assert_eq!(held(&cache), "30: a@4 b@20 d@21");
    // Its watch goes on from there, on a stream of its own.
    let mut again = puppet.stream().await;
    assert_eq!(again.create_one().await.start_revision, 31);
    again.puts(1, &[("a", 31)]);
    assert_eq!(told(&subscription).await, "31: +a@31 was 4");
}

#[tokio::test]
async fn a_cluster_that_was_restored_is_not_read_as_if_it_were_not() {
    let mut puppet = Puppet::start().await;
    puppet.set(|store| store.kvs = vec![kv("a", 4), kv("b", 7)]);
    let (cache, stream) = begin(&mut puppet).await;
    stream.puts(1, &[("c", 11)]);
    holds(&cache, "11: a@4 b@7 c@11").await;
    puppet.set(|store| {
        store.kvs = vec![kv("a", 4)];
        store.revision = 5;
    });
    // The store's word is lower than what the cache has: that is no reason to believe the cache.
    let mut sync = Box::pin(cache.sync());
    let early = timeout(Duration::from_millis(300), &mut sync).await;
    assert!(early.is_err(), "{early:?}");
    let (synced, ()) = tokio::join!(sync, async {
        stream.break_off();
        // The member that it comes back to is behind, and so is the cluster.
        let mut suspect = puppet.stream().await;
        suspect.create_one().await;
        let mut again = puppet.stream().await;
        assert_eq!(again.create_one().await.start_revision, 6);
    });
    assert_eq!(synced.expect("it has the state"), 5);
    assert_eq!(held(&cache), "5: a@4");
}

#[tokio::test]
async fn while_it_is_cut_off_a_cache_serves_what_it_has_and_says_how_old_that_is() {
    let mut puppet = Puppet::start().await;
    puppet.set(|store| store.kvs = vec![kv("a", 4)]);
    let (cache, stream) = begin(&mut puppet).await;
    stream.break_off();
    eventually("the loss", async || (!cache.lag().connected).then_some(())).await;
    let before = cache.lag().staleness;
    assert_eq!(held(&cache), "10: a@4");
    eventually("time to pass", async || {
        (cache.lag().staleness > before).then_some(())
    })
    .await;
    let mut again = puppet.stream().await;
    assert_eq!(again.create_one().await.start_revision, 11);
    eventually("the return", async || cache.lag().connected.then_some(())).await;
}

#[tokio::test]
async fn a_slow_subscriber_gets_the_state_anew_and_costs_a_bounded_amount() {
    let mut puppet = Puppet::start().await;
    let (cache, stream) = begin(&mut puppet).await;
    let (slow, quick) = (cache.subscribe(), cache.subscribe());
    assert_eq!(told(&slow).await, "10: 0 keys");
    assert_eq!(told(&quick).await, "10: 0 keys");
    let mut revision = 10;
    for _ in 0..11 {
        let puts: Vec<_> = (0..1_000).map(|put| ("a", revision + 1 + put)).collect();
        stream.puts(1, &puts);
        for put in &puts {
            let was = if put.1 == 11 { 0 } else { put.1 - 1 };
            assert_eq!(
                told(&quick).await,
                format!("{}: +a@{} was {was}", put.1, put.1)
            );
        }
        revision += 1_000;
    }
    // More than waits for anybody: what it missed is in the state.
    assert_eq!(told(&slow).await, "11010: 1 keys");
    stream.puts(1, &[("b", 11_011)]);
    assert_eq!(told(&slow).await, "11011: +b@11011 was 0");
    stream.puts(1, &[("b", 11_012), ("b", 11_013)]);
    cache.reach(11_013).await.expect("it comes");
    let batch = slow.next_batch(10).await.expect("it goes on");
    assert_eq!(batch.expect("nobody has cancelled it").len(), 2);
    let (ended, ()) = tokio::join!(slow.next(), async { slow.cancel() });
    assert_eq!(ended.expect("it goes on"), None);
    stream.puts(1, &[("b", 11_014)]);
    cache.reach(11_014).await.expect("it comes");
    assert_eq!(slow.next().await.expect("it goes on"), None);
}

#[tokio::test]
async fn a_cache_whose_keys_are_too_many_ends_and_says_so() {
    let mut puppet = Puppet::start().await;
    puppet.set(|store| store.kvs = vec![kv("a", 4)]);
    let options = CacheOptions {
        most_bytes: 600,
        ..CacheOptions::new(KeyRange::all())
    };
    let (cache, stream) = begin_with(&mut puppet, options.clone()).await;
    let subscription = cache.subscribe();
    assert_eq!(told(&subscription).await, "10: 1 keys");
    stream.puts(1, &[("b", 11), ("c", 12), ("d", 13), ("e", 14)]);
    eventually("the end", async || cache.len().is_err().then_some(())).await;
    for error in [
        cache.get("a").expect_err("it has ended"),
        cache.sync().await.expect_err("it has ended"),
        cache.reach(99).await.expect_err("it has ended"),
    ] {
        assert_eq!(error.kind, Kind::TooLarge, "{error}");
    }
    let ended = async {
        loop {
            if let Err(error) = subscription.next().await {
                return error;
            }
        }
    };
    let error = timeout(LIMIT, ended).await.expect("it ends");
    assert_eq!(error.kind, Kind::TooLarge);
    // A state that is too large is never held.
    puppet.set(|store| store.kvs = vec![kv("a", 4), kv("b", 5), kv("c", 6), kv("d", 7)]);
    let error = client(&puppet).cache_with(options).await.err();
    assert_eq!(error.expect("too large").kind, Kind::TooLarge);
}

#[tokio::test]
async fn a_watch_beside_it_that_waits_for_the_future_keeps_no_progress_back() {
    let mut puppet = Puppet::start().await;
    let client = client(&puppet);
    let beside = keystead_client::Watch {
        start_revision: 1_000,
        ..keystead_client::Watch::new(KeyRange::all())
    };
    let (beside, mut first) = tokio::join!(client.watch(beside), async {
        let mut stream = puppet.stream().await;
        stream.create_one().await;
        stream
    });
    let _beside = beside.expect("it was created");
    let (cache, mut second) = tokio::join!(client.cache(KeyRange::all()), async {
        let mut stream = puppet.stream().await;
        stream.create_one().await;
        stream
    });
    let cache = cache.expect("it has the state");
    puppet.set(|store| store.revision = 12);
    let (synced, ()) = tokio::join!(cache.sync(), async {
        second.asked_for_progress().await;
        second.progress();
    });
    assert_eq!(synced.expect("it got there"), 12);
    drop(cache);
    second.left().await;
    // The stream of the others is none of its business.
    first.say(WatchResponse {
        watch_id: 1,
        ..Default::default()
    });
    assert!(!matches!(
        timeout(Duration::from_millis(50), first.request()).await,
        Ok(Some(RequestUnion::CancelRequest(_)))
    ));
}

#[tokio::test]
async fn a_cache_that_is_closed_gives_its_keys_up_and_refuses_whoever_waits() {
    let mut puppet = Puppet::start().await;
    puppet.set(|store| store.kvs = vec![kv("a", 4)]);
    let (cache, mut stream) = begin(&mut puppet).await;
    let (clone, subscription) = (cache.clone(), cache.subscribe());
    assert_eq!(told(&subscription).await, "10: 1 keys");
    let (waiting, next) = tokio::join!(clone.reach(99), async {
        let next = tokio::join!(subscription.next(), async { cache.close() }).0;
        cache.close();
        next
    });
    for error in [
        waiting.expect_err("closed"),
        next.expect_err("closed"),
        clone.get("a").expect_err("closed"),
        clone.sync().await.expect_err("closed"),
    ] {
        assert_eq!(error.kind, Kind::Closed, "{error}");
    }
    let cancelled = async {
        while !matches!(
            stream.request().await,
            Some(RequestUnion::CancelRequest(_)) | None
        ) {}
    };
    timeout(LIMIT, cancelled).await.expect("its watch ends");
}

#[tokio::test]
async fn closing_the_client_ends_its_caches() {
    let mut puppet = Puppet::start().await;
    let client = client(&puppet);
    let (cache, _stream) = tokio::join!(client.cache(KeyRange::all()), async {
        let mut stream = puppet.stream().await;
        stream.create_one().await;
        stream
    });
    let cache = cache.expect("it has the state");
    client.close();
    eventually("the end", async || cache.len().is_err().then_some(())).await;
    assert_eq!(cache.get("a").expect_err("closed").kind, Kind::Closed);
}
