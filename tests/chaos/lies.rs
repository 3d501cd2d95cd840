//! Proof that the checkers see what goes wrong in a live cluster: wrong answers that are made on purpose, and refused.

use std::time::Instant;

use bytes::Bytes;
use keystead_tests::{Cluster, Kind, Link};

use super::clients::send;
use super::history::{Content, Ending, Op, Operation, Request, Truth};
use super::{linear, watchers};

/// A read of one member alone is as old as that member. Passed off as a linearizable one it must be found out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_read_in_a_live_cluster_is_found_out() {
    for kind in [Kind::Etcd, Kind::Keystead] {
        if let Some(cluster) = Cluster::start(kind, 3, &super::TIMING).await {
            lie(&cluster).await;
        }
    }
}

async fn lie(cluster: &Cluster) {
    let clock = Instant::now();
    let leader = cluster.leader().await;
    let deaf = (leader + 1) % 3;
    let put = |value: &'static str| {
        Request::Alone(Op::Put {
            key: "k".into(),
            value: value.into(),
            lease: 0,
        })
    };
    let get = || Op::Get {
        key: "k".into(),
        range_end: Bytes::new(),
    };
    let ask = async |member: usize, request: Request, told_as: Request| {
        let called = clock.elapsed().as_nanos() as u64;
        let answer = send(&request, cluster.channel(member)).await;
        Operation {
            client: member,
            member,
            called,
            returned: clock.elapsed().as_nanos() as u64,
            request: told_as,
            ending: Ending::Answered(answer.expect("it answers")),
        }
    };
    let first = ask(leader, put("1"), put("1")).await;
    cluster.assert_equal().await;
    cluster.network().isolate(deaf, Link::Hold);
    let second = ask(leader, put("2"), put("2")).await;
    let honest = ask(
        deaf,
        Request::Serializable(get()),
        Request::Serializable(get()),
    )
    .await;
    let lie = ask(deaf, Request::Serializable(get()), Request::Alone(get())).await;
    cluster.network().heal();
    let end = cluster.assert_equal().await;
    let events = watchers::history(cluster.channel(deaf), 1, end).await;
    let truth = Truth::new(1, Content::new(), &events).expect("it is a history");
    let mut operations = vec![first, second, honest];
    linear::check(&operations, &truth).expect("an old read was asked for");
    operations.push(lie);
    let wrong = linear::check(&operations, &truth).expect_err("the last read is stale");
    assert!(wrong.contains("it began when"), "{wrong}");
}
