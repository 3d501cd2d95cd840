//! The state as simply as it can be said: a map of keys for each revision, all in memory, nothing shared, nothing lazy.
//!
//! It answers the same records with the same replies, and knows nothing of how the store keeps its rows.

use std::collections::BTreeMap;

use bytes::Bytes;
use keystead_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use keystead_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use keystead_proto::etcdserverpb::request_op::Request;
use keystead_proto::etcdserverpb::response_op::Response;
use keystead_proto::etcdserverpb::*;
use keystead_proto::internal::{Record, RecordKind};
use keystead_proto::mvccpb::KeyValue;
use keystead_state::{LeaseFacts, Outcome, Refusal, Reply};
use prost::Message;

type Keys = BTreeMap<Bytes, KeyValue>;

#[derive(Default)]
pub struct Model {
    /// The keys at revision 1 and each one after it.
    revisions: Vec<Keys>,
    compacted: i64,
    leases: BTreeMap<i64, LeaseFacts>,
}

impl Model {
    pub fn new() -> Self {
        Self {
            revisions: vec![Keys::new()],
            compacted: -1,
            leases: BTreeMap::new(),
        }
    }

    pub fn current(&self) -> i64 {
        self.revisions.len() as i64
    }

    pub fn leases(&self) -> Vec<(i64, LeaseFacts)> {
        self.leases
            .iter()
            .map(|(id, facts)| (*id, *facts))
            .collect()
    }

    pub fn lease_keys(&self, id: i64) -> Vec<Bytes> {
        self.latest()
            .values()
            .filter(|kv| kv.lease == id)
            .map(|kv| kv.key.clone())
            .collect()
    }

    fn latest(&self) -> &Keys {
        self.revisions.last().expect("there is a first revision")
    }

    pub fn apply(&mut self, record: &Record) -> Outcome {
        let payload = || record.payload.clone();
        let mut draft = Draft {
            model: self,
            keys: None,
        };
        let outcome = match record.kind() {
            RecordKind::Put => draft.put(&decode(payload())).map(Reply::Put),
            RecordKind::DeleteRange => Ok(Reply::DeleteRange(draft.delete(&decode(payload())))),
            RecordKind::Txn => draft.txn(&decode(payload())).map(Reply::Txn),
            RecordKind::Compaction => draft.compact(&decode(payload())).map(Reply::Compaction),
            RecordKind::LeaseGrant => draft.grant(&decode(payload())).map(Reply::LeaseGrant),
            RecordKind::LeaseRevoke => draft.revoke(&decode(payload())).map(Reply::LeaseRevoke),
            RecordKind::LeaseCheckpoint => Ok(draft.checkpoint(&decode(payload()))),
            kind => panic!("{kind:?} is not modelled"),
        };
        if let Some(keys) = draft.keys {
            self.revisions.push(keys);
        }
        outcome
    }

    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Refusal> {
        self.range_in(None, request)
    }

    fn range_in(
        &self,
        written: Option<&Keys>,
        request: &RangeRequest,
    ) -> Result<RangeResponse, Refusal> {
        let current = self.current() + i64::from(written.is_some());
        if request.revision > current {
            return Err(Refusal::FutureRevision);
        }
        let at = if request.revision <= 0 {
            current
        } else {
            request.revision
        };
        if at < self.compacted {
            return Err(Refusal::Compacted);
        }
        let keys = if at > self.current() {
            written
        } else {
            self.revisions.get(at as usize - 1)
        };
        let mut kvs: Vec<KeyValue> = keys
            .expect("the revision exists")
            .values()
            .cloned()
            .collect();
        kvs.retain(|kv| within(&kv.key, &request.key, &request.range_end));
        let count = kvs.len() as i64;
        let header = Some(ResponseHeader {
            revision: current,
            ..Default::default()
        });
        if request.count_only {
            return Ok(RangeResponse {
                header,
                kvs: Vec::new(),
                more: false,
                count,
            });
        }
        let limit = if request.limit > 0 {
            request.limit as usize
        } else {
            usize::MAX
        };
        let unset = |bound: i64, default: i64| if bound == 0 { default } else { bound };
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        kvs.retain(|kv| {
            kv.mod_revision >= unset(filters[0], i64::MIN)
                && kv.mod_revision <= unset(filters[1], i64::MAX)
                && kv.create_revision >= unset(filters[2], i64::MIN)
                && kv.create_revision <= unset(filters[3], i64::MAX)
        });
        if request.sort_order() == SortOrder::None && filters == [0; 4] {
            kvs.truncate(limit.saturating_add(1));
        }
        kvs.sort_by(|a, b| {
            let ordering = match request.sort_target() {
                SortTarget::Key => a.key.cmp(&b.key),
                SortTarget::Version => a.version.cmp(&b.version),
                SortTarget::Create => a.create_revision.cmp(&b.create_revision),
                SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
                SortTarget::Value => a.value.cmp(&b.value),
            };
            if request.sort_order() == SortOrder::Descend {
                ordering.reverse()
            } else {
                ordering
            }
        });
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        Ok(RangeResponse {
            header,
            kvs,
            more,
            count,
        })
    }
}

