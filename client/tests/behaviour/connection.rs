//! Endpoints that die, hang, go away and come back.

use std::time::{Duration, Instant};

use futures::future::join_all;
use keystead_client::{Client, ConnectOptions, Kind, Outcome};
use tokio::net::TcpListener;

use crate::fake::{Act, Fake};

/// An address where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    format!("http://{}", listener.local_addr().expect("it is bound"))
}

/// Connects to any of `endpoints` with a keepalive that finds a black hole in a fraction of a second.
fn client_of<const N: usize>(endpoints: [String; N]) -> Client {
    Client::lazy(ConnectOptions {
        keepalive_interval: Duration::from_millis(200),
        keepalive_timeout: Duration::from_millis(700),
        ..ConnectOptions::new(endpoints)
    })
    .expect("the URLs are right")
}

#[tokio::test]
async fn connecting_to_nobody_fails_at_once_and_says_why() {
    let url = nobody().await;
    let begin = Instant::now();
    let error = Client::connect(ConnectOptions::new([url.clone()]))
        .await
        .err()
        .expect("nobody listens");
    assert_eq!(
        (error.kind, error.outcome),
        (Kind::Unavailable, Outcome::NotApplied)
    );
    assert!(error.message.contains(&url), "{error}");
    assert!(error.message.contains("refused"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_write_that_reaches_nobody_was_not_applied() {
    let client = client_of([nobody().await]).with_deadline(Duration::from_millis(300));
    let error = client.put("k", "v").await.expect_err("nobody listens");
    assert_eq!(
        (error.kind, error.outcome),
        (Kind::Unavailable, Outcome::NotApplied)
    );
    assert!(
        error.retryable && error.message.contains("refused"),
        "{error}"
    );
}

#[tokio::test]
async fn one_dead_endpoint_is_passed_over() {
    let fake = Fake::start([]).await;
    // Which one is tried first is chance.
    for _ in 0..8 {
        let client = client_of([nobody().await, fake.url(), nobody().await]);
        client.put("k", "v").await.expect("one of them lives");
    }
}

#[tokio::test]
async fn an_endpoint_that_accepts_and_never_greets_is_passed_over() {
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mute = format!("http://{}", mute.local_addr().expect("it is bound"));
    let fake = Fake::start([]).await;
    let client = Client::lazy(ConnectOptions {
        dial_timeout: Duration::from_millis(300),
        ..ConnectOptions::new([mute, fake.url()])
    });
    let client = client.expect("the URLs are right");
    client.put("k", "v").await.expect("the other one greets");
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_by_the_call_that_waits() {
    let first = Fake::start([]).await;
    let client = client_of([first.url()]);
    client.put("k", "1").await.expect("it runs");
    first.stop();
    // The connection breaks by itself, not under a call.
    let gone = async || {
        let short = client.with_deadline(Duration::from_millis(100));
        let read = short.get("k").await;
        read.is_err_and(|error| error.message.contains("refused"))
    };
    while !gone().await {}
    let waits = client.put("k", "2");
    let comes_back = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        Fake::start_at(first.address(), []).await
    };
    let (answer, second) = tokio::join!(waits, comes_back);
    answer.expect("it is back before the deadline");
    assert_eq!(second.ran(), ["k"]);
}

#[tokio::test]
async fn a_black_hole_is_left_for_another_member() {
    let (hole, other) = (Fake::start([Act::BlackHole]).await, Fake::start([]).await);
    // The first calls go to the hole only if it was chosen; so try until it was.
    while hole.requests() == 0 {
        let client = client_of([hole.url(), other.url()]);
        let begin = Instant::now();
        client.get("k").await.expect("the other member answers");
        assert!(
            begin.elapsed() < Duration::from_secs(8),
            "{:?}",
            begin.elapsed()
        );
    }
    assert!(!other.ran().is_empty());
}

#[tokio::test]
async fn a_write_into_a_black_hole_is_unknown_and_the_next_goes_elsewhere() {
    let (hole, other) = (Fake::start([Act::BlackHole]).await, Fake::start([]).await);
    while hole.requests() == 0 {
        let client = client_of([hole.url(), other.url()]);
        let first = client.put("k", "1").await;
        if hole.requests() > 0 {
            let error = first.expect_err("nothing comes out of it");
            assert_eq!(
                (error.kind, error.outcome),
                (Kind::Unavailable, Outcome::Unknown)
            );
        }
        client
            .put("k", "2")
            .await
            .expect("the other member answers");
    }
}

#[tokio::test]
async fn a_call_that_ran_out_of_time_without_a_word_sends_the_next_elsewhere() {
    let (hole, other) = (Fake::start([Act::BlackHole]).await, Fake::start([]).await);
    while hole.requests() == 0 {
        let client = Client::lazy(ConnectOptions::new([hole.url(), other.url()]));
        let client = client
            .expect("the URLs are right")
            .with_deadline(Duration::from_millis(300));
        let first = client.put("k", "1").await;
        assert_eq!(first.is_err(), hole.requests() > 0);
        client
            .with_deadline(Duration::from_secs(10))
            .put("k", "2")
            .await
            .expect("the other member answers");
    }
}

#[tokio::test]
async fn a_connection_that_answers_is_not_pinged_and_a_slow_answer_is_waited_for() {
    let fake = Fake::start([Act::Answer, Act::Ignore]).await;
    let client = client_of([fake.url()]);
    client.put("k", "1").await.expect("it answers");
    assert_eq!(fake.pings(), 0);
    let slow = client.with_deadline(Duration::from_secs(3));
    let error = slow.put("k", "2").await.expect_err("it never answers");
    // It pinged, was answered, and did not give the connection up.
    assert_eq!(
        (error.kind, fake.connections()),
        (Kind::DeadlineExceeded, 1)
    );
    assert!(fake.pings() > 0);
}

#[tokio::test]
async fn a_server_that_goes_away_answers_what_it_took_and_nothing_is_lost() {
    let fake = Fake::start([Act::Answer, Act::GoAwayAfter]).await;
    let client = client_of([fake.url()]);
    for value in ["1", "2", "3", "4"] {
        client.put("k", value).await.expect("every one is answered");
    }
    assert_eq!((fake.ran().len(), fake.connections()), (4, 2));
}

#[tokio::test]
async fn a_hundred_calls_on_a_connection_that_breaks_eject_the_endpoint_once() {
    let mut script = vec![Act::Ignore; 99];
    script.push(Act::DropAfter);
    let fake = Fake::start(script).await;
    let client = client_of([fake.url()]);
    let calls = (0..100).map(|call| client.put(format!("{call}"), "v"));
    for answer in join_all(calls).await {
        let error = answer.expect_err("the connection broke");
        assert_eq!(error.outcome, Outcome::Unknown, "{error}");
    }
    let begin = Instant::now();
    client
        .put("k", "v")
        .await
        .expect("the next connection works");
    assert!(
        begin.elapsed() < Duration::from_secs(1),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(fake.connections(), 2);
}

#[tokio::test]
async fn a_call_that_is_dropped_disturbs_no_other() {
    let fake = Fake::start([Act::Ignore]).await;
    let client = client_of([fake.url()]);
    let dropped = tokio::time::timeout(Duration::from_millis(100), client.put("a", "v"));
    dropped.await.expect_err("it is ignored");
    client.put("b", "v").await.expect("it is answered");
    assert_eq!(fake.connections(), 1);
}

#[tokio::test]
async fn a_dial_whose_first_caller_left_goes_on_for_the_others() {
    let mute = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mute = format!("http://{}", mute.local_addr().expect("it is bound"));
    let fake = Fake::start([]).await;
    let client = Client::lazy(ConnectOptions {
        dial_timeout: Duration::from_millis(500),
        ..ConnectOptions::new([mute, fake.url()])
    });
    let client = client.expect("the URLs are right");
    let first = client.with_deadline(Duration::from_millis(50));
    let (_, second) = tokio::join!(first.put("a", "v"), client.put("b", "v"));
    second.expect("it waits for the endpoint that greets");
}

#[tokio::test]
async fn a_closed_client_refuses_every_call() {
    let fake = Fake::start([]).await;
    let client = client_of([fake.url()]);
    client.put("k", "v").await.expect("it is open");
    client.clone().close();
    let error = client.put("k", "v").await.expect_err("it is closed");
    assert_eq!(
        (error.kind, error.outcome),
        (Kind::Closed, Outcome::NotApplied)
    );
}
