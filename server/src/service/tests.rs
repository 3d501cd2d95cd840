//! A whole member, asked over its port: what the services answer once consensus, state and store stand behind them.

mod calls;
mod election;
mod lease;
mod lock;
mod watch;

use std::net::SocketAddr;
use std::time::Duration;

use keystead_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, CompactionRequest, CompactionResponse,
    DefragmentRequest, DefragmentResponse, DeleteRangeRequest, DeleteRangeResponse, HashKvRequest,
    HashKvResponse, MemberListRequest, MemberListResponse, MoveLeaderRequest, MoveLeaderResponse,
    PutRequest, PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, RequestOp,
    ResponseHeader, StatusRequest, StatusResponse, TxnRequest, TxnResponse,
    alarm_request::AlarmAction, request_op::Request,
};
use keystead_proto::health::{HealthCheckRequest, HealthCheckResponse};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::config::{ListenAddress, Storage};
use crate::testing::{Client, GRPC, framed, request};
use crate::{Config, FoundingError, Node, StartError};

const MEMBER: u64 = 0x8e9e_05c5_2164_694d;
const CLUSTER: u64 = 0xcdf8_1819_4e3a_8c32;

/// A member on a directory of its own.
struct Running {
    node: Option<Node>,
    dir: TempDir,
}

impl Running {
    fn start() -> Self {
        Self::start_with(|_| {})
    }

    fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = config(&dir);
        change(&mut config);
        Self {
            node: Some(start(config).expect("the member starts")),
            dir,
        }
    }

    fn address(&self) -> SocketAddr {
        let node = self.node.as_ref().expect("it runs");
        let ListenAddress::Tcp(address) = node.client_addresses()[0] else {
            panic!("it listens on a port")
        };
        address
    }

    async fn client(&self) -> Client {
        Client::connect(self.address()).await
    }

    fn restart(&mut self) {
        self.stop();
        self.node = Some(start(config(&self.dir)).expect("the member starts again"));
    }

    fn stop(&mut self) {
        if let Some(node) = self.node.take() {
            std::thread::spawn(|| node.shutdown())
                .join()
                .expect("it stops without a panic");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Starts a member on a thread of its own: it blocks, as stopping does, and these tests run on a runtime.
fn start(config: Config) -> Result<Node, StartError> {
    std::thread::spawn(|| Node::start(config))
        .join()
        .expect("it starts without a panic")
}

fn config(dir: &TempDir) -> Config {
    Config {
        data_dir: dir.path().join("data"),
        listen_client: vec![ListenAddress::Tcp(([127, 0, 0, 1], 0).into())],
        listen_peer: vec![ListenAddress::Tcp(([127, 0, 0, 1], 0).into())],
        shards: 2,
        storage: Storage {
            wal_segment_bytes: 4 << 20,
            unflushed_limit_bytes: 4 << 20,
            ..Storage::default()
        },
        ..Config::default()
    }
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..PutRequest::default()
    }
}

fn get(key: &str) -> RangeRequest {
    RangeRequest {
        key: key.to_owned().into(),
        ..RangeRequest::default()
    }
}

fn everything() -> RangeRequest {
    RangeRequest {
        range_end: "\0".into(),
        ..get("\0")
    }
}

fn put_op(key: String) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestPut(put(&key, ""))),
    }
}

async fn do_put(client: &Client, key: &str, value: &str) -> PutResponse {
    client
        .unary("/etcdserverpb.KV/Put", &put(key, value))
        .await
        .expect("the put is taken")
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: CLUSTER,
        member_id: MEMBER,
        revision,
        raft_term: 1,
    })
}

