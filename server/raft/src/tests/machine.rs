//! The state machine without a core: what stops it, and snapshots that carry keys.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream;
use keystead_mvcc::KeyValueRef;
use keystead_proto::etcdserverpb::DeleteRangeRequest;
use keystead_proto::internal::{Record, RecordKind};
use openraft::RaftSnapshotBuilder as _;
use openraft::storage::RaftStateMachine as _;
use prost::Message as _;

use super::storage_suite::{alone, alone_with};
use super::{dump, put};
use crate::machine::Machine;
use crate::stored;
use crate::type_config::{Entry, LogId, Payload, Proposal};

fn entry(index: u64, stored: Bytes) -> Entry {
    let payload = Payload::Normal(Proposal {
        stored,
        ticket: None,
    });
    Entry {
        log_id: LogId::new_term_index(1, index),
        payload,
    }
}

fn command(records: Vec<Record>) -> Bytes {
    stored::command(records, Vec::new())
}

fn delete_range(key: &str, end: &str) -> Record {
    let delete = DeleteRangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        range_end: Bytes::copy_from_slice(end.as_bytes()),
        prev_kv: false,
    };
    Record {
        kind: RecordKind::DeleteRange as i32,
        payload: delete.encode_to_vec().into(),
        ..Default::default()
    }
}

async fn apply(machine: &mut Machine, entry: Entry) -> std::io::Result<()> {
    machine.apply(stream::iter([Ok((entry, None))])).await
}

#[tokio::test]
async fn an_entry_that_can_not_be_read_stops_the_member_and_changes_nothing() {
    let unknown = Record {
        kind: 99,
        ..Default::default()
    };
    let garbled = Record {
        payload: Bytes::from_static(&[0xff]),
        ..put("k", "v")
    };
    let cases = [
        (Bytes::from_static(&[7]), "unknown kind"),
        (Bytes::from_static(&[1, 8, 9]), "version 9"),
        (command(vec![put("k", "v"), unknown]), "unknown kind 99"),
        (command(vec![garbled]), "can't be decoded"),
    ];
    for (stored, sentence) in cases {
        let (guard, _log, mut machine) = alone();
        let error = apply(&mut machine, entry(0, stored)).await.unwrap_err();
        assert!(error.to_string().contains(sentence), "{error}");
        assert_eq!(guard.standing.applied(), 0);
        assert_eq!(dump(&guard.reader), (1, vec![]));
    }
}

#[tokio::test]
async fn a_snapshot_brings_everything_over_and_what_was_there_is_gone() {
    let (source, _log, mut sender) = alone();
    for n in 0..500 {
        let records = vec![
            put(&format!("k{}", n % 70), &format!("v{n}")),
            put("same", "x"),
        ];
        apply(&mut sender, entry(n, command(records)))
            .await
            .unwrap();
    }
    let snapshot = sender
        .get_snapshot_builder()
        .await
        .build_snapshot()
        .await
        .unwrap();
    let (target, _log, mut receiver) = alone();
    apply(&mut receiver, entry(0, command(vec![put("gone", "v")])))
        .await
        .unwrap();
    receiver
        .install_snapshot(&snapshot.meta, snapshot.snapshot)
        .await
        .unwrap();
    assert_eq!(dump(&target.reader), dump(&source.reader));
    assert_eq!(target.standing.applied(), 500);
    assert_eq!(
        target.flushing.handle.last_flush().unwrap().last,
        snapshot.meta.last_log_id
    );
    for machine in [&mut sender, &mut receiver] {
        apply(machine, entry(500, command(vec![put("k1", "after")])))
            .await
            .unwrap();
    }
    let hash = |reader: &keystead_state::Reader| reader.store().hash_kv(0).unwrap();
    assert_eq!(hash(&target.reader), hash(&source.reader));
}

#[tokio::test]
async fn a_flush_goes_as_far_as_the_log_is_on_the_disk_and_no_further() {
    let (guard, _log, mut machine) = alone_with(Arc::new(|| 2));
    for index in 0..5 {
        let put = command(vec![put(&format!("k{index}"), "v")]);
        apply(&mut machine, entry(index, put)).await.unwrap();
    }
    let flushed = guard.flushing.handle.flush().await.unwrap();
    assert_eq!(flushed.last, Some(LogId::new_term_index(1, 1)));
}

#[tokio::test]
async fn a_snapshot_of_another_moment_than_promised_is_refused() {
    let (_source, _log, mut sender) = alone();
    apply(&mut sender, entry(0, command(vec![put("k", "v")])))
        .await
        .unwrap();
    let mut snapshot = sender
        .get_snapshot_builder()
        .await
        .build_snapshot()
        .await
        .unwrap();
    snapshot.meta.last_log_id = Some(LogId::new_term_index(1, 5));
    let (target, _log, mut receiver) = alone();
    receiver
        .install_snapshot(&snapshot.meta, snapshot.snapshot)
        .await
        .unwrap_err();
    assert_eq!(dump(&target.reader), (1, vec![]));
}

#[test]
fn an_entry_of_many_keys_leaves_the_core_to_others_and_is_seen_as_a_whole() {
    // With one thread for what is done aside, which is taken: an entry that needs it waits.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let (guard, _log, mut machine) = alone();
        let named = |chunk: u64| move |n: u64| put(&format!("{chunk}/{n:03}"), "value");
        for chunk in 0..3 {
            let records = (0..500).map(named(chunk)).collect();
            let entry = entry(chunk, command(records));
            apply(&mut machine, entry).await.unwrap();
        }
        let (release, released) = std::sync::mpsc::channel();
        let taken = tokio::task::spawn_blocking(move || released.recv());
        let few = entry(3, command(vec![delete_range("0/", "1")]));
        apply(&mut machine, few).await.unwrap();
        let before = dump(&guard.reader);
        assert_eq!(before.1.len(), 1000);
        let many = vec![put("new", "v"), delete_range("0/", "9"), put("newer", "v")];
        {
            let applying = apply(&mut machine, entry(4, command(many)));
            let mut applying = std::pin::pin!(applying);
            for _ in 0..3 {
                assert!(futures::poll!(&mut applying).is_pending());
                assert_eq!(dump(&guard.reader), before);
                assert_eq!(guard.standing.applied(), 4);
            }
            release.send(()).unwrap();
            applying.await.unwrap();
        }
        taken.await.unwrap().unwrap();
        assert_eq!(guard.standing.applied(), 5);
        let (revision, left) = dump(&guard.reader);
        let key = |row| KeyValueRef::decode(row).unwrap().key;
        assert_eq!(revision, before.0 + 3);
        assert_eq!(
            left.iter().map(|row| key(row)).collect::<Vec<_>>(),
            [b"new".as_slice(), b"newer"]
        );
    });
}
