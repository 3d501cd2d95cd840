//! Several ways to one member, of which some are dead, swallow everything, or break.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use keystead_client::{Client, Outcome};
use tokio::net::TcpListener;

use super::relay::{Mode, Relay};
use super::{client, client_of, on_each};

/// An address where nobody listens.
async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("it is bound")
}

/// The promise is ten seconds; a machine that is busy with other things gets twice that.
const BLACK_HOLE_LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_dead_endpoint_is_passed_over() {
    on_each(async |server| {
        for number in 0..8 {
            let client = client_of([nobody().await, server.address(), nobody().await]);
            client
                .put(format!("k{number}"), "v")
                .await
                .expect("one of them lives");
        }
    })
    .await;
}

/// Writes until one succeeds; which keys were answered how.
async fn write_until_answered(client: &Client, ledger: &mut Vec<(String, Option<Outcome>)>) {
    loop {
        let key = format!("k{}", ledger.len());
        let written = client.put(key.clone(), "v").await;
        let outcome = written.as_ref().err().map(|error| error.outcome);
        ledger.push((key, outcome));
        if written.is_ok() {
            return;
        }
    }
}

async fn check(client: &Client, ledger: &[(String, Option<Outcome>)]) {
    for (key, outcome) in ledger {
        let stored = client.get(key.clone()).await.expect("a get");
        let version = stored.map_or(0, |kv| kv.version);
        let honest = match outcome {
            None => version == 1,
            Some(Outcome::NotApplied) => version == 0,
            Some(Outcome::Unknown) => version <= 1,
            Some(Outcome::Applied) => false,
        };
        assert!(honest, "{key}: {outcome:?}, stored {version} times");
    }
}

#[tokio::test]
async fn a_way_that_turns_into_a_black_hole_is_left_and_no_outcome_lies() {
    on_each(async |server| {
        let ways = [
            Relay::before(server.address()).await,
            Relay::before(server.address()).await,
        ];
        let through = client_of([ways[0].address(), ways[1].address()]);
        let mut ledger = Vec::new();
        write_until_answered(&through, &mut ledger).await;
        // Each in turn: one of the two is in use.
        for way in &ways {
            way.set(Mode::Swallow);
            let begin = Instant::now();
            write_until_answered(&through, &mut ledger).await;
            assert!(begin.elapsed() < BLACK_HOLE_LIMIT, "{:?}", begin.elapsed());
            way.set(Mode::Open);
            write_until_answered(&through, &mut ledger).await;
        }
        check(&client(server), &ledger).await;
    })
    .await;
}

#[tokio::test]
async fn members_tell_where_they_are() {
    on_each(async |server| {
        let way = Relay::before(server.address()).await;
        let through = client_of([way.address()]);
        let learned = through.sync_endpoints().await.expect("a list");
        assert_eq!(learned, [format!("http://{}", server.address())]);
        way.set(Mode::Cut);
        through.put("k", "v").await.expect("there is another way");
    })
    .await;
}

#[tokio::test]
async fn ways_that_break_in_turn_lose_no_read_and_no_outcome_lies() {
    on_each(async |server| {
        let ways = [
            Relay::before(server.address()).await,
            Relay::before(server.address()).await,
        ];
        let through = client_of([ways[0].address(), ways[1].address()]);
        let mut ledger = Vec::new();
        for round in 0..20 {
            write_until_answered(&through, &mut ledger).await;
            ways[round % 2].set(Mode::Cut);
            through.get("k0").await.expect("a read goes the other way");
            write_until_answered(&through, &mut ledger).await;
            ways[round % 2].set(Mode::Open);
        }
        check(&client(server), &ledger).await;
    })
    .await;
}
