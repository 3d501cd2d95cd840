//! Locks: they exclude, tell their loss, and leave nothing behind.

use std::time::Duration;

use futures::future::try_join_all;
use keystead_client::{Client, Compare, KeyRange, Kind, Op, Outcome, Put, Range, Txn};
use tokio::time::timeout;

use super::{client as connect, eventually, increment, keys_below, number, on_each};

async fn gone(client: &Client, prefix: &'static str) {
    eventually("every key to go", async || {
        (keys_below(client, prefix).await == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn tasks_of_one_client_and_of_others_exclude_each_other() {
    const ROUNDS: usize = 10;
    on_each(async |server| {
        let client = connect(server);
        // Two of them share a session, and so a key but for its suffix.
        let clients = [
            client.clone(),
            client.clone(),
            connect(server),
            connect(server),
        ];
        let workers = clients.len();
        let rounds = clients.map(|client| async move {
            let lock = client.lock("locks/counter");
            for _ in 0..ROUNDS {
                let guard = lock.lock().await?;
                increment(&client, "counter").await;
                guard.unlock().await?;
            }
            Ok::<_, keystead_client::Error>(())
        });
        try_join_all(rounds).await.expect("each has its turns");
        assert_eq!(number(&client, "counter").await, (workers * ROUNDS) as u64);
        assert_eq!(keys_below(&client, "locks/").await, 0);
    })
    .await;
}

#[tokio::test]
async fn fencing_tokens_rise_and_a_taken_lock_is_told_as_such() {
    on_each(async |server| {
        let client = connect(server);
        let other = connect(server);
        let guard = client.lock("locks/x").lock().await.expect("free");
        let lock = other.lock("locks/x");
        assert!(lock.try_lock().await.expect("an answer").is_none());
        let late = lock.lock_within(Duration::from_millis(200)).await;
        let error = late.err().expect("it is taken");
        assert_eq!(
            (error.kind, error.outcome),
            (Kind::DeadlineExceeded, Outcome::NotApplied)
        );
        let token = guard.fencing_token();
        guard.unlock().await.expect("unlocked");
        // The one that gave up may have a key for a moment yet.
        let next = eventually("the lock", async || {
            lock.try_lock().await.expect("an answer")
        })
        .await;
        assert!(next.fencing_token() > token);
    })
    .await;
}

#[tokio::test]
async fn whoever_lost_the_lock_writes_nothing_and_unlocks_nobody() {
    on_each(async |server| {
        let client = connect(server);
        let other = connect(server);
        let session = client
            .session(Duration::from_secs(30))
            .await
            .expect("granted");
        let stale = client.lock("locks/x").with_session(&session);
        let stale = stale.lock().await.expect("free");
        stale.put("data", "1").await.expect("it is held");
        // Behind the back of its session, whose lease stays.
        other.delete(stale.key().clone()).await.expect("deleted");
        let holder = other.lock("locks/x").lock().await.expect("free");
        assert!(stale.held(), "it cannot know yet");
        let write = || Op::Put(Put::new("data", "2"));
        let both = Txn::when([Compare::missing("data")])
            .then([write()])
            .otherwise([write()]);
        let error = stale.txn(both).await.expect_err("it is lost");
        assert_eq!(
            (error.kind, error.outcome),
            (Kind::LockLost, Outcome::NotApplied)
        );
        assert!(!stale.held());
        assert_eq!(
            stale.unlock().await.expect_err("it is lost").kind,
            Kind::LockLost
        );
        let data = client
            .get("data")
            .await
            .expect("a read")
            .expect("written once");
        assert_eq!(data.value, "1");
        holder.put("data", "3").await.expect("it is held still");
        holder.unlock().await.expect("it was held");
    })
    .await;
}

#[tokio::test]
async fn a_guarded_txn_takes_127_operations_and_tells_its_own_compare_from_the_guards() {
    on_each(async |server| {
        let client = connect(server);
        let guard = client.lock("locks/x").lock().await.expect("free");
        let many = |count| (0..count).map(|n| Op::Put(Put::new(format!("many/{n}"), "v")));
        let done = guard
            .txn(Txn::when([]).then(many(127)))
            .await
            .expect("it is held");
        assert!(done.succeeded && done.results.len() == 127 && done.header.revision > 0);
        let error = guard
            .txn(Txn::when([]).then(many(128)))
            .await
            .expect_err("too many");
        assert_eq!(error.kind, Kind::InvalidArgument);
        let failed = Txn::when([Compare::missing("many/0")])
            .then([Op::Put(Put::new("a", "v"))])
            .otherwise([Op::Range(Range::new(KeyRange::key("many/0")))]);
        let done = guard.txn(failed).await.expect("it is held");
        assert!(!done.succeeded && done.results.len() == 1);
        assert!(guard.held());
    })
    .await;
}

#[tokio::test]
async fn whose_lease_ends_while_it_waits_never_holds_the_lock() {
    on_each(async |server| {
        let client = connect(server);
        let other = connect(server);
        let holder = client.lock("locks/x").lock().await.expect("free");
        let session = other
            .session(Duration::from_secs(30))
            .await
            .expect("granted");
        let lock = other.lock("locks/x").with_session(&session);
        let waits = tokio::spawn(async move { lock.lock().await.map(|_| ()) });
        eventually("the second in the queue", async || {
            (keys_below(&client, "locks/x/").await == 2).then_some(())
        })
        .await;
        client.revoke(session.lease()).await.expect("revoked");
        holder.unlock().await.expect("it was held");
        let error = waits.await.expect("no panic").expect_err("its lease ended");
        assert!(
            matches!(error.kind, Kind::LockLost | Kind::LeaseNotFound),
            "{error}"
        );
        assert_eq!(keys_below(&client, "locks/").await, 0);
    })
    .await;
}

#[tokio::test]
async fn acquisitions_that_are_given_up_at_any_moment_leave_no_key() {
    on_each(async |server| {
        let client = connect(server);
        let other = connect(server);
        let lock = other.lock("locks/x");
        let holder = client.lock("locks/x").lock().await.expect("free");
        for micros in (0..6_000).step_by(100) {
            let given_up = timeout(Duration::from_micros(micros), lock.lock()).await;
            assert!(given_up.is_err(), "another one has it");
        }
        holder.unlock().await.expect("it was held");
        gone(&client, "locks/").await;
        for micros in (0..6_000).step_by(100) {
            // It is free now: in time or not, it is dropped.
            let _ = timeout(Duration::from_micros(micros), lock.lock()).await;
        }
        gone(&client, "locks/").await;
        drop((lock, other));
        // One client is left with its shared session.
        eventually("the other's lease to go", async || {
            (client.leases().await.expect("a list").len() == 1).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_lock_outlives_a_kill_of_the_server_and_goes_on_to_the_next() {
    on_each(async |server| {
        let client = connect(server);
        let other = connect(server);
        let guard = client.lock("locks/x").lock().await.expect("free");
        let waits = tokio::spawn(async move {
            other
                .lock("locks/x")
                .lock()
                .await
                .map(|guard| (other, guard))
        });
        eventually("the second in the queue", async || {
            (keys_below(&client, "locks/x/").await == 2).then_some(())
        })
        .await;
        server.kill();
        server.restart().await;
        guard.put("data", "1").await.expect("it is held");
        let token = guard.fencing_token();
        drop(guard);
        let (_other, next) = waits.await.expect("no panic").expect("it is its turn");
        assert!(next.fencing_token() > token);
        next.put("data", "2").await.expect("it is held");
    })
    .await;
}

#[tokio::test]
async fn a_namespace_holds_for_locks_too() {
    on_each(async |server| {
        let client = connect(server);
        let tenant = client.namespace("tenant/");
        let guard = tenant.lock("locks/x").lock().await.expect("free");
        assert!(guard.key().starts_with(b"locks/x/"));
        assert_eq!(keys_below(&client, "tenant/locks/x/").await, 1);
        guard.put("data", "v").await.expect("it is held");
        assert_eq!(keys_below(&client, "tenant/data").await, 1);
        // Another tenant's lock of the same name is another lock.
        let free = client.namespace("other/").lock("locks/x").try_lock().await;
        assert!(free.expect("an answer").is_some());
        drop(guard);
        gone(&client, "tenant/locks/").await;
    })
    .await;
}
