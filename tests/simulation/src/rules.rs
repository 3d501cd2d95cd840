//! The rules of safety, checked while members and clients tell what they do. Each names the function that checks it:
//!
//! | rule | checked by |
//! |---|---|
//! | one leader a term | [`Facts::leads`] |
//! | a leader has all that was committed in earlier terms | `Facts::check_complete` |
//! | logs that agree on an entry agree on all before it | [`Facts::compare_logs`] |
//! | the same entry everywhere at one index, with the same effects | [`Facts::applied`] |
//! | what is applied is on the disks of a majority of the members in force | `Facts::check_quorum` |
//! | one change of the members at a time | `Facts::check_membership`, [`Facts::look`] |
//! | term, committed and applied never go back | [`Facts::look`], [`Facts::applied`] |
//! | votes and entries that were on a disk are there after a crash | [`Facts::started`](crate::world) |
//! | a store that was taken over is what the log leads to | [`Facts::restored`] |
//! | a read sees all that was acknowledged before it | `load::read` |
//! | every acknowledged write is at its revision | [`Facts::check_acked`] |
//! | each write is done once | `Facts::check_once` |
//! | no lease ends before its time, none is alive after its end | [`leases`](crate::leases) |
//! | no member ends but by a fault, no task panics | `run::end_halted`, `run::step` |
//! | after all faults: one leader, writes through all, one store on all | `run::is_whole` |

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use keystead_mvcc::Row;
use keystead_proto::etcdserverpb::Member;
use keystead_proto::mvccpb::KeyValue;
use keystead_raft::simulation::Inside;
use keystead_state::{Applied, Reader};
use prost::Message as _;

use crate::plan::Plan;
use crate::world::Facts;

/// What the rules remember.
#[derive(Default)]
pub struct Known {
    acked: Vec<Ack>,
    entries: BTreeMap<u64, Entry>,
    /// The content of each revision.
    rows: BTreeMap<i64, Bytes>,
    /// At which revision each write was done, by its number.
    done: BTreeMap<u64, i64>,
    pub leaders: BTreeMap<u64, u64>,
    /// The members after the entry that was applied last, and which of them are learners.
    members: Option<(u64, Roles)>,
}

type Roles = BTreeMap<u64, bool>;

struct Entry {
    term: u64,
    digest: u64,
}

struct Ack {
    revision: i64,
    key: Bytes,
    value: Bytes,
}

impl Facts {
    /// A member began to lead.
    pub fn leads(&mut self, at: usize, term: u64) {
        let leaders = &mut self.known.leaders;
        let is_new = !leaders.contains_key(&term);
        let known = *leaders.entry(term).or_insert(Plan::id(at));
        self.coverage.leaders = leaders.len() as u64;
        if known != Plan::id(at) {
            self.violated(format!(
                "two leaders in term {term}: m{} and m{at}",
                Plan::at(known)
            ));
        }
        if is_new {
            self.check_complete(at, term);
        }
    }

    /// The last entry that was committed before a leader's term is in its log; then those before it are, too.
    fn check_complete(&mut self, at: usize, term: u64) {
        let mut entries = self.known.entries.iter().rev();
        let Some((&index, before)) = entries.find(|(_, entry)| entry.term < term) else {
            return;
        };
        let before = before.term;
        let Some(running) = &self.slots[at].running else {
            return;
        };
        // What is purged was applied.
        let gone = running.inside.purged_upto() >= Some(index);
        let has = running.inside.id(index).map(|id| id.term);
        if !gone && has != Some(before) {
            self.violated(format!(
                "m{at} leads in term {term} without entry {index} of term {before}, which was applied; it has {has:?} there"
            ));
        }
    }