#[tokio::test]
async fn a_put_is_read_back_with_etcds_ids_and_revisions() {
    let member = Running::start();
    let client = member.client().await;
    assert_eq!(
        do_put(&client, "k", "v").await,
        PutResponse {
            header: header(2),
            prev_kv: None
        }
    );
    for serializable in [false, true] {
        let asked = RangeRequest {
            serializable,
            ..get("k")
        };
        let read: RangeResponse = client
            .unary("/etcdserverpb.KV/Range", &asked)
            .await
            .expect("it is read");
        assert_eq!(read.header, header(2));
        assert_eq!(
            (read.count, read.more, &*read.kvs[0].value),
            (1, false, &b"v"[..])
        );
    }
    let delete = DeleteRangeRequest {
        key: "k".into(),
        prev_kv: true,
        ..DeleteRangeRequest::default()
    };
    let deleted: DeleteRangeResponse = client
        .unary("/etcdserverpb.KV/DeleteRange", &delete)
        .await
        .expect("deleted");
    assert_eq!(
        (deleted.header, deleted.deleted, deleted.prev_kvs.len()),
        (header(3), 1, 1)
    );
}

#[tokio::test]
async fn bad_requests_get_etcds_code_and_text() {
    let member = Running::start();
    let client = member.client().await;
    do_put(&client, "k", "v").await;
    let many = TxnRequest {
        success: (0..129).map(|n| put_op(n.to_string())).collect(),
        ..TxnRequest::default()
    };
    let twice = TxnRequest {
        success: vec![put_op("a".into()), put_op("a".into())],
        ..TxnRequest::default()
    };
    let ranges = [
        (get(""), 3, "etcdserver: key is not provided"),
        (
            RangeRequest {
                revision: 9,
                ..get("k")
            },
            11,
            "etcdserver: mvcc: required revision is a future revision",
        ),
        (
            RangeRequest {
                sort_order: 7,
                ..get("k")
            },
            3,
            "etcdserver: invalid sort option",
        ),
    ];
    for (request, code, text) in ranges {
        let refused = client
            .unary::<RangeResponse>("/etcdserverpb.KV/Range", &request)
            .await;
        assert_eq!(refused, Err((code, text.to_owned())));
    }
    let puts = [
        (put("", "v"), 3, "etcdserver: key is not provided"),
        (
            PutRequest {
                lease: 5,
                ..put("k", "v")
            },
            5,
            "etcdserver: requested lease not found",
        ),
        (
            PutRequest {
                ignore_value: true,
                ..put("k", "v")
            },
            3,
            "etcdserver: value is provided",
        ),
        (
            PutRequest {
                ignore_value: true,
                ..put("none", "")
            },
            3,
            "etcdserver: key not found",
        ),
        (
            put("k", &"v".repeat(1_572_864)),
            3,
            "etcdserver: request is too large",
        ),
        (
            put("k", &"v".repeat(2 << 20)),
            8,
            "grpc: received message larger than max (2097160 vs. 2097152)",
        ),
    ];
    for (request, code, text) in puts {
        let refused = client
            .unary::<PutResponse>("/etcdserverpb.KV/Put", &request)
            .await;
        assert_eq!(refused, Err((code, text.to_owned())));
    }
    for (request, text) in [
        (many, "etcdserver: too many operations in txn request"),
        (twice, "etcdserver: duplicate key given in txn request"),
    ] {
        let refused = client
            .unary::<TxnResponse>("/etcdserverpb.KV/Txn", &request)
            .await;
        assert_eq!(refused, Err((3, text.to_owned())));
    }
    let compact = CompactionRequest {
        revision: 99,
        physical: false,
    };
    let refused = client
        .unary::<CompactionResponse>("/etcdserverpb.KV/Compact", &compact)
        .await;
    assert_eq!(
        refused,
        Err((
            11,
            "etcdserver: mvcc: required revision is a future revision".to_owned()
        ))
    );
    let (_, code, _) = client
        .call("/etcdserverpb.KV/Put", framed(&[0xff, 0xff]))
        .await;
    assert_eq!(code, 13, "what is not a message is refused");
    assert_eq!(
        do_put(&client, "k", "still serves").await.header,
        header(3),
        "no refusal used a revision"
    );
}

#[tokio::test]
async fn a_transaction_nested_too_deep_is_refused_and_harms_nobody() {
    let member = Running::start();
    let client = member.client().await;
    for depth in [129, 200, 300, 5_000] {
        let (_, code, text) = client
            .call("/etcdserverpb.KV/Txn", framed(&nested_txns(depth)))
            .await;
        assert_eq!(
            (code, text.as_str()),
            (3, "etcdserver: too many operations in txn request")
        );
    }
    do_put(&client, "k", "v").await;
}

