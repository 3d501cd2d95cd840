//! Calls that are polled by the thread that waits for them, which the connection is lent to. The client's runtime has no thread of its own where a test says
//! nothing else, so that nobody but the borrower can have done what was done.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::mpsc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use keystead_client::{
    Borrower, Client, ConnectOptions, ConnectionChange, ConnectionEvent, KeyRange, Kind, Notice,
    Outcome, Range, Telemetry, TelemetrySink, WakeBell, Watch,
};
use tokio::runtime::{Builder, Runtime};

use crate::fake::{Act, Fake};
use crate::puppet::{LIMIT, Puppet, begin, kv};

/// How often a thread that waits looks around.
const TICK: Duration = Duration::from_millis(20);

/// A runtime that runs by itself: the servers' and, where time must pass for it, the client's.
pub fn running() -> Runtime {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    runtime.expect("there are threads")
}

/// One that runs only while a test blocks on it.
pub fn still() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("there are descriptors")
}

/// A client that has a connection.
pub fn connected(runtime: &Runtime, options: ConnectOptions) -> Client {
    let client = runtime.block_on(Client::connect(options));
    client.expect("it answers")
}

fn borrower(runtime: &Runtime) -> Borrower {
    let bell = WakeBell::new().expect("there are descriptors");
    Borrower::new(bell, runtime.handle().clone())
}

/// Runs a call on this thread.
pub fn alone<T>(runtime: &Runtime, call: impl Future<Output = T>) -> T {
    let mut call = pin!(call);
    finish(&mut borrower(runtime), call.as_mut())
}

fn finish<F: Future>(borrower: &mut Borrower, mut call: std::pin::Pin<&mut F>) -> F::Output {
    let begin = Instant::now();
    loop {
        if let Poll::Ready(answer) = borrower.poll(call.as_mut()) {
            return answer;
        }
        borrower.wait(TICK);
        assert!(begin.elapsed() < LIMIT, "waited in vain");
    }
}

#[test]
fn a_call_that_is_alone_needs_nobody_else() {
    let (servers, runtime) = (running(), still());
    let script = [Act::Answer, Act::AnswerPonged, Act::Answer];
    let fake = servers.block_on(Fake::start(script));
    let client = connected(&runtime, fake.options());
    for value in 0..20 {
        let put = alone(&runtime, client.put("k", format!("{value}")));
        put.expect("it is answered");
    }
    assert_eq!((fake.ran().len(), fake.connections()), (20, 1));
    // With the runtime again, on what was given back.
    let put = runtime.block_on(client.put("k", "v"));
    put.expect("it is answered");
    assert_eq!(fake.connections(), 1);
}

#[test]
fn a_large_request_is_a_borrowers_and_a_large_answer_the_runtimes() {
    let (servers, runtime) = (running(), running());
    let puppet = servers.block_on(Puppet::start());
    let key = Bytes::from(vec![b'k'; 6 << 20]);
    // More than a stream's window, which opens as it is read.
    let value = Bytes::from(vec![b'v'; 12 << 20]);
    puppet.set(|store| {
        let mut kv = kv("", 7);
        (kv.key, kv.value) = (key.clone(), value.clone());
        store.kvs = vec![kv];
    });
    let client = connected(&runtime, puppet.options());
    let range = Range {
        limit: 1,
        ..Range::new(KeyRange::key(key))
    };
    // On a busy machine its task may drive it just then, or take it back before much has come.
    let found_much = (0..50).any(|_| {
        let mut borrower = borrower(&runtime);
        let mut call = pin!(client.range(range.clone()));
        let got = finish(&mut borrower, call.as_mut()).expect("it is answered");
        assert!(got.kvs.len() == 1 && got.kvs[0].value == value);
        borrower.has_borrowed() && borrower.found_much()
    });
    assert!(
        found_much,
        "the answer is a large one, and its thread had borrowed"
    );
}

#[test]
fn a_connection_that_breaks_under_a_borrower_ends_its_call() {
    let (servers, runtime) = (running(), still());
    for act in [Act::DropAfter, Act::DropBeforeStatus] {
        let fake = servers.block_on(Fake::start([act]));
        let client = connected(&runtime, fake.options());
        let error = alone(&runtime, client.put("k", "v")).expect_err("it broke");
        assert_eq!(
            (error.kind, error.outcome),
            (Kind::Unavailable, Outcome::Unknown)
        );
        runtime
            .block_on(client.put("k", "v"))
            .expect("the next connection works");
        assert_eq!(fake.connections(), 2);
    }
}