    /// A member has applied an entry.
    pub fn applied(
        &mut self,
        at: usize,
        (term, index): (u64, u64),
        applied: &Applied,
        digest: u64,
    ) {
        self.note(|| format!("m{at} applies {index} of term {term}: {digest:016x}"));
        let before = self.slots[at].applied.replace(index);
        if before >= Some(index) {
            self.violated(format!("m{at} applied {index} after {before:?}"));
        }
        self.reached(at);
        match self.known.entries.get(&index) {
            Some(known) if (known.term, known.digest) != (term, digest) => {
                let known = known.term;
                self.violated(format!(
                    "m{at} applied {index} of term {term}, which is of term {known} elsewhere or has other effects"
                ));
            }
            Some(_) => {}
            None => {
                self.known.entries.insert(index, Entry { term, digest });
                for row in applied.sealed.rows.iter() {
                    self.check_once(row);
                    let revision = row.revision.main;
                    self.known.rows.insert(revision, row.payload.clone());
                }
                self.check_quorum(at, term, index);
                self.check_membership(at, index);
                self.check_leases(term, &applied.lease_changes);
                let raised = applied.alarm_changes.iter().filter(|it| it.raised).count();
                let disarmed = applied.alarm_changes.len() - raised;
                self.coverage.alarms_raised += raised as u64;
                self.coverage.alarms_disarmed += disarmed as u64;
                self.coverage.compactions += u64::from(applied.compacted.is_some());
            }
        }
    }

    /// Who listens at its new port alone and hears of entries is reached there.
    fn reached(&mut self, at: usize) {
        let follows = self
            .member(at)
            .is_some_and(|(consensus, _)| !consensus.status().is_leader);
        let slot = &mut self.slots[at];
        if follows && slot.only.is_some() && !std::mem::replace(&mut slot.reached, true) {
            self.coverage.members_reached_elsewhere += 1;
        }
    }

    /// What a client writes once is written once: its value is its number.
    fn check_once(&mut self, row: &Row) {
        if row.tombstone {
            return;
        }
        let value = KeyValue::decode(row.payload.clone()).unwrap_or_default();
        let number = std::str::from_utf8(&value.value)
            .ok()
            .and_then(|digits| digits.parse().ok());
        let Some(number) = number else { return };
        let revision = row.revision.main;
        if let Some(before) = self.known.done.insert(number, revision) {
            self.violated(format!(
                "write {number} was done at {before}, and again at {revision}"
            ));
        }
    }

    /// What was applied for the first time must be on the disks of a majority, by the voters that are applied or by those that are
    /// in force already.
    fn check_quorum(&mut self, at: usize, term: u64, index: u64) {
        let Some((consensus, reader)) = self.member(at) else {
            return;
        };
        let has = |id: &u64| {
            let Some(slot) = self.slots.get(Plan::at(*id)) else {
                return false;
            };
            match &slot.running {
                Some(running) if running.inside.found().is_some() => {
                    running.inside.has(term, index)
                }
                _ => slot.claims.has(term, index),
            }
        };
        let held =
            |voters: &BTreeSet<u64>| voters.iter().filter(|id| has(id)).count() > voters.len() / 2;
        let in_force = voters(&consensus.members());
        let applied = voters(&reader.members());
        if !held(&in_force) && !held(&applied) {
            self.violated(format!(
                "m{at} applied {index} of term {term}, which is not on the disks of a majority of {in_force:x?} or {applied:x?}"
            ));
        }
    }

    /// From one entry to the next at most one member comes, goes or gets a vote.
    fn check_membership(&mut self, at: usize, index: u64) {
        let Some((_, reader)) = self.member(at) else {
            // It is starting, and the entry not seen.
            self.known.members = None;
            return;
        };
        let members = reader.members().into_iter();
        let now: Roles = members.map(|it| (it.id, it.is_learner)).collect();
        if let Some((before, then)) = self.known.members.replace((index, now.clone()))
            && before + 1 == index
        {
            let changed = |one: &Roles, other: &Roles| {
                let differs = one.iter().filter(|(id, role)| other.get(id) != Some(role));
                differs.map(|(id, _)| *id).collect::<BTreeSet<u64>>()
            };
            let changed: BTreeSet<u64> = &changed(&now, &then) | &changed(&then, &now);
            if changed.len() > 1 {
                self.violated(format!(
                    "entry {index} changed more than one member: {then:x?} became {now:x?}"
                ));
            }
        }
    }

    /// A member's state was replaced by another's: at its revision it is what others have.
    pub fn restored(&mut self, at: usize, index: u64, reader: &Reader) {
        self.note(|| format!("m{at} has taken over a store up to {index}"));
        self.slots[at].applied = Some(index);
        self.coverage.snapshots_installed += 1;
        let Ok(own) = reader.store().hash_kv(0) else {
            return self.violated(format!("m{at} can't say what it has taken over"));
        };
        let others = self.up().into_iter().filter(|other| *other != at);
        let mut differs = None;
        let mut compared = 0;
        for other in others {
            let store = self.member(other).map(|(_, reader)| reader.store());
            // One that is not as far, or has compacted more, can't be asked.
            let Some(Ok(theirs)) = store.map(|store| store.hash_kv(own.hash_revision)) else {
                continue;
            };
            if theirs.compact_revision == own.compact_revision {
                compared += 1;
                differs = (theirs.hash != own.hash).then_some(other).or(differs);
            }
        }
        self.coverage.snapshots_compared += compared;
        if let Some(other) = differs {
            let revision = own.hash_revision;
            self.violated(format!(
                "m{at} took over a store that is not that of m{other} at {revision}"
            ));
        }
    }

