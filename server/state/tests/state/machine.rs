//! A state on a store in a temporary directory, fed with records, one entry of the log after the other.

use bytes::Bytes;
use keystead_mvcc::{Flusher, Options, Store};
use keystead_proto::etcdserverpb::{Member, RangeRequest, TxnRequest};
use keystead_proto::internal::Record;
use keystead_state::{Applied, Limits, Outcome, Reader, Requests, State, range, txn};
use tempfile::TempDir;

use crate::records::show;

pub struct Machine {
    pub state: State,
    pub reader: Reader,
    pub flusher: Flusher,
    pub position: u64,
    dir: TempDir,
}

impl Machine {
    pub fn new() -> Self {
        Self::open(
            tempfile::tempdir().expect("a temporary directory"),
            Limits::default(),
        )
    }

    pub fn with_quota(quota_bytes: i64) -> Self {
        Self::open(
            tempfile::tempdir().expect("a temporary directory"),
            Limits { quota_bytes },
        )
    }

    fn open(dir: TempDir, limits: Limits) -> Self {
        let opened = Store::open(dir.path(), &Options::default()).expect("the store opens");
        let (state, reader) =
            State::open(opened.store, opened.writer, limits).expect("the state opens");
        Self {
            state,
            reader,
            flusher: opened.flusher,
            position: opened.position,
            dir,
        }
    }

    /// Flushes, stops and starts again from what was flushed.
    pub fn restart(mut self) -> Self {
        self.flusher.flush(self.position).expect("flushes");
        let Self {
            state,
            reader,
            flusher,
            dir,
            ..
        } = self;
        drop((state, reader, flusher));
        Self::open(dir, Limits::default())
    }

    /// Applies one entry.
    pub fn entry(&mut self, records: &[Record]) -> Applied {
        self.apply_all(Requests::read(records).expect("records"))
    }

    /// Applies an entry that changes who the members are.
    pub fn change_members(&mut self, members: Vec<Member>) -> Applied {
        self.apply_all(Requests::membership(members))
    }

    fn apply_all(&mut self, requests: Requests) -> Applied {
        self.position += 1;
        let applied = Bytes::copy_from_slice(&self.position.to_be_bytes());
        self.state
            .apply(self.position, applied, requests)
            .expect("the entry is sound")
    }

    /// Applies one record as an entry of its own.
    pub fn apply(&mut self, record: Record) -> Outcome {
        self.entry(&[record]).outcomes.remove(0)
    }

    /// Applies records one by one and holds each answer, as [`show`] puts it, against the expected one.
    #[track_caller]
    pub fn script<const N: usize>(&mut self, steps: [(Record, &str); N]) {
        for (at, (record, expected)) in steps.into_iter().enumerate() {
            assert_eq!(show(&self.apply(record)), expected, "step {at}");
        }
    }

    /// What a range answers, as [`show`] puts it.
    pub fn range(&self, request: &RangeRequest) -> String {
        let answer = range::range(&self.reader.store().view(), request);
        match answer.and_then(|answer| answer.into_response()) {
            Ok(response) => crate::records::show_range(&response),
            Err(refusal) => format!("{refusal:?}"),
        }
    }

    /// What a read-only transaction answers outside of the log.
    pub fn read(&self, request: &TxnRequest) -> String {
        match txn::read(&self.reader.store().view(), request) {
            Ok(response) => crate::records::show_txn(&response),
            Err(refusal) => format!("{refusal:?}"),
        }
    }
}
