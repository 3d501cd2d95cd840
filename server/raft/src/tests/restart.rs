//! What a restart finds: everything that was acknowledged, however the member ended.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use super::{Collected, config, dump, eventually, kill, propose, put, revision, start, stop};
use crate::{ReplySink, StartError};

/// Proposals that wait for their answer at once.
const IN_FLIGHT: usize = 16;

#[test]
fn every_acknowledged_record_is_there_after_a_kill() {
    let tmp = tempfile::tempdir().unwrap();
    let mut last = 1;
    for round in 0..6 {
        // Every other round the flusher has no time to do anything.
        let flush_interval = Duration::from_secs(if round % 2 == 0 { 3600 } else { 0 });
        let (consensus, reader) = start(crate::Config {
            flush_interval,
            ..config(tmp.path())
        });
        assert_eq!(dump(&reader).0, last, "before round {round}");
        let outcomes = propose(
            &consensus,
            (0..50)
                .map(|n| put(&format!("r{round}-{n}"), "v"))
                .collect(),
        );
        last = revision(outcomes.last().unwrap());
        kill(consensus);
    }
    let (consensus, reader) = start(config(tmp.path()));
    assert_eq!(dump(&reader).1.len(), 300);
    stop(consensus);
}

#[test]
fn the_same_log_gives_the_same_state_wherever_it_was_cut_and_flushed() {
    let records = || (0..400).map(|n| put(&format!("k{}", n * 7 % 83), &format!("v{n}")));
    let whole = tempfile::tempdir().unwrap();
    let (consensus, reader) = start(config(whole.path()));
    propose(&consensus, records().collect());
    let expected = (dump(&reader), reader.store().hash_kv(0).unwrap());
    stop(consensus);
    for cut in [1, 37, 130] {
        let tmp = tempfile::tempdir().unwrap();
        let records: Vec<_> = records().collect();
        for (round, part) in records.chunks(cut).enumerate().take(400 / cut + 1) {
            let flush_interval = Duration::from_millis([0, 1, 3_600_000][round % 3]);
            let (consensus, _) = start(crate::Config {
                flush_interval,
                ..config(tmp.path())
            });
            propose(&consensus, part.to_vec());
            if round % 5 == 4 {
                stop(consensus)
            } else {
                kill(consensus)
            }
            if cut == 1 && round == 24 {
                let (consensus, _) = start(config(tmp.path()));
                propose(&consensus, records[25..].to_vec());
                stop(consensus);
                break;
            }
        }
        let (consensus, reader) = start(config(tmp.path()));
        assert_eq!(
            (dump(&reader), reader.store().hash_kv(0).unwrap()),
            expected,
            "cut every {cut}"
        );
        stop(consensus);
    }
}

#[test]
fn a_kill_right_after_a_load_leaves_few_rows_to_read() {
    let tmp = tempfile::tempdir().unwrap();
    let (consensus, _) = start(config(tmp.path()));
    for part in 0..6 {
        let key = |n| put(&format!("{}", part * 10_000 + n), "v");
        propose(&consensus, (0..10_000).map(key).collect());
    }
    // None is due by time. One that was begun during the load is put in place by the last flush.
    eventually("all is flushed and the index is written down", || {
        let store = consensus.counters().store;
        store.rows_flushed == 60_000 && store.checkpoints > 0
    });
    kill(consensus);
    let (consensus, reader) = start(config(tmp.path()));
    let read = consensus.counters().store.rows_read_at_start;
    assert!(read <= 10_000, "{read} rows of 60,000");
    assert_eq!(dump(&reader).1.len(), 60_000);
    stop(consensus);
}

#[test]
fn a_clean_stop_leaves_nothing_to_replay() {
    let tmp = tempfile::tempdir().unwrap();
    let (consensus, _) = start(config(tmp.path()));
    propose(&consensus, vec![put("k", "v")]);
    let applied = consensus.status().applied_index;
    stop(consensus);
    let (consensus, reader) = start(config(tmp.path()));
    // The new term's own entry and nothing else.
    assert_eq!(consensus.status().applied_index, applied + 1);
    assert_eq!(dump(&reader).1.len(), 1);
    stop(consensus);
}

