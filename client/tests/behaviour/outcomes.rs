//! Every row of the table of honest writes, as a caller sees it.

use std::time::Duration;

use keystead_client::{Client, Code, Error, Kind, Outcome};

use crate::fake::{Act, CANCEL, ENHANCE_YOUR_CALM, Fake, INTERNAL_ERROR, REFUSED_STREAM};

/// One request with `act` as its first fate, and then as often as the client likes.
async fn put_meets(act: Act) -> (Result<i64, Error>, Fake) {
    let fake = Fake::start([act]).await;
    let client = Client::lazy(fake.options()).expect("the URL is one");
    let answer = client
        .with_deadline(Duration::from_secs(5))
        .put("k", "v")
        .await;
    (answer.map(|put| put.header.revision), fake)
}

#[tokio::test]
async fn what_surely_did_not_run_is_sent_again_until_it_does() {
    for act in [
        Act::ResetHead(REFUSED_STREAM),
        Act::GoAwayBefore,
        Act::Refuse(14, "etcdserver: no leader"),
        Act::Refuse(14, "etcdserver: rpc not supported for learner"),
        Act::Refuse(9, "etcdserver: rpc not supported for learner"),
        Act::Refuse(2, "etcdserver: too many requests"),
        Act::Refuse(8, "etcdserver: too many requests"),
        Act::Refuse(2, "raft proposal dropped"),
    ] {
        let (answer, fake) = put_meets(act.clone()).await;
        assert_eq!(answer, Ok(7), "{act:?}");
        assert_eq!((fake.requests(), fake.ran().len()), (2, 1), "{act:?}");
    }
}

#[tokio::test]
async fn what_may_have_run_is_told_and_never_sent_again() {
    for (act, kind, code) in [
        (Act::DropAtHead, Kind::Unavailable, Code::Unavailable),
        (Act::DropAfter, Kind::Unavailable, Code::Unavailable),
        (Act::DropBeforeStatus, Kind::Unavailable, Code::Unavailable),
        (
            Act::Reset(INTERNAL_ERROR),
            Kind::Unavailable,
            Code::Unavailable,
        ),
        (Act::Reset(CANCEL), Kind::Unavailable, Code::Unavailable),
        (
            Act::Reset(ENHANCE_YOUR_CALM),
            Kind::Unavailable,
            Code::Unavailable,
        ),
        (Act::Http503, Kind::Unavailable, Code::Unavailable),
        (Act::Messages(Vec::new()), Kind::Internal, Code::Internal),
        (
            Act::Fail(14, "etcdserver: leader changed"),
            Kind::Unavailable,
            Code::Unavailable,
        ),
        (
            Act::Fail(14, "etcdserver: request timed out"),
            Kind::Unavailable,
            Code::Unavailable,
        ),
        (
            Act::Fail(14, "etcdserver: server stopped"),
            Kind::Unavailable,
            Code::Unavailable,
        ),
        (
            Act::Fail(4, "context deadline exceeded"),
            Kind::DeadlineExceeded,
            Code::DeadlineExceeded,
        ),
        (
            Act::Fail(1, "context canceled"),
            Kind::Cancelled,
            Code::Cancelled,
        ),
        (
            Act::Fail(2, "something else"),
            Kind::Internal,
            Code::Unknown,
        ),
        (Act::Fail(13, "a panic"), Kind::Internal, Code::Internal),
    ] {
        let (answer, fake) = put_meets(act.clone()).await;
        let error = answer.expect_err("it fails");
        assert_eq!(
            (error.kind, error.code, error.outcome, error.retryable),
            (kind, code, Outcome::Unknown, false),
            "{act:?}: {error}"
        );
        assert_eq!(error.endpoint, fake.url());
        assert_eq!(fake.requests(), 1, "{act:?}");
    }
}

