//! What all services of a member share: its configuration, its state to read, consensus to write through, and the
//! rules that hold for every request. One instance; every shard has a handle.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use keystead_mvcc::Read;
use keystead_proto::etcdserverpb::alarm_request::AlarmAction;
use keystead_proto::etcdserverpb::{AlarmRequest, AlarmType, ResponseHeader};
use keystead_proto::internal::{Record, RecordKind};
use keystead_raft::{Consensus, ReplySink};
use keystead_state::{Outcome, Reader, Refusal};
use prost::Message;
use tokio::sync::watch;

use crate::auth::{Caller, Passwords, Tokens};
use crate::config::Config;
use crate::header::Headers;
use crate::net::grpc::Metadata;

/// Bytes of etcd's own envelope around a request in the log: its limit counts them, so ours does.
const ENVELOPE_BYTES: usize = 18;

/// The shared parts.
pub struct Member {
    /// What the member was started with.
    pub config: Config,
    /// Makes every response header.
    pub headers: Arc<Headers>,
    /// The applied state.
    pub reader: Reader,
    /// The way to write, and to read what is current.
    pub consensus: Consensus,
    /// What says who a client is.
    pub(crate) tokens: Arc<Tokens>,
    /// What a client says once to get a token.
    pub(crate) passwords: Passwords,
    /// Set when the member has been current for the first time since it started.
    pub(crate) was_current: AtomicBool,
    /// Turns true when the member begins to stop: streams end then.
    pub stopping: watch::Receiver<bool>,
}

impl Member {
    /// Refuses what asks for a leader while this member knows none.
    ///
    /// # Errors
    /// [`Refusal::NoLeader`].
    pub fn require_leader(&self, metadata: &Metadata) -> Result<(), Refusal> {
        if metadata.require_leader && self.consensus.status().leader == 0 {
            return Err(Refusal::NoLeader);
        }
        Ok(())
    }

    /// The header of an answer as of now.
    pub fn header(&self) -> ResponseHeader {
        self.headers.at(self.reader.store().current())
    }

    /// The record that proposes a request, given as its encoded message.
    ///
    /// # Errors
    /// [`Refusal::RequestTooLarge`].
    pub fn record(&self, kind: RecordKind, payload: Bytes) -> Result<Record, Refusal> {
        if payload.len() + ENVELOPE_BYTES > self.config.max_request_bytes {
            return Err(Refusal::RequestTooLarge);
        }
        Ok(Record {
            kind: kind.into(),
            payload,
            ..Record::default()
        })
    }

    /// Proposes one request of a caller's and waits for what became of it.
    pub(crate) async fn propose_for(
        &self,
        caller: &Caller,
        kind: RecordKind,
        payload: Bytes,
    ) -> Outcome {
        let mut record = self.record(kind, payload)?;
        caller.sign(&mut record);
        self.consensus.propose_one(record).await
    }

    /// Proposes one request of the member's own and waits for what became of it.
    pub async fn propose(&self, kind: RecordKind, payload: Bytes) -> Outcome {
        self.consensus
            .propose_one(self.record(kind, payload)?)
            .await
    }

    /// Refuses a request that the quota has no room for, and raises NOSPACE then, as etcd does: the state itself
    /// refuses only once the alarm is applied.
    ///
    /// # Errors
    /// [`Refusal::NoSpace`].
    pub fn admit_cost(&self, cost: u64) -> Result<(), Refusal> {
        if cost > 0 && self.reader.no_space() {
            // The state would refuse it too; refused here it takes no room in the log.
            return Err(Refusal::NoSpace);
        }
        if !self.reader.over_quota(cost) {
            return Ok(());
        }
        let ours = |member_id, alarm| {
            member_id == self.headers.member_id() && alarm == AlarmType::Nospace as i32
        };
        if !self
            .reader
            .alarms()
            .iter()
            .any(|alarm| ours(alarm.member_id, alarm.alarm))
        {
            self.raise_no_space();
        }
        Err(Refusal::NoSpace)
    }

    /// How long a call may wait: the server's limit, or the client's when it is shorter.
    pub fn patience(&self, metadata: &Metadata) -> Duration {
        let limit = self.config.request_timeout();
        metadata.timeout.map_or(limit, |timeout| timeout.min(limit))
    }

    fn raise_no_space(&self) {
        let request = AlarmRequest {
            action: AlarmAction::Activate.into(),
            member_id: self.headers.member_id(),
            alarm: AlarmType::Nospace.into(),
        };
        if let Ok(record) = self.record(RecordKind::Alarm, request.encode_to_vec().into()) {
            tracing::warn!("the quota is used up: raising NOSPACE");
            let nobody: Arc<dyn ReplySink> = Arc::new(Nobody);
            self.consensus.propose(&nobody, vec![(0, record)]);
        }
    }
}

/// Waits for no reply: the alarm is proposed again by the next request that finds the quota used up.
struct Nobody;

impl ReplySink for Nobody {
    fn deliver(&self, _replies: Vec<(u64, Outcome)>) {}
}
