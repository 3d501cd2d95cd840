//! Sessions whose renewals are answered late, wrongly, or not at all.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use keystead_client::{Kind, Loss, SessionState};
use keystead_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseRevokeRequest, LeaseRevokeResponse, ResponseHeader,
};

use crate::fake::framed;
use crate::member::{Call, Member, Reply, eventually, say};

const CLUSTER: ResponseHeader = ResponseHeader {
    cluster_id: 1,
    member_id: 2,
    revision: 3,
    raft_term: 4,
};

/// Grants what is asked for and answers revokes; keepalives are the script's.
async fn member(keepalive: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Member {
    let next = AtomicI64::new(100);
    Member::start(move |call| match call.method.as_str() {
        "LeaseGrant" => say(&LeaseGrantResponse {
            header: Some(CLUSTER),
            id: next.fetch_add(1, Ordering::Relaxed),
            ttl: call.read::<LeaseGrantRequest>().ttl,
            error: String::new(),
        }),
        "LeaseRevoke" => say(&LeaseRevokeResponse {
            header: Some(CLUSTER),
        }),
        "LeaseKeepAlive" => keepalive(call),
        method => unreachable!("a session does not call {method}"),
    })
    .await
}

/// The answer to a keepalive.
fn alive(call: &Call, ttl: i64, header: ResponseHeader) -> LeaseKeepAliveResponse {
    LeaseKeepAliveResponse {
        header: Some(header),
        id: call.read::<LeaseKeepAliveRequest>().id,
        ttl,
    }
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[tokio::test]
async fn a_session_is_renewed_in_time_for_as_long_as_it_lives() {
    let member = member(|call| say(&alive(call, 6, CLUSTER))).await;
    let session = member.client().session(secs(6)).await.expect("granted");
    let calls = member.asked("LeaseKeepAlive", 3).await;
    assert_eq!(session.state().loss(), None);
    let ids: HashSet<i64> = calls
        .iter()
        .map(|call| call.read::<LeaseKeepAliveRequest>().id)
        .collect();
    assert_eq!(ids, HashSet::from([session.lease()]));
    assert!(
        calls[2].at - calls[0].at >= secs(3),
        "two intervals of a third"
    );
    assert!(session.remaining() <= Duration::from_millis(5_400));
}

#[tokio::test]
async fn a_session_whose_renewals_are_not_answered_is_suspect_and_then_lost() {
    let member = member(|_| Reply::Silence).await;
    let session = member.client().session(secs(2)).await.expect("granted");
    assert_eq!(session.state(), SessionState::Active);
    let next = session.changed(SessionState::Active).await;
    assert_eq!(next, SessionState::Suspect);
    let loss = session.lost().await;
    // A machine that is very busy may not have run us in time, and that is told, too.
    assert!(matches!(loss, Loss::Expired | Loss::Paused), "{loss:?}");
    assert_eq!(session.remaining(), Duration::ZERO);
    let error = session
        .put_ephemeral("k", "v")
        .await
        .expect_err("it is lost");
    assert_eq!(error.kind, Kind::LeaseNotFound);
}

#[tokio::test]
async fn an_answer_counts_from_when_its_renewal_was_sent() {
    let late = Duration::from_millis(1_500);
    let member = member(move |call| Reply::Late(late, framed(&alive(call, 6, CLUSTER)))).await;
    let session = member.client().session(secs(6)).await.expect("granted");
    member.asked("LeaseKeepAlive", 1).await;
    let mut before = session.remaining();
    eventually("the renewal", async || {
        // Read in this order the sum can only be too small.
        let now = Instant::now();
        let remaining = session.remaining();
        let asked = member.calls("LeaseKeepAlive").pop().expect("it was asked");
        let since = now.saturating_duration_since(asked.at);
        assert!(since + remaining <= Duration::from_millis(5_400));
        let renewed = remaining > before;
        before = remaining;
        renewed.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_lease_that_the_server_denies_is_lost_at_once() {
    let restored = ResponseHeader {
        raft_term: 1,
        ..CLUSTER
    };
    let another = ResponseHeader {
        cluster_id: 9,
        ..CLUSTER
    };
    let wiped = ResponseHeader {
        revision: 1,
        ..CLUSTER
    };
    for (header, loss) in [
        (CLUSTER, Loss::Revoked),
        (restored, Loss::Forgotten),
        (another, Loss::Forgotten),
        (wiped, Loss::Forgotten),
    ] {
        let member = member(move |call| say(&alive(call, 0, header))).await;
        let session = member.client().session(secs(6)).await.expect("granted");
        assert_eq!(session.lost().await, loss);
        assert_eq!(session.state(), SessionState::Lost(loss));
    }
}

#[tokio::test]
async fn a_session_outlives_a_stream_that_breaks_and_one_that_falls_silent() {
    let streams = Arc::new(AtomicUsize::new(0));
    let member = member({
        let streams = streams.clone();
        move |call| match streams.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::Reset,
            1 => Reply::Silence,
            _ => say(&alive(call, 15, CLUSTER)),
        }
    })
    .await;
    let session = member.client().session(secs(15)).await.expect("granted");
    let calls = member.asked("LeaseKeepAlive", 3).await;
    let used: HashSet<usize> = calls.iter().map(|call| call.stream).collect();
    assert_eq!(used.len(), 3, "each on a stream of its own");
    eventually("the renewal", async || {
        (session.remaining() > secs(8)).then_some(())
    })
    .await;
    assert_eq!(session.state().loss(), None);
}

#[tokio::test]
async fn renewals_that_are_refused_until_the_end_are_told_as_the_reason() {
    let member = member(|_| Reply::Fail(7, "etcdserver: permission denied")).await;
    let session = member.client().session(secs(4)).await.expect("granted");
    assert_eq!(session.lost().await, Loss::AuthFailed);
}

#[tokio::test]
async fn a_session_that_is_dropped_or_closed_is_revoked() {
    let member = member(|call| say(&alive(call, 30, CLUSTER))).await;
    let client = member.client();
    let dropped = client.session(secs(30)).await.expect("granted");
    let (first, copy) = (dropped.lease(), dropped.clone());
    drop(dropped);
    drop(copy);
    let calls = member.asked("LeaseRevoke", 1).await;
    assert_eq!(calls[0].read::<LeaseRevokeRequest>().id, first);

    let closed = client.session(secs(30)).await.expect("granted");
    closed.clone().close().await.expect("revoked");
    assert_eq!(closed.state(), SessionState::Lost(Loss::Revoked));
    assert_eq!(closed.lost().await, Loss::Revoked);
    let calls = member.asked("LeaseRevoke", 2).await;
    assert_eq!(calls[1].read::<LeaseRevokeRequest>().id, closed.lease());
}

#[tokio::test]
async fn five_hundred_sessions_share_a_stream() {
    let member = member(|call| say(&alive(call, 9, CLUSTER))).await;
    let client = member.client();
    let sessions = join_all((0..501).map(|_| client.session(secs(9)))).await;
    let mut ids: HashSet<i64> = sessions
        .iter()
        .map(|session| session.as_ref().expect("granted").lease())
        .collect();
    let calls = eventually("a renewal of each", async || {
        let calls = member.calls("LeaseKeepAlive");
        let of = |call: &Call| call.read::<LeaseKeepAliveRequest>().id;
        calls.iter().for_each(|call| {
            ids.remove(&of(call));
        });
        ids.is_empty().then_some(calls)
    })
    .await;
    let streams: HashSet<usize> = calls.iter().map(|call| call.stream).collect();
    assert_eq!(streams.len(), 2);
}

#[tokio::test]
async fn a_lease_that_is_granted_to_nobody_any_more_is_given_back() {
    let member = Member::start(|call| match call.method.as_str() {
        "LeaseGrant" => {
            let granted = LeaseGrantResponse {
                header: Some(CLUSTER),
                id: 7,
                ttl: 600,
                error: String::new(),
            };
            Reply::Late(Duration::from_millis(200), framed(&granted))
        }
        "LeaseRevoke" => say(&LeaseRevokeResponse {
            header: Some(CLUSTER),
        }),
        _ => Reply::Silence,
    })
    .await;
    let client = member.client();
    tokio::select! {
        _ = client.session(secs(600)) => panic!("it is not granted yet"),
        _ = member.asked("LeaseGrant", 1) => {}
    }
    let calls = member.asked("LeaseRevoke", 1).await;
    assert_eq!(calls[0].read::<LeaseRevokeRequest>().id, 7);
}