/// A transaction whose only operation is a transaction, and so on; put together from the inside, for prost's own
/// encoder would need as much stack as it is deep.
fn nested_txns(depth: usize) -> Vec<u8> {
    let field = |tag: u8, bytes: Vec<u8>| {
        let mut whole = vec![tag];
        prost::encoding::encode_varint(bytes.len() as u64, &mut whole);
        whole.extend(bytes);
        whole
    };
    const SUCCESS: u8 = 0x12;
    const REQUEST_TXN: u8 = 0x22;
    (0..depth).fold(Vec::new(), |inner, _| {
        field(SUCCESS, field(REQUEST_TXN, inner))
    })
}

#[tokio::test]
async fn many_puts_at_once_each_have_a_revision_of_their_own() {
    let member = Running::start();
    let client = member.client().await;
    let mut puts = JoinSet::new();
    for n in 0..500 {
        let client = client.clone();
        puts.spawn(async move {
            do_put(&client, &format!("k{n}"), "v")
                .await
                .header
                .expect("a header")
                .revision
        });
    }
    let mut revisions = puts.join_all().await;
    revisions.sort_unstable();
    assert_eq!(revisions, (2..502).collect::<Vec<i64>>());
    let count = RangeRequest {
        count_only: true,
        ..everything()
    };
    let read: RangeResponse = client
        .unary("/etcdserverpb.KV/Range", &count)
        .await
        .expect("counted");
    assert_eq!((read.count, read.kvs.len(), read.more), (500, 0, false));
}

#[tokio::test]
async fn a_streamed_range_holds_what_a_range_holds() {
    let member = Running::start();
    let client = member.client().await;
    for batch in 0..30 {
        let success = (0..100)
            .map(|n| put_op(format!("k{batch:02}{n:02}")))
            .collect();
        let txn = TxnRequest {
            success,
            ..TxnRequest::default()
        };
        client
            .unary::<TxnResponse>("/etcdserverpb.KV/Txn", &txn)
            .await
            .expect("taken");
    }
    for limit in [0, 1, 10, 2_999, 3_000, 5_000] {
        let asked = RangeRequest {
            limit,
            ..everything()
        };
        let whole: RangeResponse = client
            .unary("/etcdserverpb.KV/Range", &asked)
            .await
            .expect("read");
        let parts: Vec<RangeStreamResponse> = client
            .streamed("/etcdserverpb.KV/RangeStream", &asked)
            .await
            .expect("streamed");
        let mut parts: Vec<RangeResponse> = parts
            .into_iter()
            .filter_map(|part| part.range_response)
            .collect();
        let last = parts.last().expect("at least one message").clone();
        assert_eq!(
            (last.header, last.more, last.count),
            (whole.header, whole.more, whole.count),
            "limit {limit}"
        );
        assert!(
            parts
                .iter()
                .rev()
                .skip(1)
                .all(|part| (part.header, part.more, part.count) == (None, false, 0))
        );
        let kvs: Vec<_> = parts
            .iter_mut()
            .flat_map(|part| std::mem::take(&mut part.kvs))
            .collect();
        assert_eq!(kvs, whole.kvs, "limit {limit}");
    }
    let sorted = RangeRequest {
        sort_order: 2,
        ..everything()
    };
    let refused = client
        .streamed::<RangeStreamResponse>("/etcdserverpb.KV/RangeStream", &sorted)
        .await;
    assert_eq!(
        refused,
        Err((
            12,
            "RangeStream does not support custom sort orders".to_owned()
        ))
    );
}

