//! The reader-writer lock, the semaphore, the barrier and the queue.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use keystead_client::KeyRange;

use super::{client as connect, eventually, increment, keys_below, number, on_each};

#[tokio::test]
async fn readers_share_writers_exclude_and_nobody_overtakes_a_waiting_writer() {
    on_each(async |server| {
        let client = connect(server);
        let lock = client.rwlock("locks/x");
        let first = lock.read().await.expect("free");
        let second = lock
            .try_read()
            .await
            .expect("an answer")
            .expect("readers share");
        assert!(first.key().starts_with(b"locks/x/read/"));
        assert!(lock.try_write().await.expect("an answer").is_none());
        let writer = tokio::spawn({
            let lock = lock.clone();
            async move { lock.write().await }
        });
        eventually("the writer in the queue", async || {
            (keys_below(&client, "locks/x/write/").await == 1).then_some(())
        })
        .await;
        assert!(lock.try_read().await.expect("an answer").is_none());
        first.unlock().await.expect("it was held");
        second.unlock().await.expect("it was held");
        let writer = writer.await.expect("no panic").expect("its turn");
        assert!(lock.try_read().await.expect("an answer").is_none());
        assert!(lock.try_write().await.expect("an answer").is_none());
        writer.put("data", "v").await.expect("it is held");
        writer.unlock().await.expect("it was held");
        drop(lock.try_read().await.expect("an answer").expect("free"));
        eventually("every key to go", async || {
            (keys_below(&client, "locks/").await == 0).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn writers_of_several_clients_lose_no_count() {
    on_each(async |server| {
        let client = connect(server);
        join_all((0..3).map(async |_| {
            let own = connect(server);
            for _ in 0..10 {
                let writer = own.rwlock("locks/x").write().await.expect("its turn");
                increment(&own, "counter").await;
                writer.unlock().await.expect("it was held");
            }
        }))
        .await;
        assert_eq!(number(&client, "counter").await, 30);
    })
    .await;
}

#[tokio::test]
async fn a_semaphore_is_held_by_as_many_as_there_are_permits_and_no_more() {
    const TWO: NonZeroU32 = NonZeroU32::new(2).expect("two is not none");
    on_each(async |server| {
        let client = connect(server);
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        join_all((0..6).map(async |_| {
            let own = connect(server);
            for _ in 0..5 {
                let permit = own
                    .semaphore("semaphores/x", TWO)
                    .acquire()
                    .await
                    .expect("its turn");
                most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                own.get("something").await.expect("a read");
                inside.fetch_sub(1, Ordering::SeqCst);
                permit.unlock().await.expect("it was held");
            }
        }))
        .await;
        assert!(most.load(Ordering::SeqCst) <= 2, "{most:?}");
        let semaphore = client.semaphore("semaphores/x", TWO);
        let held = [(); 2].map(|()| semaphore.try_acquire());
        let held: Vec<_> = join_all(held).await;
        assert!(held.iter().all(|permit| matches!(permit, Ok(Some(_)))));
        assert!(semaphore.try_acquire().await.expect("an answer").is_none());
    })
    .await;
}

#[tokio::test]
async fn a_barrier_holds_until_it_is_released() {
    on_each(async |server| {
        let client = connect(server);
        let barrier = client.barrier("barriers/x");
        barrier.wait().await.expect("there is none");
        assert!(barrier.hold().await.expect("set up"));
        assert!(!barrier.hold().await.expect("it is there"));
        let waits = tokio::spawn({
            let barrier = barrier.clone();
            async move { barrier.wait().await }
        });
        // It can't go on before, so this order is the only one.
        client.put("before", "v").await.expect("written");
        assert!(!waits.is_finished());
        assert!(barrier.release().await.expect("released"));
        waits.await.expect("no panic").expect("it goes on");
        assert!(!barrier.release().await.expect("it is gone"));
    })
    .await;
}

#[tokio::test]
async fn every_item_of_a_queue_is_taken_once_and_in_order() {
    const ITEMS: usize = 40;
    on_each(async |server| {
        let client = connect(server);
        let queue = client.queue("queues/x");
        let takers = join_all((0..4).map(async |_| {
            let own = connect(server).queue("queues/x");
            let mut taken = Vec::new();
            for _ in 0..ITEMS / 4 {
                let item = own.dequeue().await.expect("an item");
                taken.push(
                    String::from_utf8_lossy(&item)
                        .parse::<usize>()
                        .expect("a number"),
                );
            }
            taken
        }));
        let fill = async {
            for item in 0..ITEMS {
                queue.enqueue(item.to_string()).await.expect("written");
            }
        };
        let (taken, ()) = tokio::join!(takers, fill);
        assert!(taken.iter().all(|taken| taken.is_sorted()), "{taken:?}");
        let all: BTreeSet<usize> = taken.into_iter().flatten().collect();
        assert_eq!(all, (0..ITEMS).collect());
        let left = client
            .range(keystead_client::Range::new(KeyRange::prefix("queues/")))
            .await;
        assert_eq!(left.expect("a read").kvs, []);
    })
    .await;
}
