//! Calls of event loops, which borrow a connection while nothing else uses it and may be busy for as long as they like: here a loop is busy whenever
//! nobody polls its call.

use std::os::fd::AsFd as _;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use keystead_client::{
    Borrower, ConnectOptions, KeyRange, Kind, Lookout, Notice, TelemetrySink, WakeBell, Watch,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::runtime::Runtime;

use crate::alone::{Downs, alone, connected, running, still};
use crate::fake::{Act, Fake};
use crate::puppet::{LIMIT, Puppet, begin};

/// The calls that were taken from a loop.
#[derive(Default)]
struct Lost(AtomicUsize);

impl Wake for Lost {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// An event loop that has nothing else to do, but when a test wants it.
struct Loop {
    lookout: Arc<Lookout>,
    lost: Arc<Lost>,
    borrower: Borrower,
}

impl Loop {
    fn new(runtime: &Runtime) -> Loop {
        let lookout = Arc::new(Lookout::new().expect("there are descriptors"));
        let lost = Arc::new(Lost::default());
        let told = Waker::from(lost.clone());
        let borrower = Borrower::for_loop(lookout.clone(), told, runtime.handle().clone());
        Loop {
            lookout,
            lost,
            borrower,
        }
    }

    /// How many calls it has lost.
    fn lost(&self) -> usize {
        self.lost.0.load(Ordering::SeqCst)
    }

    fn is_called(&self, limit: Duration) -> bool {
        let limit = Timespec::try_from(limit).expect("it is short");
        let lookout = self.lookout.as_fd();
        let mut awaited = [PollFd::from_borrowed_fd(lookout, PollFlags::IN)];
        poll(&mut awaited, Some(&limit)).expect("it can be waited for") == 1
    }

    /// Begins a call. It is over already, or borrows or not.
    fn begin<F: Future>(&mut self, call: Pin<&mut F>) -> Poll<F::Output> {
        self.borrower.next_call();
        self.poll(call)
    }

    fn poll<F: Future>(&mut self, mut call: Pin<&mut F>) -> Poll<F::Output> {
        loop {
            let polled = self.borrower.poll(call.as_mut());
            if polled.is_ready() || self.borrower.sleep() {
                return polled;
            }
        }
    }

    /// A call that has begun and borrows: the runtime may have had something left to do for those before it.
    fn borrowing<F: Future>(&mut self, mut call: impl FnMut() -> F) -> Pin<Box<F>> {
        let begin = Instant::now();
        loop {
            let mut call = Box::pin(call());
            if self.begin(call.as_mut()).is_pending() && self.borrower.is_borrowing() {
                return call;
            }
            assert!(begin.elapsed() < LIMIT, "it is lent nothing");
        }
    }

    fn is_told_of_a_loss(&self) {
        let begin = Instant::now();
        while self.lost() == 0 {
            assert!(begin.elapsed() < LIMIT, "it is not told");
            thread::yield_now();
        }
    }

    /// Has the call come to its end.
    fn finish<F: Future>(&mut self, mut call: Pin<&mut F>) -> F::Output {
        loop {
            assert!(self.is_called(LIMIT), "it waits for nothing");
            self.lookout.hush();
            self.borrower.look();
            if let Poll::Ready(answer) = self.poll(call.as_mut()) {
                return answer;
            }
        }
    }

    fn run<F: Future>(&mut self, call: F) -> F::Output {
        let mut call = pin!(call);
        match self.begin(call.as_mut()) {
            Poll::Ready(answer) => answer,
            Poll::Pending => self.finish(call),
        }
    }
}

#[test]
fn a_loop_needs_nobody_else_and_is_not_called_for_nothing() {
    let (servers, runtime) = (running(), still());
    let script = [Act::Answer, Act::AnswerPonged, Act::Answer];
    let fake = servers.block_on(Fake::start(script));
    let client = connected(&runtime, fake.options());
    let mut event_loop = Loop::new(&runtime);
    for value in 0..20 {
        let put = event_loop.run(client.put("k", format!("{value}")));
        put.expect("it is answered");
        assert!(event_loop.borrower.is_borrowing(), "it keeps it");
    }
    assert!(!event_loop.is_called(Duration::ZERO));
    assert_eq!((fake.ran().len(), fake.connections()), (20, 1));
    // Another one has a use for what is kept; neither disturbs the other.
    alone(&runtime, client.put("k", "v")).expect("it is answered");
    let put = event_loop.run(client.put("k", "v"));
    put.expect("it is answered");
    runtime
        .block_on(client.put("k", "v"))
        .expect("it is answered");
    let put = event_loop.run(client.put("k", "v"));
    put.expect("it is answered");
    assert_eq!((fake.connections(), event_loop.lost()), (1, 0));
}

#[test]
fn a_call_of_another_takes_the_connection_from_a_busy_loop_which_is_told() {
    let (servers, runtime) = (running(), still());
    let fake = servers.block_on(Fake::start([Act::Answer, Act::Answer]));
    let client = connected(&runtime, fake.options());
    let mut event_loop = Loop::new(&runtime);
    let mut first = pin!(client.put("a", "v"));
    assert!(event_loop.begin(first.as_mut()).is_pending());
    assert!(event_loop.borrower.is_borrowing());
    runtime
        .block_on(client.put("b", "v"))
        .expect("it does not wait for the loop");
    assert_eq!(event_loop.lost(), 1);
    // It can be polled anywhere from now on.
    event_loop.borrower.give_back();
    runtime.block_on(first).expect("it is answered");
    assert_eq!((fake.ran().len(), fake.connections()), (2, 1));
}

#[test]
fn a_connection_with_a_stream_is_lent_to_no_loop() {
    let (servers, runtime) = (running(), running());
    let mut puppet = servers.block_on(Puppet::start());
    let client = connected(&runtime, puppet.options()).with_deadline(LIMIT);
    let mut event_loop = Loop::new(&runtime);
    event_loop.run(client.get("k")).expect("it is answered");
    let watch = Watch::new(KeyRange::all());
    let (watcher, stream) = runtime.block_on(begin(&client, &mut puppet, watch));
    puppet.set(|store| store.slow = Duration::from_secs(3600));
    let mut get = pin!(client.get("k"));
    assert!(event_loop.begin(get.as_mut()).is_pending());
    assert!(!event_loop.borrower.is_borrowing());
    stream.puts(1, &[("k", 11)]);
    let notice = runtime.block_on(async { tokio::time::timeout(LIMIT, watcher.next()).await });
    let notice = notice.expect("it comes").expect("the watch goes on");
    assert!(matches!(notice, Some(Notice::Events { revision: 11, .. })));
}

#[test]
fn a_stream_that_begins_takes_the_connection_from_a_busy_loop() {
    let (servers, runtime) = (running(), running());
    let mut puppet = servers.block_on(Puppet::start());
    let client = connected(&runtime, puppet.options()).with_deadline(LIMIT);
    let mut event_loop = Loop::new(&runtime);
    puppet.set(|store| store.slow = Duration::from_secs(3600));
    let _get = event_loop.borrowing(|| client.get("k"));
    let notice = runtime.block_on(async {
        let told = async {
            let mut stream = puppet.stream().await;
            let request = stream.create_one().await;
            stream.puts(request.watch_id, &[("k", 11)]);
            stream
        };
        let (watcher, _stream) = tokio::join!(client.watch(Watch::new(KeyRange::all())), told);
        let watcher = watcher.expect("it was created");
        tokio::time::timeout(LIMIT, watcher.next()).await
    });
    let notice = notice.expect("it comes").expect("the watch goes on");
    assert!(matches!(notice, Some(Notice::Events { revision: 11, .. })));
    event_loop.is_told_of_a_loss();
}

#[test]
fn a_busy_loop_keeps_nothing_for_long() {
    let (servers, runtime) = (running(), running());
    for has_call in [false, true] {
        let script = vec![Act::Ignore; if has_call { 1000 } else { 0 }];
        let fake = servers.block_on(Fake::start(script));
        let (down, downs) = mpsc::channel();
        let client = connected(
            &runtime,
            ConnectOptions {
                telemetry: Some(TelemetrySink::new(Downs(down))),
                ..fake.options()
            },
        );
        let mut event_loop = Loop::new(&runtime);
        let call = has_call.then(|| event_loop.borrowing(|| client.put("k", "v")));
        if !has_call {
            let put = event_loop.run(client.put("k", "v"));
            put.expect("it is answered");
        }
        assert!(downs.try_recv().is_err(), "it is there");
        fake.stop();
        downs.recv_timeout(LIMIT).expect("somebody looks");
        if has_call {
            event_loop.is_told_of_a_loss();
        }
        drop(call);
        // Nor does it keep the loop awake.
        event_loop.lookout.hush();
        event_loop.borrower.drive();
        assert!(!event_loop.is_called(Duration::ZERO));
    }
}

#[test]
fn a_deadline_calls_a_loop_that_waits() {
    let (servers, runtime) = (running(), running());
    let fake = servers.block_on(Fake::start([Act::Ignore]));
    let client = connected(&runtime, fake.options());
    let mut event_loop = Loop::new(&runtime);
    let begin = Instant::now();
    // Before anybody else looks.
    let hasty = client.with_deadline(Duration::from_millis(100));
    let error = event_loop.run(hasty.put("k", "v"));
    let error = error.expect_err("it is ignored");
    assert_eq!(error.kind, Kind::DeadlineExceeded);
    assert!(begin.elapsed() >= Duration::from_millis(100));
    let put = event_loop.run(client.put("k", "v"));
    put.expect("it is answered");
    assert_eq!(fake.connections(), 1);
}

#[test]
fn a_server_that_falls_silent_under_a_busy_loop_is_given_up() {
    let (servers, runtime) = (running(), running());
    let fake = servers.block_on(Fake::start([Act::BlackHole]));
    let (down, downs) = mpsc::channel();
    let options = ConnectOptions {
        keepalive_interval: Duration::from_millis(200),
        keepalive_timeout: Duration::from_millis(700),
        telemetry: Some(TelemetrySink::new(Downs(down))),
        ..fake.options()
    };
    let client = connected(&runtime, options).with_deadline(LIMIT);
    let mut event_loop = Loop::new(&runtime);
    let mut put = pin!(client.put("k", "v"));
    assert!(event_loop.begin(put.as_mut()).is_pending());
    downs.recv_timeout(LIMIT).expect("somebody looks");
    let error = event_loop.finish(put).expect_err("nothing comes out of it");
    assert_eq!(error.kind, Kind::Unavailable);
}

#[test]
fn a_loop_with_two_clients_borrows_from_one_after_the_other() {
    let (servers, runtime) = (running(), still());
    let fakes = [(); 2].map(|()| servers.block_on(Fake::start([])));
    let clients = [0, 1].map(|number: usize| connected(&runtime, fakes[number].options()));
    let mut event_loop = Loop::new(&runtime);
    for _ in 0..3 {
        for client in &clients {
            let put = event_loop.run(client.put("k", "v"));
            put.expect("it is answered");
            assert!(event_loop.borrower.is_borrowing());
        }
    }
    // What it has not kept is looked after by the runtime, and can be lent to others.
    let bell = WakeBell::new().expect("there are descriptors");
    let mut other = Borrower::new(bell, runtime.handle().clone());
    let mut put = pin!(clients[0].put("k", "v"));
    assert!(other.poll(put.as_mut()).is_pending());
    assert!(other.has_borrowed());
}

#[test]
fn a_loop_that_goes_gives_back_what_it_has() {
    let (servers, runtime) = (running(), still());
    let fake = servers.block_on(Fake::start([Act::Answer, Act::Answer, Act::Ignore]));
    let client = connected(&runtime, fake.options());
    for has_call in [false, true] {
        let mut event_loop = Loop::new(&runtime);
        let mut put = Box::pin(client.put("k", "v"));
        assert!(event_loop.begin(put.as_mut()).is_pending());
        if !has_call {
            event_loop.finish(put.as_mut()).expect("it is answered");
        }
        drop(put);
        drop(event_loop);
        runtime
            .block_on(client.put("k", "v"))
            .expect("it is answered");
    }
    assert_eq!(fake.connections(), 1);
}
