//! The whole member, from proposals to what a restart finds.

mod cluster;
mod ending;
mod log_storage;
mod machine;
mod member;
mod membership;
mod reads;
mod restart;
mod space;
mod standing;
mod storage_suite;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use keystead_mvcc::{Query, Read as _};
use keystead_proto::etcdserverpb::{CompactionRequest, PutRequest};
use keystead_proto::internal::{Record, RecordKind};
use keystead_state::{Applied, Limits, Outcome, Reader, Reply};
use parking_lot::Mutex;
use prost::Message as _;

use crate::{
    Answering, Config, Consensus, DataDirError, Identity, Observer, ReplySink, StartError,
};

pub(super) const ME: Identity = Identity {
    cluster_id: 0xc1,
    member_id: 0x8e9e05c52164694d,
};

/// Small enough that everything happens within a test.
pub(super) fn config(dir: &Path) -> Config {
    Config {
        wal_segment_bytes: 1 << 20,
        wal_retained_bytes: 64 << 10,
        election_timeout: Duration::from_millis(200),
        heartbeat: Duration::from_millis(20),
        flush_interval: Duration::from_millis(100),
        unflushed_limit_bytes: 32 << 20,
        ..Config::at(dir.join("data"), ME, Limits::default())
    }
}

pub(super) struct Nobody;

impl Observer for Nobody {
    fn restored(&self, _: &Reader) {}

    fn removed(&self) {}

    fn asked(&self, _: Bytes) -> Answering {
        Box::pin(std::future::ready(None))
    }

    fn applied(&self, _: crate::wal::EntryId, _: &Applied) {}

    fn leader_changed(&self, _: bool, _: u64) {}
}

pub(super) fn start(config: Config) -> (Consensus, Reader) {
    let limit = Instant::now() + Duration::from_secs(2);
    loop {
        match Consensus::start(config.clone(), Vec::new(), Arc::new(Nobody)) {
            // A child of another test's, between its fork and its exec, holds the lock that the last member let go.
            Err(StartError::DataDir(DataDirError::InUse(_))) if Instant::now() < limit => {
                std::thread::sleep(Duration::from_millis(5));
            }
            started => return started.unwrap(),
        }
    }
}

pub(super) fn put(key: &str, value: &str) -> Record {
    let put = PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..Default::default()
    };
    Record {
        kind: RecordKind::Put as i32,
        payload: put.encode_to_vec().into(),
        ..Default::default()
    }
}

pub(super) fn compact(revision: i64) -> Record {
    let request = CompactionRequest {
        revision,
        ..Default::default()
    };
    Record {
        kind: RecordKind::Compaction as i32,
        payload: request.encode_to_vec().into(),
        ..Default::default()
    }
}

/// Collects replies, and lets a test wait for them.
#[derive(Default)]
pub(super) struct Collected {
    replies: Mutex<Vec<(u64, Outcome)>>,
    deliveries: Mutex<Vec<usize>>,
    more: parking_lot::Condvar,
}

impl ReplySink for Collected {
    fn deliver(&self, replies: Vec<(u64, Outcome)>) {
        self.deliveries.lock().push(replies.len());
        self.replies.lock().extend(replies);
        self.more.notify_all();
    }
}

impl Collected {
    pub(super) fn wait_for(&self, count: usize) -> Vec<(u64, Outcome)> {
        let limit = Instant::now() + Duration::from_secs(20);
        let mut replies = self.replies.lock();
        while replies.len() < count {
            assert!(
                !self.more.wait_until(&mut replies, limit).timed_out(),
                "only {} of {count} replies",
                replies.len()
            );
        }
        replies.clone()
    }
}

/// Proposes and waits: the outcomes in the order of the records.
pub(super) fn propose(consensus: &Consensus, records: Vec<Record>) -> Vec<Outcome> {
    let collected = Arc::new(Collected::default());
    let sink: Arc<dyn ReplySink> = collected.clone();
    let count = records.len();
    consensus.propose(&sink, (0..).zip(records).collect());
    let mut replies = collected.wait_for(count);
    replies.sort_by_key(|(token, _)| *token);
    replies.into_iter().map(|(_, outcome)| outcome).collect()
}

pub(super) fn revision(outcome: &Outcome) -> i64 {
    match outcome {
        Ok(Reply::Put(response)) => response.header.as_ref().unwrap().revision,
        other => panic!("not an answer to a put: {other:?}"),
    }
}

/// Everything a reader sees now: revision, keys, values.
pub(super) fn dump(reader: &Reader) -> (i64, Vec<Bytes>) {
    let query = Query {
        key: b"\0",
        end: b"\0",
        revision: 0,
        limit: 0,
        count_only: false,
    };
    let page = reader.store().view().read(&query).unwrap();
    (
        page.revision,
        page.rows.into_iter().map(|row| row.payload).collect(),
    )
}

pub(super) fn stop(consensus: Consensus) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(consensus.shutdown());
}

/// Ends the member as kill -9 would: nothing more is flushed.
pub(super) fn kill(consensus: Consensus) {
    drop(consensus);
}

pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < limit, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