    /// A client was told that its write is done.
    pub fn acked(&mut self, at: usize, revision: i64, key: Bytes, value: Bytes) {
        self.note(|| format!("a client of m{at} is told of revision {revision}"));
        self.acked_revision = self.acked_revision.max(revision);
        self.coverage.writes += 1;
        let status = self.member(at).map(|(consensus, _)| consensus.status());
        if status.is_some_and(|status| !status.is_leader) {
            self.coverage.writes_through_followers += 1;
        }
        self.known.acked.push(Ack {
            revision,
            key,
            value,
        });
    }

    /// Compares what a running member says of itself with what it said before, and a leader's members in force with those that are
    /// applied: once all of earlier terms is applied, only the one change may be between them that is under way.
    pub fn look(&mut self, at: usize) {
        let Some((consensus, reader)) = self.member(at) else {
            return;
        };
        let status = consensus.status();
        let (in_force, applied) = (voters(&consensus.members()), voters(&reader.members()));
        let slot = &mut self.slots[at];
        let before = (slot.term, slot.committed);
        (slot.term, slot.committed) = (status.term, status.committed_index);
        let settled = slot
            .running
            .as_ref()
            .is_some_and(|it| it.inside.applied().0 == status.term);
        if status.term < before.0 || status.committed_index < before.1 {
            self.violated(format!("m{at} went back from {before:?} to {status:?}"));
        }
        if status.is_leader {
            self.leads(at, status.term);
            if settled && (&in_force ^ &applied).len() > 1 {
                self.violated(format!(
                    "m{at} leads with the voters {in_force:x?}, more than a change away from {applied:x?}, which are applied"
                ));
            }
        }
    }

    /// Where two logs have the same entry, they have the same before it.
    pub fn compare_logs(&mut self) {
        let up = self.up();
        let mut differs = None;
        for (nth, one) in up.iter().enumerate() {
            for other in &up[nth + 1..] {
                let inside = |at: usize| self.slots[at].running.as_ref().map(|it| &it.inside);
                let (Some(one_in), Some(other_in)) = (inside(*one), inside(*other)) else {
                    continue;
                };
                differs = differs.or(differing(one_in, other_in).map(|at| (*one, *other, at)));
            }
        }
        if let Some((one, other, index)) = differs {
            self.violated(format!(
                "the logs of m{one} and m{other} differ at {index}, and agree on a later entry"
            ));
        }
    }

    /// Every acknowledged write is the one that was applied at its revision.
    pub fn check_acked(&mut self) {
        let mut wrong = Vec::new();
        for ack in &self.known.acked {
            let row = self.known.rows.get(&ack.revision).cloned();
            let row = KeyValue::decode(row.unwrap_or_default()).unwrap_or_default();
            if (&row.key, &row.value) != (&ack.key, &ack.value) {
                wrong.push(format!(
                    "a client was told that {:?} was written at {}, where {:?} is",
                    ack.key, ack.revision, row.key
                ));
            }
        }
        wrong.into_iter().for_each(|what| self.violated(what));
    }
}

fn voters(members: &[Member]) -> BTreeSet<u64> {
    let voters = members.iter().filter(|member| !member.is_learner);
    voters.map(|member| member.id).collect()
}

/// The newest index below one on which both logs agree, at which they don't.
fn differing(one: &Inside, other: &Inside) -> Option<u64> {
    let last = one.last()?.index.min(other.last()?.index);
    let mut agreed = false;
    // Further back both have purged, or were compared when it was new.
    for index in (last.saturating_sub(200)..=last).rev() {
        let (Some(here), Some(there)) = (one.id(index), other.id(index)) else {
            return None;
        };
        if here.term == there.term {
            agreed = true;
        } else if agreed {
            return Some(index);
        }
    }
    None
}
