//! What a call costs below every language: the facade's blocking call, one at a time and by threads, and the client's tasks, a hundred at a time.
//! Figures that a binding's are compared with: `cargo run --release -p keystead-facade --example cost -- URL [CALLS]`.

use std::thread;
use std::time::{Duration, Instant};

use futures::future::join_all;
use keystead_client as client;
use keystead_facade::{Answer, Client, ConnectOptions};
use rustix::time::{ClockId, clock_gettime};

const TASKS: usize = 100;
const THREADS: [usize; 3] = [2, 4, 16];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().expect("the URL of a member");
    let calls = arguments
        .next()
        .map_or(20_000, |calls| calls.parse().expect("a number"));
    let opened = Client::open(ConnectOptions::new([url.clone()]), true).wait(|| false);
    let Ok(Answer::Client(facade)) = opened else {
        panic!("no member at {url}: {opened:?}");
    };
    let get = || {
        let got = facade.get_key("bench/k".into()).wait(|| false);
        assert!(got.is_ok(), "{got:?}");
    };
    (0..calls / 10).for_each(|_| get());
    measure("facade, blocking get", calls, || {
        (0..calls).for_each(|_| get())
    });
    for threads in THREADS {
        measure(
            &format!("facade, {threads} threads that get"),
            calls,
            || {
                thread::scope(|scope| {
                    for _ in 0..threads {
                        scope.spawn(|| (0..calls / threads).for_each(|_| get()));
                    }
                });
            },
        );
    }

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let client = client::Client::connect(client::ConnectOptions::new([url])).await;
        let client = client.expect("it was there just now");
        let began = (Instant::now(), cpu());
        let tasks = (0..TASKS).map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                for _ in 0..calls / TASKS {
                    client.get("bench/k").await.expect("it is there");
                }
            })
        });
        join_all(tasks).await;
        tell("client, 100 tasks that get", calls, began);
    });
}

fn measure(name: &str, calls: usize, work: impl FnOnce()) {
    let began = (Instant::now(), cpu());
    work();
    tell(name, calls, began);
}

fn tell(name: &str, calls: usize, (began, burnt): (Instant, Duration)) {
    let micros = |time: Duration| time.as_secs_f64() * 1e6 / calls as f64;
    let (elapsed, burnt) = (began.elapsed(), cpu() - burnt);
    println!(
        "{name:44} {:9.2} us {:9.2} us CPU",
        micros(elapsed),
        micros(burnt)
    );
}

/// All threads of this process.
fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32)
}