#[test]
fn a_server_that_goes_away_under_a_borrower_answers_it_and_the_next_call_goes_on() {
    let (servers, runtime) = (running(), running());
    let fake = servers.block_on(Fake::start([
        Act::GoAwayAfter,
        Act::Answer,
        Act::GoAwayBefore,
    ]));
    let client = connected(&runtime, fake.options());
    for value in ["1", "2", "3", "4"] {
        let put = alone(&runtime, client.put("k", value));
        put.expect("every one is answered");
    }
    assert_eq!((fake.ran().len(), fake.connections()), (4, 3));
}

#[test]
fn a_second_call_takes_the_connection_from_a_thread_that_stands_still() {
    let (servers, runtime) = (running(), still());
    let fake = servers.block_on(Fake::start([]));
    let client = connected(&runtime, fake.options());
    let mut first = pin!(client.put("a", "v"));
    let mut borrower = borrower(&runtime);
    assert!(borrower.poll(first.as_mut()).is_pending());
    let second = runtime.block_on(client.put("b", "v"));
    second.expect("it does not wait for the first");
    // Whose answer was read beside it, or is on its way to whoever runs the runtime.
    let first = thread::scope(|threads| {
        let (ended, end) = tokio::sync::oneshot::channel();
        let runtime = &runtime;
        threads.spawn(move || runtime.block_on(end));
        let answer = finish(&mut borrower, first);
        ended.send(()).expect("it waits for that");
        answer
    });
    first.expect("it is answered");
    assert_eq!((fake.ran().len(), fake.connections()), (2, 1));
}

#[test]
fn borrowers_and_tasks_on_one_connection_lose_nothing() {
    const EACH: usize = 300;
    let (servers, runtime) = (running(), running());
    let fake = servers.block_on(Fake::start([]));
    let client = connected(&runtime, fake.options()).with_deadline(LIMIT);
    thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                let bell = WakeBell::new().expect("there are descriptors");
                for round in 0..EACH {
                    let mut put = pin!(client.put("k", "v"));
                    let mut borrower = Borrower::new(bell.clone(), runtime.handle().clone());
                    if round % 3 == 0 {
                        let Poll::Pending = borrower.poll(put.as_mut()) else {
                            continue;
                        };
                        // Late, so that others find it lent.
                        thread::yield_now();
                    }
                    finish(&mut borrower, put).expect("it is answered");
                }
            });
        }
        runtime.block_on(async {
            for _ in 0..EACH {
                let put = client.put("k", "v");
                put.await.expect("it is answered");
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        });
    });
    assert_eq!((fake.ran().len(), fake.connections()), (4 * EACH, 1));
}

#[test]
fn a_borrower_that_gives_back_gets_its_answer_as_any_other() {
    let (servers, runtime) = (running(), running());
    let fake = servers.block_on(Fake::start([]));
    let client = connected(&runtime, fake.options());
    for _ in 0..20 {
        let mut put = pin!(client.put("k", "v"));
        let mut borrower = borrower(&runtime);
        // The runtime may have been faster.
        if borrower.poll(put.as_mut()).is_pending() {
            borrower.give_back();
            finish(&mut borrower, put).expect("it is answered");
        }
    }
    assert_eq!(fake.connections(), 1);
}

#[test]
fn a_call_that_is_dropped_under_a_borrower_disturbs_no_other() {
    let (servers, runtime) = (running(), still());
    let script = [Act::Ignore, Act::Answer, Act::Answer, Act::Ignore];
    let fake = servers.block_on(Fake::start(script));
    let client = connected(&runtime, fake.options());
    for call_first in [false, true] {
        let mut put = Box::pin(client.put("a", "v"));
        let mut borrower = borrower(&runtime);
        assert!(borrower.poll(put.as_mut()).is_pending());
        if call_first {
            drop(put);
            drop(borrower);
        } else {
            drop(borrower);
            drop(put);
        }
        // What was left to say is said by the runtime.
        runtime
            .block_on(client.put("b", "v"))
            .expect("it is answered");
        alone(&runtime, client.put("c", "v")).expect("it is answered");
    }
    assert_eq!(fake.connections(), 1);
}

#[test]
fn a_call_that_panics_under_a_borrower_harms_no_other() {
    let (servers, runtime) = (running(), still());
    let fake = servers.block_on(Fake::start([Act::Ignore]));
    let client = connected(&runtime, fake.options());
    let panics = async {
        let mut put = pin!(client.put("a", "v"));
        assert!(futures::poll!(put.as_mut()).is_pending());
        panic!("as a test does");
    };
    let panicked = catch_unwind(AssertUnwindSafe(|| alone(&runtime, panics)));
    assert!(panicked.is_err());
    alone(&runtime, client.put("b", "v")).expect("it is answered");
    runtime
        .block_on(client.put("c", "v"))
        .expect("it is answered");
    assert_eq!(fake.connections(), 1);
}

