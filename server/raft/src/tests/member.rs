//! One running member: order, grouping, bounds and what a caller hears.

use std::sync::Arc;
use std::time::Duration;

use keystead_state::Refusal;

use super::{Collected, compact, config, dump, propose, put, revision, start, stop};
use crate::{ReplySink, StartError};

#[test]
fn revisions_follow_the_order_of_the_records() {
    let tmp = tempfile::tempdir().unwrap();
    let (consensus, reader) = start(config(tmp.path()));
    let outcomes = propose(
        &consensus,
        (0..1000).map(|n| put(&format!("k{n:04}"), "v")).collect(),
    );
    let revisions: Vec<i64> = outcomes.iter().map(revision).collect();
    assert_eq!(revisions, (2..1002).collect::<Vec<i64>>());
    assert_eq!(dump(&reader).0, 1001);
    stop(consensus);
}

#[test]
fn a_lone_voter_leads_and_reads_without_asking_when_start_returns() {
    let tmp = tempfile::tempdir().unwrap();
    let (consensus, _) = start(config(tmp.path()));
    assert_eq!(consensus.try_read_barrier(), Some(Ok(())));
    let status = consensus.status();
    assert!(status.is_leader && !status.is_learner);
    assert_eq!(status.leader, super::ME.member_id);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    assert_eq!(
        runtime.block_on(consensus.0.reads.barrier()),
        Ok(()),
        "a round of its own gives the same answer"
    );
    stop(consensus);
}

#[test]
fn what_one_entry_answers_for_one_sink_comes_in_one_call() {
    let tmp = tempfile::tempdir().unwrap();
    let (consensus, _) = start(config(tmp.path()));
    let collected = Arc::new(Collected::default());
    let sink: Arc<dyn ReplySink> = collected.clone();
    for call in 0..100 {
        consensus.propose(
            &sink,
            vec![(2 * call, put("a", "1")), (2 * call + 1, put("b", "2"))],
        );
    }
    let replies = collected.wait_for(200);
    let tokens: Vec<u64> = replies.iter().map(|(token, _)| *token).collect();
    assert_eq!(tokens, (0..200).collect::<Vec<u64>>());
    let entries = consensus.status().last_log_index;
    assert!(collected.deliveries.lock().len() as u64 <= entries);
    stop(consensus);
}

#[test]
fn the_queue_is_bounded_and_says_so_at_once() {
    let tmp = tempfile::tempdir().unwrap();
    let (consensus, _) = start(config(tmp.path()));
    let collected = Arc::new(Collected::default());
    let sink: Arc<dyn ReplySink> = collected.clone();
    consensus.propose(
        &sink,
        (0..20_000).map(|token| (token, put("k", "v"))).collect(),
    );
    let replies = collected.wait_for(20_000);
    assert!(
        replies
            .iter()
            .all(|(_, outcome)| *outcome == Err(Refusal::TooManyRequests))
    );
    assert_eq!(
        propose(&consensus, vec![put("k", "v")])
            .iter()
            .map(revision)
            .collect::<Vec<_>>(),
        [2]
    );
    stop(consensus);
}

#[test]
fn a_clean_stop_answers_what_was_proposed_and_refuses_the_rest() {
    let tmp = tempfile::tempdir().unwrap();
    let (consensus, reader) = start(config(tmp.path()));
    let collected = Arc::new(Collected::default());
    let sink: Arc<dyn ReplySink> = collected.clone();
    consensus.propose(
        &sink,
        (0..5000).map(|token| (token, put("k", "v"))).collect(),
    );
    let later = consensus.clone();
    stop(consensus);
    let replies = collected.wait_for(5000);
    assert!(replies.iter().all(|(_, outcome)| outcome.is_ok()));
    assert_eq!(dump(&reader).0, 5001);
    assert_eq!(
        propose(&later, vec![put("k", "v")]),
        [Err(Refusal::Stopped)]
    );
    assert_eq!(later.counters().store.checkpoints, 1);
}

#[test]
fn a_second_member_on_the_same_directory_is_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let (consensus, _) = start(config(tmp.path()));
    let second = crate::Consensus::start(config(tmp.path()), Vec::new(), Arc::new(super::Nobody));
    assert!(matches!(
        second,
        Err(StartError::DataDir(crate::DataDirError::InUse(_)))
    ));
    stop(consensus);
}

#[test]
fn compacted_rows_go_and_the_store_is_defragmented_while_it_serves() {
    let tmp = tempfile::tempdir().unwrap();
    let (consensus, reader) = start(config(tmp.path()));
    propose(
        &consensus,
        (0..900).map(|n| put(&format!("k{}", n % 9), "v")).collect(),
    );
    assert!(propose(&consensus, vec![compact(890)])[0].is_ok());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let compacted = consensus.physically_compacted(890);
        tokio::time::timeout(Duration::from_secs(20), compacted)
            .await
            .unwrap();
        consensus.defragment().await.unwrap();
    });
    let counters = consensus.counters().store;
    assert!(counters.rows_removed >= 800, "{counters:?}");
    assert_eq!(counters.defragmentations, 1);
    assert_eq!(dump(&reader).1.len(), 9);
    assert_eq!(revision(&propose(&consensus, vec![put("k0", "w")])[0]), 902);
    stop(consensus);
}