fn decode<M: Message + Default>(payload: Bytes) -> M {
    M::decode(payload).expect("the program's records are sound")
}

fn within(key: &[u8], from: &[u8], end: &[u8]) -> bool {
    match end {
        b"" => key == from,
        b"\0" => key >= from,
        _ => key >= from && key < end,
    }
}

/// One record at work: the keys as it leaves them, once it wrote anything.
struct Draft<'a> {
    model: &'a mut Model,
    keys: Option<Keys>,
}

impl Draft<'_> {
    fn now(&self) -> &Keys {
        self.keys.as_ref().unwrap_or_else(|| self.model.latest())
    }

    fn header(&self) -> Option<ResponseHeader> {
        let revision = self.model.current() + i64::from(self.keys.is_some());
        Some(ResponseHeader {
            revision,
            ..Default::default()
        })
    }

    fn writing(&mut self) -> (&mut Keys, i64) {
        let revision = self.model.current() + 1;
        (
            self.keys.get_or_insert_with(|| self.model.latest().clone()),
            revision,
        )
    }

    fn put(&mut self, request: &PutRequest) -> Result<PutResponse, Refusal> {
        if request.lease != 0 && !self.model.leases.contains_key(&request.lease) {
            return Err(Refusal::LeaseNotFound);
        }
        let keeps = request.ignore_value || request.ignore_lease;
        if keeps && !self.now().contains_key(&request.key) {
            return Err(Refusal::KeyNotFound);
        }
        Ok(self.write(request))
    }

    fn write(&mut self, request: &PutRequest) -> PutResponse {
        let before = self.now().get(&request.key).cloned();
        let old = before.clone().unwrap_or_default();
        let (keys, revision) = self.writing();
        let kv = KeyValue {
            key: request.key.clone(),
            create_revision: if before.is_some() {
                old.create_revision
            } else {
                revision
            },
            mod_revision: revision,
            version: old.version + 1,
            value: if request.ignore_value {
                old.value
            } else {
                request.value.clone()
            },
            lease: if request.ignore_lease {
                old.lease
            } else {
                request.lease
            },
        };
        keys.insert(kv.key.clone(), kv);
        PutResponse {
            header: self.header(),
            prev_kv: before.filter(|_| request.prev_kv),
        }
    }

    fn delete(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let mut gone: Vec<KeyValue> = self.now().values().cloned().collect();
        gone.retain(|kv| within(&kv.key, &request.key, &request.range_end));
        for kv in &gone {
            self.writing().0.remove(&kv.key);
        }
        let deleted = gone.len() as i64;
        DeleteRangeResponse {
            header: self.header(),
            deleted,
            prev_kvs: if request.prev_kv { gone } else { vec![] },
        }
    }

    fn compact(&mut self, request: &CompactionRequest) -> Result<CompactionResponse, Refusal> {
        if request.revision <= self.model.compacted {
            return Err(Refusal::Compacted);
        }
        if request.revision > self.model.current() {
            return Err(Refusal::FutureRevision);
        }
        self.model.compacted = request.revision;
        Ok(CompactionResponse {
            header: self.header(),
        })
    }

    fn grant(&mut self, request: &LeaseGrantRequest) -> Result<LeaseGrantResponse, Refusal> {
        if self.model.leases.contains_key(&request.id) {
            return Err(Refusal::LeaseExists);
        }
        self.model
            .leases
            .insert(request.id, LeaseFacts::granted(request.ttl));
        Ok(LeaseGrantResponse {
            header: self.header(),
            id: request.id,
            ttl: request.ttl,
            error: String::new(),
        })
    }

    fn revoke(&mut self, request: &LeaseRevokeRequest) -> Result<LeaseRevokeResponse, Refusal> {
        self.model
            .leases
            .remove(&request.id)
            .ok_or(Refusal::LeaseNotFound)?;
        for key in self.model.lease_keys(request.id) {
            self.writing().0.remove(&key);
        }
        Ok(LeaseRevokeResponse {
            header: self.header(),
        })
    }

    fn checkpoint(&mut self, request: &LeaseCheckpointRequest) -> Reply {
        for LeaseCheckpoint { id, remaining_ttl } in &request.checkpoints {
            if let Some(facts) = self.model.leases.get_mut(id) {
                facts.left_secs = (*remaining_ttl > 0).then_some(*remaining_ttl);
            }
        }
        Reply::Done {
            revision: self.model.current(),
        }
    }

    fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
        let before = self.model.latest().clone();
        self.verify(&before, request)?;
        let mut response = self.run(&before, request);
        response.header = self.header();
        Ok(response)
    }

    fn verify(&self, before: &Keys, request: &TxnRequest) -> Result<(), Refusal> {
        for op in chosen(before, request).1 {
            match op.request.as_ref().expect("every operation has a kind") {
                Request::RequestRange(range) => match range.revision {
                    0 => {}
                    revision if revision > self.model.current() => {
                        return Err(Refusal::FutureRevision);
                    }
                    revision if revision < self.model.compacted => return Err(Refusal::Compacted),
                    _ => {}
                },
                Request::RequestPut(put) => {
                    let keeps = put.ignore_value || put.ignore_lease;
                    if keeps && !before.contains_key(&put.key) {
                        return Err(Refusal::KeyNotFound);
                    }
                    if put.lease != 0 && !self.model.leases.contains_key(&put.lease) {
                        return Err(Refusal::LeaseNotFound);
                    }
                }
                Request::RequestDeleteRange(_) => {}
                Request::RequestTxn(nested) => self.verify(before, nested)?,
            }
        }
        Ok(())
    }

    fn run(&mut self, before: &Keys, request: &TxnRequest) -> TxnResponse {
        let (succeeded, ops) = chosen(before, request);
        let mut responses = Vec::new();
        for op in ops {
            let response = match op.request.as_ref().expect("every operation has a kind") {
                Request::RequestRange(range) => {
                    let written = self.keys.as_ref();
                    Response::ResponseRange(self.model.range_in(written, range).expect("verified"))
                }
                Request::RequestPut(put) => Response::ResponsePut(self.write(put)),
                Request::RequestDeleteRange(delete) => {
                    Response::ResponseDeleteRange(self.delete(delete))
                }
                Request::RequestTxn(nested) => Response::ResponseTxn(self.run(before, nested)),
            };
            responses.push(ResponseOp {
                response: Some(response),
            });
        }
        TxnResponse {
            header: Some(ResponseHeader::default()),
            succeeded,
            responses,
        }
    }
}