#[tokio::test]
async fn compaction_hides_what_is_older_and_physical_waits() {
    let member = Running::start();
    let client = member.client().await;
    for value in ["1", "2", "3"] {
        do_put(&client, "k", value).await;
    }
    let compact = CompactionRequest {
        revision: 3,
        physical: true,
    };
    let done: CompactionResponse = client
        .unary("/etcdserverpb.KV/Compact", &compact)
        .await
        .expect("compacted");
    assert_eq!(done.header, header(4));
    let old = client
        .unary::<RangeResponse>(
            "/etcdserverpb.KV/Range",
            &RangeRequest {
                revision: 2,
                ..get("k")
            },
        )
        .await;
    assert_eq!(
        old,
        Err((
            11,
            "etcdserver: mvcc: required revision has been compacted".to_owned()
        ))
    );
    let at: RangeResponse = client
        .unary(
            "/etcdserverpb.KV/Range",
            &RangeRequest {
                revision: 3,
                ..get("k")
            },
        )
        .await
        .expect("still there");
    assert_eq!(at.kvs[0].value, "2");
}

#[tokio::test]
async fn over_the_quota_only_what_frees_space_is_taken_until_the_alarm_is_disarmed() {
    let member = Running::start_with(|config| config.quota_bytes = Some(1 << 20));
    let client = member.client().await;
    let mut refused = None;
    for n in 0..200 {
        let put = put(&format!("k{n}"), &"v".repeat(32 << 10));
        refused = client
            .unary::<PutResponse>("/etcdserverpb.KV/Put", &put)
            .await
            .err();
        if refused.is_some() {
            break;
        }
    }
    let no_space = (8, "etcdserver: mvcc: database space exceeded".to_owned());
    assert_eq!(refused, Some(no_space.clone()));
    let list = AlarmRequest::default();
    let alarms: AlarmResponse = wait_for_alarm(&client, &list).await;
    assert_eq!(
        (alarms.alarms[0].member_id, alarms.alarms[0].alarm()),
        (MEMBER, AlarmType::Nospace)
    );
    let small = client
        .unary::<PutResponse>("/etcdserverpb.KV/Put", &put("small", "v"))
        .await;
    assert_eq!(small, Err(no_space));
    let delete = DeleteRangeRequest {
        key: "k0".into(),
        ..DeleteRangeRequest::default()
    };
    client
        .unary::<DeleteRangeResponse>("/etcdserverpb.KV/DeleteRange", &delete)
        .await
        .expect("deleting is allowed");
    let status: StatusResponse = client
        .unary(
            "/etcdserverpb.Maintenance/Status",
            &StatusRequest::default(),
        )
        .await
        .expect("status");
    assert_eq!(status.errors, [format!("memberID:{MEMBER} alarm:NOSPACE ")]);
    let disarm = AlarmRequest {
        action: AlarmAction::Deactivate.into(),
        ..AlarmRequest::default()
    };
    let disarm = AlarmRequest {
        member_id: MEMBER,
        alarm: AlarmType::Nospace.into(),
        ..disarm
    };
    let gone: AlarmResponse = client
        .unary("/etcdserverpb.Maintenance/Alarm", &disarm)
        .await
        .expect("disarmed");
    assert_eq!(gone.alarms.len(), 1);
}

