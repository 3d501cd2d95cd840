//! All checks at short intervals beside all that changes a store: none of them may take it for corruption.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use keystead_proto::etcdserverpb::{
    CompactionRequest, DefragmentRequest, DeleteRangeRequest, PutRequest,
};
use keystead_tests::{Cluster, Kind, Random, Unary};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use super::{alarms, eventually};

const LOAD: Duration = Duration::from_secs(8);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const KEYS: u64 = 50;
const CHECKS: [&str; 16] = [
    "--corrupt-check-time",
    "100ms",
    "--compact-hash-check-time",
    "100ms",
    "--feature-gates",
    "InitialCorruptCheck=true,CompactHashCheck=true",
    // Flushes, compactions and snapshots to followers are many then.
    "--flush-interval",
    "50ms",
    "--wal-segment-bytes",
    "65536",
    "--ring-bytes",
    "16384",
    "--unflushed-limit-bytes",
    "4194304",
    "--flush-bytes",
    "16384",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_check_takes_load_compaction_defragmentation_and_restarts_for_corruption() {
    let mut cluster = Cluster::start(Kind::Keystead, 3, &CHECKS)
        .await
        .expect("only etcd may be missing");
    let (done, written) = (Arc::new(AtomicBool::new(false)), Arc::default());
    let writers: Vec<_> = (0..3)
        .map(|member| {
            let channel = cluster.channel(member);
            tokio::spawn(write(
                channel,
                member as u64,
                done.clone(),
                Arc::clone(&written),
            ))
        })
        .collect();
    let (begin, mut round) = (Instant::now(), 0);
    while begin.elapsed() < LOAD {
        round += 1;
        sleep(Duration::from_millis(100)).await;
        let member = round % 3;
        let defragment = DefragmentRequest {}.send(cluster.channel(member));
        // A member that is down does without.
        timeout(ANSWER_LIMIT, defragment).await.ok();
        if round % 8 == 0 {
            if round % 16 == 0 {
                cluster.member(member).kill();
            } else {
                tokio::task::block_in_place(|| cluster.member(member).terminate());
            }
            sleep(Duration::from_millis(200)).await;
            cluster.member(member).launch();
            cluster.ready().await;
        }
    }
    done.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("it does not panic");
    }
    println!("{} writes", AtomicUsize::load(&written, Ordering::Relaxed));
    let revision = cluster.assert_equal().await;
    let physical = true;
    let last = CompactionRequest { revision, physical };
    last.send(cluster.channel(0)).await.expect("it is new");
    for sentence in [
        "finished peer corruption check",
        "successfully checked hash on whole cluster",
        "initial corruption checking passed",
    ] {
        eventually(sentence, async || {
            let mut members = cluster.members().iter();
            members.find(|it| it.log().contains(sentence)).map(drop)
        })
        .await;
    }
    for member in 0..3 {
        assert_eq!(alarms(&cluster, member).await, Some(Vec::new()));
    }
    for server in cluster.members() {
        let log = server.log();
        assert!(
            !log.contains("alarm raised"),
            "an alarm came and went: {log}"
        );
    }
}

/// Puts, deletions and compactions through one member, as fast as they are answered.
async fn write(channel: Channel, seed: u64, done: Arc<AtomicBool>, written: Arc<AtomicUsize>) {
    let mut random = Random::new(seed);
    while !done.load(Ordering::Relaxed) {
        let key = format!("key{}", random.below(KEYS));
        let written_at = match random.below(40) {
            0..4 => {
                let request = DeleteRangeRequest {
                    key: key.into(),
                    ..DeleteRangeRequest::default()
                };
                let answer = timeout(ANSWER_LIMIT, request.send(channel.clone())).await;
                answer.ok().and_then(Result::ok).and_then(|it| it.header)
            }
            _ => {
                let request = PutRequest {
                    key: key.into(),
                    value: vec![b'v'; 200].into(),
                    ..PutRequest::default()
                };
                let answer = timeout(ANSWER_LIMIT, request.send(channel.clone())).await;
                answer.ok().and_then(Result::ok).and_then(|it| it.header)
            }
        };
        let Some(header) = written_at else {
            // Its member is down for a moment.
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        written.fetch_add(1, Ordering::Relaxed);
        if random.one_in(50) {
            let request = CompactionRequest {
                revision: header.revision - random.below(20) as i64,
                physical: random.one_in(2),
            };
            // Another may have compacted further.
            timeout(ANSWER_LIMIT, request.send(channel.clone()))
                .await
                .ok();
        }
    }
}
