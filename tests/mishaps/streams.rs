//! Streams whose clients want a leader behind them, on a member that loses it.

use std::time::Duration;

use futures::StreamExt as _;
use keystead_proto::etcdserverpb::lease_client::LeaseClient;
use keystead_proto::etcdserverpb::watch_client::WatchClient;
use keystead_proto::etcdserverpb::watch_request::RequestUnion;
use keystead_proto::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use super::leader::grant;
use super::{PATIENCE, on_each, put_eventually};

/// A stream that sends `message` once and stays open.
fn opened<M: Send + 'static>(
    message: M,
    wants_leader: bool,
) -> Request<impl futures::Stream<Item = M> + Send + 'static> {
    let once = futures::stream::iter([message]);
    let mut request = Request::new(once.chain(futures::stream::pending()));
    if wants_leader {
        let yes = "true".parse().expect("it is ASCII");
        request.metadata_mut().insert("hasleader", yes);
    }
    request
}

async fn watch(channel: Channel, wants_leader: bool) -> Result<Streaming<WatchResponse>, Status> {
    let create = WatchCreateRequest {
        key: "k".into(),
        ..WatchCreateRequest::default()
    };
    let message = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    };
    let mut client = WatchClient::new(channel);
    let answer = client.watch(opened(message, wants_leader)).await;
    Ok(answer?.into_inner())
}

async fn keep_alive(
    channel: Channel,
    id: i64,
) -> Result<Streaming<LeaseKeepAliveResponse>, Status> {
    let message = LeaseKeepAliveRequest { id };
    let mut client = LeaseClient::new(channel);
    let answer = client.lease_keep_alive(opened(message, true)).await;
    Ok(answer?.into_inner())
}

/// What a stream ends with; what it still says before is passed over.
async fn end<T>(stream: &mut Streaming<T>) -> Option<Status> {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return None,
            Err(status) => return Some(status),
        }
    }
}

fn assert_no_leader(status: Option<Status>) {
    let status = status.expect("it says why it ends");
    assert_eq!(
        (status.code(), status.message()),
        (Code::Unavailable, "etcdserver: no leader")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_want_a_leader_end_without_one_and_the_others_go_on() {
    on_each(async |cluster| {
        let leader = cluster.leader().await;
        let follower = (leader + 1) % 3;
        let lease = grant(cluster, leader, "leased").await;
        let channel = || cluster.channel(follower);
        let mut demanding = watch(channel(), true).await.expect("there is a leader");
        let mut patient = watch(channel(), false).await.expect("a stream");
        let mut keeping = keep_alive(channel(), lease).await.expect("a leader");
        let kept = keeping.message().await.expect("it is heard");
        assert!(kept.expect("an answer").ttl > 0);
        for stream in [&mut demanding, &mut patient] {
            let created = stream.message().await.expect("it is heard");
            assert!(created.expect("an answer").created);
        }
        let dead = [leader, (leader + 2) % 3];
        for member in dead {
            cluster.member(member).kill();
        }
        for ended in [
            timeout(PATIENCE, end(&mut demanding)).await,
            timeout(PATIENCE, end(&mut keeping)).await,
        ] {
            assert_no_leader(ended.expect("it ends by itself"));
        }
        let refused = watch(cluster.channel(follower), true).await;
        assert_no_leader(match refused {
            Ok(mut stream) => end(&mut stream).await,
            Err(status) => Some(status),
        });
        let silent = timeout(Duration::from_millis(100), patient.message()).await;
        silent.expect_err("nobody asked for its end, and nothing happens");
        for member in dead {
            cluster.member(member).launch();
        }
        put_eventually(cluster, leader, "k", "v").await;
        let event = timeout(PATIENCE, patient.message()).await;
        let event = event.expect("it goes on").expect("it is open");
        assert_eq!(event.expect("it is open").events.len(), 1);
    })
    .await;
}