#[test]
fn a_torn_tail_is_dropped_and_what_was_acknowledged_stays() {
    let tmp = tempfile::tempdir().unwrap();
    let quiet = || crate::Config {
        flush_interval: Duration::from_secs(3600),
        ..config(tmp.path())
    };
    let (consensus, _) = start(quiet());
    propose(&consensus, vec![put("k", "v")]);
    kill(consensus);
    // Half of a batch that was being written when the power went: it follows the last whole one.
    for file in fs::read_dir(quiet().data_dir.join("wal")).unwrap() {
        let path = file.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let end = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| (last / 512 + 1) * 512);
        if end > 0 {
            let torn = &bytes[end.saturating_sub(512)..][..200];
            OpenOptions::new()
                .write(true)
                .open(&path)
                .unwrap()
                .write_all_at(torn, end as u64)
                .unwrap();
        }
    }
    let (consensus, reader) = start(quiet());
    assert_eq!(dump(&reader).1.len(), 1);
    assert_eq!(revision(&propose(&consensus, vec![put("k", "w")])[0]), 3);
    stop(consensus);
}

#[test]
fn the_log_is_purged_behind_the_store_and_a_restart_goes_on() {
    let tmp = tempfile::tempdir().unwrap();
    let (consensus, _) = start(config(tmp.path()));
    let value = "x".repeat(4096);
    let mut written = 0;
    eventually("a purge", || {
        propose(
            &consensus,
            (0..64).map(|n| put(&format!("k{n}"), &value)).collect(),
        );
        written += 64;
        consensus.counters().log.purges > 0
    });
    kill(consensus);
    let (consensus, reader) = start(config(tmp.path()));
    assert_eq!(dump(&reader).0, 1 + written);
    stop(consensus);
}

#[test]
fn a_kill_under_load_never_finds_the_log_purged_past_the_store() {
    let tmp = tempfile::tempdir().unwrap();
    let value = "x".repeat(4096);
    let mut acknowledged = 1;
    for round in 0..6 {
        let (consensus, reader) = start(config(tmp.path()));
        assert!(dump(&reader).0 >= acknowledged, "before round {round}");
        let collected = Arc::new(Collected::default());
        let sink: Arc<dyn ReplySink> = collected.clone();
        // Apply goes on while the flush is made that the purge rests on.
        let mut proposed = 0;
        while consensus.counters().log.purges == 0 {
            for token in proposed..proposed + IN_FLIGHT {
                consensus.propose(&sink, vec![(token as u64, put("k", &value))]);
            }
            collected.wait_for(proposed);
            proposed += IN_FLIGHT;
        }
        let replies = collected.wait_for(0);
        let revisions = replies.iter().map(|(_, outcome)| revision(outcome));
        acknowledged = revisions.fold(acknowledged, i64::max);
        kill(consensus);
    }
    let (consensus, reader) = start(config(tmp.path()));
    assert!(dump(&reader).0 >= acknowledged);
    stop(consensus);
}

#[test]
fn a_store_without_its_log_and_a_log_without_its_store_are_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let (consensus, _) = start(config(tmp.path()));
    let value = "x".repeat(4096);
    eventually("a purge", || {
        propose(
            &consensus,
            (0..64).map(|n| put(&format!("k{n}"), &value)).collect(),
        );
        consensus.counters().log.purges > 0
    });
    stop(consensus);
    let data = config(tmp.path()).data_dir;
    let sentence = |part: &str| {
        let (here, away) = (data.join(part), tmp.path().join("away"));
        fs::rename(&here, &away).unwrap();
        let refused = match crate::Consensus::start(
            config(tmp.path()),
            Vec::new(),
            Arc::new(super::Nobody),
        ) {
            Err(StartError::Apart(sentence)) => sentence,
            Err(other) => panic!("refused for another reason: {other}"),
            Ok(_) => panic!("started without {part}"),
        };
        fs::remove_dir_all(&here).unwrap();
        fs::rename(&away, &here).unwrap();
        refused
    };
    assert!(sentence("wal").contains("and the log ends after 0"));
    assert!(sentence("store").contains("the store holds 0 log entries and the log begins after"));
    let (consensus, _) = start(config(tmp.path()));
    stop(consensus);
}
