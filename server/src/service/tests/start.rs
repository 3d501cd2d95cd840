//! Starting on a directory, again and beside another.

use keystead_proto::etcdserverpb::RangeResponse;

use super::{Running, config, do_put, get, start};
use crate::{Config, FoundingError, StartError};

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
        StartError::Founding(FoundingError::NobodyAnswers)
    ));
    for config in [config(&dir), joining()] {
        let node = start(config).expect("the member founds its cluster, then has it");
        std::thread::spawn(|| node.shutdown())
            .join()
            .expect("it stops without a panic");
    }
}