fn chosen<'r>(before: &Keys, request: &'r TxnRequest) -> (bool, &'r [RequestOp]) {
    let succeeded = request.compare.iter().all(|compare| holds(before, compare));
    (
        succeeded,
        if succeeded {
            &request.success
        } else {
            &request.failure
        },
    )
}

fn holds(before: &Keys, compare: &Compare) -> bool {
    let mut kvs: Vec<_> = before.values().cloned().collect();
    kvs.retain(|kv| within(&kv.key, &compare.key, &compare.range_end));
    if kvs.is_empty() {
        if compare.target() == CompareTarget::Value {
            return false;
        }
        kvs.push(KeyValue::default());
    }
    kvs.iter().all(|kv| {
        let given = compare
            .target_union
            .as_ref()
            .expect("every compare has a target");
        let ordering = match given {
            TargetUnion::Version(given) => kv.version.cmp(given),
            TargetUnion::CreateRevision(given) => kv.create_revision.cmp(given),
            TargetUnion::ModRevision(given) => kv.mod_revision.cmp(given),
            TargetUnion::Value(given) => kv.value.cmp(given),
            TargetUnion::Lease(given) => kv.lease.cmp(given),
        };
        match compare.result() {
            CompareResult::Equal => ordering.is_eq(),
            CompareResult::Greater => ordering.is_gt(),
            CompareResult::Less => ordering.is_lt(),
            CompareResult::NotEqual => ordering.is_ne(),
        }
    })
}