#[test]
fn a_connection_that_cant_be_lent_is_used_as_always() {
    let (servers, runtime) = (running(), running());
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let fake = servers.block_on(Fake::start([]));
    let listener = servers.block_on(async { tokio::net::UnixListener::bind(&path) });
    let listener = listener.expect("it is free");
    let address = fake.address();
    servers.spawn(async move {
        while let Ok((mut ours, _)) = listener.accept().await {
            let theirs = tokio::net::TcpStream::connect(address).await;
            let mut theirs = theirs.expect("it listens");
            tokio::spawn(
                async move { tokio::io::copy_bidirectional(&mut ours, &mut theirs).await },
            );
        }
    });
    let url = format!("unix://{}", path.display());
    let client = connected(&runtime, ConnectOptions::new([url]));
    let mut borrower = borrower(&runtime);
    let mut put = pin!(client.put("k", "v"));
    finish(&mut borrower, put.as_mut()).expect("it is answered");
    assert!(!borrower.has_borrowed());
}

#[test]
fn a_deadline_ends_a_call_that_is_alone() {
    let (servers, runtime) = (running(), running());
    let fake = servers.block_on(Fake::start([Act::Ignore]));
    let client = connected(&runtime, fake.options());
    let begin = Instant::now();
    let hasty = client.with_deadline(Duration::from_millis(300));
    let error = alone(&runtime, hasty.put("k", "v")).expect_err("it is ignored");
    assert_eq!(
        (error.kind, error.outcome),
        (Kind::DeadlineExceeded, Outcome::Unknown)
    );
    assert!(begin.elapsed() >= Duration::from_millis(300));
    alone(&runtime, client.put("k", "v")).expect("it is answered");
    assert_eq!(fake.connections(), 1);
}

#[test]
fn a_server_that_falls_silent_under_a_borrower_is_given_up() {
    let (servers, runtime) = (running(), running());
    let fake = servers.block_on(Fake::start([Act::BlackHole]));
    let options = ConnectOptions {
        keepalive_interval: Duration::from_millis(200),
        keepalive_timeout: Duration::from_millis(700),
        ..fake.options()
    };
    let client = connected(&runtime, options).with_deadline(LIMIT);
    let error = alone(&runtime, client.put("k", "v")).expect_err("nothing comes out of it");
    assert_eq!(
        (error.kind, error.outcome),
        (Kind::Unavailable, Outcome::Unknown)
    );
}

#[test]
fn events_reach_their_watcher_while_a_borrower_stands_still() {
    let (servers, runtime) = (running(), running());
    let mut puppet = servers.block_on(Puppet::start());
    let client = connected(&runtime, puppet.options()).with_deadline(LIMIT);
    let watch = Watch::new(KeyRange::all());
    let (watcher, stream) = runtime.block_on(begin(&client, &mut puppet, watch));
    puppet.set(|store| store.slow = Duration::from_secs(3600));
    let mut get = pin!(client.get("k"));
    let mut borrower = borrower(&runtime);
    assert!(borrower.poll(get.as_mut()).is_pending());
    // So that nobody has read it when it comes.
    stream.puts(1, &[("k", 11)]);
    let notice = runtime.block_on(async { tokio::time::timeout(LIMIT, watcher.next()).await });
    let notice = notice.expect("it comes").expect("the watch goes on");
    assert!(matches!(notice, Some(Notice::Events { revision: 11, .. })));
}

/// Tells when a connection has gone.
pub struct Downs(pub mpsc::Sender<()>);

impl Telemetry for Downs {
    fn connection(&self, change: &ConnectionChange<'_>) {
        if change.event == ConnectionEvent::Down {
            let _ = self.0.send(());
        }
    }
}

#[test]
fn the_end_of_a_connection_that_was_lent_before_is_seen_without_a_call() {
    let (servers, runtime) = (running(), running());
    for gives_back in [false, true] {
        let fake = servers.block_on(Fake::start([Act::Answer, Act::Ignore]));
        let (down, downs) = mpsc::channel();
        let client = connected(
            &runtime,
            ConnectOptions {
                telemetry: Some(TelemetrySink::new(Downs(down))),
                ..fake.options()
            },
        );
        alone(&runtime, client.put("k", "v")).expect("it is answered");
        let mut put = pin!(client.put("k", "v"));
        let mut borrower = borrower(&runtime);
        if gives_back {
            assert!(borrower.poll(put.as_mut()).is_pending());
            borrower.give_back();
        }
        assert!(downs.try_recv().is_err(), "it is there");
        fake.stop();
        downs.recv_timeout(LIMIT).expect("somebody looks");
    }
}
