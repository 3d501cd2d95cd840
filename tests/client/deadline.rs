//! Deadlines against a member that is stopped in its tracks (SIGSTOP): its kernel still takes connections and bytes.

use std::time::{Duration, Instant};

use keystead_client::{Kind, Outcome};

use super::{client, on_each};

#[tokio::test]
async fn a_deadline_is_kept_and_its_write_is_unknown_until_it_is_looked_for() {
    on_each(async |server| {
        let client = client(server);
        client.put("before", "v").await.expect("it runs");
        server.pause();
        let short = client.with_deadline(Duration::from_millis(300));
        let begin = Instant::now();
        let write = short.put("k", "v").await.expect_err("it is stopped");
        let read = short.get("k").await.expect_err("it is stopped");
        let took = begin.elapsed();
        server.resume();
        assert_eq!(
            (write.kind, write.outcome, write.retryable),
            (Kind::DeadlineExceeded, Outcome::Unknown, false)
        );
        assert_eq!(
            (read.kind, read.outcome, read.retryable),
            (Kind::DeadlineExceeded, Outcome::NotApplied, true)
        );
        assert!(took >= Duration::from_millis(600), "{took:?}");
        // A machine that is busy is late, but not by the ten seconds of the default deadline.
        assert!(took < Duration::from_secs(8), "{took:?}");
        // The connection is the same, and what was told as unknown may be there, once.
        let found = client.get("k").await.expect("it runs again");
        assert!(found.is_none_or(|kv| kv.version == 1));
    })
    .await;
}

#[tokio::test]
async fn a_call_that_reaches_nobody_in_time_was_not_applied() {
    on_each(async |server| {
        let client = client(server);
        server.kill();
        let short = client.with_deadline(Duration::from_millis(300));
        let error = short.put("k", "v").await.expect_err("nobody listens");
        assert_eq!(
            (error.kind, error.outcome),
            (Kind::Unavailable, Outcome::NotApplied)
        );
        server.restart().await;
        assert_eq!(client.get("k").await, Ok(None));
    })
    .await;
}