#[tokio::test]
async fn what_the_server_refuses_for_good_is_told_with_its_own_text() {
    for (code, text, kind) in [
        (3, "etcdserver: key is not provided", Kind::InvalidArgument),
        (3, "etcdserver: request is too large", Kind::TooLarge),
        (3, "etcdserver: user name is empty", Kind::Unauthenticated),
        (
            3,
            "etcdserver: revision of auth store is old",
            Kind::Unauthenticated,
        ),
        (
            5,
            "etcdserver: requested lease not found",
            Kind::LeaseNotFound,
        ),
        (5, "etcdserver: member not found", Kind::NotFound),
        (7, "etcdserver: permission denied", Kind::PermissionDenied),
        (
            8,
            "etcdserver: mvcc: database space exceeded",
            Kind::NoSpace,
        ),
        (
            8,
            "grpc: received message larger than max (3 vs. 2)",
            Kind::TooLarge,
        ),
        (
            9,
            "etcdserver: lease already exists",
            Kind::FailedPrecondition,
        ),
        (9, "etcdserver: not leader", Kind::NotLeader),
        (9, "etcdserver: not capable", Kind::Unimplemented),
        (
            11,
            "etcdserver: mvcc: required revision has been compacted",
            Kind::Compacted,
        ),
        (
            11,
            "etcdserver: mvcc: required revision is a future revision",
            Kind::FutureRevision,
        ),
        (11, "etcdserver: too large lease TTL", Kind::InvalidArgument),
        (
            12,
            "unknown method Put for service etcdserverpb.KV",
            Kind::Unimplemented,
        ),
        (15, "etcdserver: corrupt cluster", Kind::Corrupt),
        (16, "etcdserver: invalid auth token", Kind::Unauthenticated),
    ] {
        let (answer, fake) = put_meets(Act::Refuse(code, text)).await;
        let error = answer.expect_err("it is refused");
        assert_eq!(
            (
                error.kind,
                error.code as i32,
                error.message.as_str(),
                error.outcome
            ),
            (kind, code, text, Outcome::NotApplied)
        );
        assert!(!error.retryable, "{text}");
        assert_eq!((fake.requests(), fake.ran().len()), (1, 0), "{text}");
    }
}

#[tokio::test]
async fn a_read_is_asked_again_whatever_broke() {
    for act in [
        Act::DropAtHead,
        Act::DropAfter,
        Act::DropBeforeStatus,
        Act::Reset(INTERNAL_ERROR),
        Act::GoAwayBefore,
        Act::Http503,
        Act::Fail(14, "etcdserver: leader changed"),
        Act::Fail(14, "etcdserver: request timed out"),
        Act::Refuse(14, "etcdserver: no leader"),
    ] {
        let fake = Fake::start([act.clone()]).await;
        let client = Client::lazy(fake.options()).expect("the URL is one");
        let answer = client.get("k").await;
        assert_eq!(answer, Ok(None), "{act:?}");
        assert_eq!(fake.requests(), 2, "{act:?}");
    }
}

#[tokio::test]
async fn a_deadline_that_passes_after_the_request_was_sent_leaves_a_write_unknown() {
    let fake = Fake::start([Act::Ignore, Act::Ignore]).await;
    let client = Client::lazy(fake.options()).expect("the URL is one");
    let client = client.with_deadline(Duration::from_millis(300));
    let error = client.put("k", "v").await.expect_err("nobody answers");
    assert_eq!(
        (error.kind, error.outcome, error.retryable),
        (Kind::DeadlineExceeded, Outcome::Unknown, false)
    );
    let error = client.get("k").await.expect_err("nobody answers");
    assert_eq!(
        (error.kind, error.outcome, error.retryable),
        (Kind::DeadlineExceeded, Outcome::NotApplied, true)
    );
}

#[tokio::test]
async fn a_write_that_is_refused_until_the_deadline_ends_with_that_refusal() {
    let refusal = Act::Refuse(2, "etcdserver: too many requests");
    let fake = Fake::start(vec![refusal; 1000]).await;
    let client = Client::lazy(fake.options()).expect("the URL is one");
    let client = client.with_deadline(Duration::from_millis(400));
    let error = client.put("k", "v").await.expect_err("it is never taken");
    assert_eq!(
        (error.kind, error.message.as_str(), error.outcome),
        (
            Kind::TooManyRequests,
            "etcdserver: too many requests",
            Outcome::NotApplied
        )
    );
    assert!(error.retryable);
    // The waits grow: no storm.
    assert!((2..=20).contains(&fake.requests()), "{}", fake.requests());
}