/// The alarm is proposed when the first put is refused, and is there when it is applied.
async fn wait_for_alarm(client: &Client, list: &AlarmRequest) -> AlarmResponse {
    for _ in 0..1000 {
        let alarms: AlarmResponse = client
            .unary("/etcdserverpb.Maintenance/Alarm", list)
            .await
            .expect("listed");
        if !alarms.alarms.is_empty() {
            return alarms;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no alarm was raised");
}

#[tokio::test]
async fn operators_tools_find_what_they_ask_for() {
    let member = Running::start();
    let client = member.client().await;
    do_put(&client, "k", "v").await;
    let status: StatusResponse = client
        .unary(
            "/etcdserverpb.Maintenance/Status",
            &StatusRequest::default(),
        )
        .await
        .expect("status");
    assert_eq!(
        (status.version.as_str(), status.leader, status.raft_term),
        (crate::REPORTED_VERSION, MEMBER, 1)
    );
    assert!(status.db_size > 0 && status.errors.is_empty() && status.db_size_quota == 2 << 30);
    let members: MemberListResponse = client
        .unary(
            "/etcdserverpb.Cluster/MemberList",
            &MemberListRequest { linearizable: true },
        )
        .await
        .expect("the members");
    assert_eq!(
        members.header,
        header(0),
        "the cluster's answers carry no revision"
    );
    assert_eq!(
        (members.members[0].id, members.members[0].name.as_str()),
        (MEMBER, "default")
    );
    let hash: HashKvResponse = client
        .unary(
            "/etcdserverpb.Maintenance/HashKV",
            &HashKvRequest::default(),
        )
        .await
        .expect("a hash");
    assert_eq!(
        (hash.header, hash.compact_revision, hash.hash_revision),
        (header(2), -1, 2)
    );
    let defragmented: DefragmentResponse = client
        .unary(
            "/etcdserverpb.Maintenance/Defragment",
            &DefragmentRequest::default(),
        )
        .await
        .expect("defragmented");
    assert_eq!(defragmented.header, None);
    for (target_id, expected) in [
        (MEMBER, Ok(MoveLeaderResponse::default())),
        (1, Err((9, "etcdserver: bad leader transferee".to_owned()))),
    ] {
        let moved = client
            .unary(
                "/etcdserverpb.Maintenance/MoveLeader",
                &MoveLeaderRequest { target_id },
            )
            .await;
        assert_eq!(moved, expected);
    }
}

#[tokio::test]
async fn health_knows_the_empty_name_alone() {
    let member = Running::start();
    let client = member.client().await;
    let check = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let serving: HealthCheckResponse = client
        .unary("/grpc.health.v1.Health/Check", &check(""))
        .await
        .expect("health");
    assert_eq!(serving.status, 1);
    let unknown = client
        .unary::<HealthCheckResponse>("/grpc.health.v1.Health/Check", &check("x"))
        .await;
    assert_eq!(unknown, Err((5, "unknown service".to_owned())));
}

#[tokio::test]
async fn calls_that_tonic_serves_keep_the_rules_of_the_port() {
    let member = Running::start();
    let client = member.client().await;
    let large = framed(&vec![0; (2 << 20) + 1]);
    let (_, code, text) = client.call("/etcdserverpb.Maintenance/Status", large).await;
    assert_eq!(
        (code, text.as_str()),
        (
            8,
            "grpc: received message larger than max (2097153 vs. 2097152)"
        )
    );
    let with_leader = request(
        "/etcdserverpb.Maintenance/Status",
        &[GRPC, ("hasleader", "true")],
    );
    assert_eq!(client.send(with_leader, framed(b"")).await.1, 0);
    for (path, text) in [
        (
            "/etcdserverpb.KV/Frob",
            "unknown method Frob for service etcdserverpb.KV",
        ),
        ("/nobody/X", "unknown service nobody"),
    ] {
        let (_, code, refused) = client.call(path, framed(b"")).await;
        assert_eq!((code, refused.as_str()), (12, text));
    }
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let mut member = Running::start();
    do_put(&member.client().await, "k", "v").await;
    member.restart();
    let client = member.client().await;
    let read: RangeResponse = client
        .unary("/etcdserverpb.KV/Range", &get("k"))
        .await
        .expect("read");
    assert_eq!(
        (read.header.expect("a header").revision, &*read.kvs[0].value),
        (2, &b"v"[..])
    );
    assert_eq!(
        do_put(&client, "k", "w")
            .await
            .header
            .expect("a header")
            .revision,
        3
    );
}

#[tokio::test]
async fn a_data_directory_in_use_is_refused_in_a_sentence() {
    let member = Running::start();
    let refused = start(config(&member.dir))
        .map(|_| ())
        .expect_err("it is in use")
        .to_string();
    assert!(
        refused.contains("is in use by another process"),
        "{refused}"
    );
}

#[tokio::test]
async fn what_is_said_of_the_beginning_is_looked_at_only_then() {
    let dir = tempfile::tempdir().expect("a directory");
    let joining = || Config {
        joins: true,
        ..config(&dir)
    };
    let refused = start(joining()).err().expect("there is nothing to join");
    assert!(matches!(
        refused,
        StartError::Founding(FoundingError::Joins)
    ));
    for config in [config(&dir), joining()] {
        let node = start(config).expect("the member founds its cluster, then has it");
        std::thread::spawn(|| node.shutdown())
            .join()
            .expect("it stops without a panic");
    }
}
