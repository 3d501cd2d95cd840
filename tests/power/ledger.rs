//! Everything that a member promised, and the comparison with what it holds. Every revision has one owner, so the whole
//! history is known: the states at all revisions that are not compacted away. A write without an answer is looked for
//! once, after the restart; from then on it is known to have happened or not.

use std::collections::{BTreeMap, BTreeSet};

use keystead_proto::etcdserverpb::{
    HashKvRequest, HashKvResponse, LeaseLeasesRequest, LeaseTimeToLiveRequest, RangeRequest,
};
use keystead_tests::{Random, Unary};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::load::Round;
use super::model::{Operation, State, Version};

/// How many old revisions are read after each restart.
const OLD_READS: u64 = 4;

/// What is known.
pub struct Ledger {
    /// The state after each revision from the compaction's on.
    states: BTreeMap<i64, State>,
    leases: BTreeSet<i64>,
    compacted: i64,
    hash: Option<HashKvResponse>,
    /// Acknowledged writes that were found again.
    pub acknowledged: u64,
    /// Hashes that were equal to those taken before a restart.
    pub hashes_compared: u64,
}

/// What a member with damaged files did, if nothing that it answered was wrong.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// All answers were right.
    Harmless,
    /// Some were refused as lost, the others right.
    Reported,
}

impl Default for Ledger {
    /// Of an empty member.
    fn default() -> Self {
        Ledger {
            states: BTreeMap::from([(1, State::default())]),
            leases: BTreeSet::new(),
            compacted: -1,
            hash: None,
            acknowledged: 0,
            hashes_compared: 0,
        }
    }
}

impl Ledger {
    /// The leases that are alive.
    pub fn leases(&self) -> &BTreeSet<i64> {
        &self.leases
    }

    /// The newest revision.
    pub fn newest(&self) -> i64 {
        *self.states.last_key_value().expect("there is always one").0
    }

    /// Compares a member that was restarted with all that is known and with what the last round was told.
    pub async fn settle(&mut self, round: Round, channel: &Channel, random: &mut Random) {
        let (found, newest) = read(channel, 0).await.expect("a restarted member answers");
        self.find_owners(&round, newest, channel).await;
        let expected = &self.states[&newest];
        assert!(
            *expected == found,
            "at revision {newest}:\n{}",
            expected.differences(&found)
        );
        self.settle_leases(&round, channel).await;
        self.settle_compaction(&round, channel).await;
        self.read_old_revisions(channel, random).await;
        self.compare_hash(channel).await;
        self.acknowledged += round.acknowledged.len() as u64;
    }

    /// Gives each revision since the last round to the write that it was answered to, or else to an open one.
    async fn find_owners(&mut self, round: &Round, newest: i64, channel: &Channel) {
        let known = self.newest();
        for (operation, revision) in &round.acknowledged {
            assert!(
                *revision <= newest,
                "revision {newest} after {revision} was acknowledged: {operation:?}"
            );
            assert!(
                *revision > known || operation.after(&self.states[&known], 0).is_none(),
                "revision {revision} was given again: {operation:?}"
            );
        }
        let mut open = round.open.clone();
        for revision in known + 1..=newest {
            let before = &self.states[&(revision - 1)];
            let answered = round
                .acknowledged
                .iter()
                .filter(|(_, answered)| *answered == revision);
            let mut after = None;
            for (operation, _) in answered {
                if let Some(next) = operation.after(after.as_ref().unwrap_or(before), revision) {
                    assert!(
                        after.is_none(),
                        "revision {revision} was given twice: {operation:?}"
                    );
                    after = Some(next);
                }
            }
            let after = match after {
                Some(after) => after,
                None => owner_among(&mut open, before, revision, channel).await,
            };
            self.states.insert(revision, after);
        }
    }

    async fn settle_leases(&mut self, round: &Round, channel: &Channel) {
        for (operation, _) in &round.acknowledged {
            operation.lease(&mut self.leases);
        }
        let listed = LeaseLeasesRequest {}.send(channel.clone()).await;
        let listed = listed.expect("a restarted member answers").leases;
        let found: BTreeSet<i64> = listed.iter().map(|lease| lease.id).collect();
        // An open grant or revocation happened or not: the member's word is taken for that lease, once.
        for operation in &round.open {
            if let Operation::Grant { lease } | Operation::Revoke { lease } = operation {
                match found.contains(lease) {
                    true => self.leases.insert(*lease),
                    false => self.leases.remove(lease),
                };
            }
        }
        assert_eq!(self.leases, found, "the leases that are alive");
    }

    /// The member says how far it is compacted: to where it acknowledged at least, and to where it was asked to at most.
    async fn settle_compaction(&mut self, round: &Round, channel: &Channel) {
        let newest = self.newest();
        let hash = hash(channel, newest)
            .await
            .expect("the newest revision is there");
        let acknowledged = round.compactions.iter().filter(|(_, answered)| *answered);
        let least = acknowledged
            .map(|(at, _)| *at)
            .fold(self.compacted, i64::max);
        let asked = round
            .compactions
            .iter()
            .any(|(at, _)| *at == hash.compact_revision);
        let found = if hash.compact_revision <= 0 {
            -1
        } else {
            hash.compact_revision
        };
        assert!(
            found >= least && (asked || found == self.compacted),
            "compacted to {found}: {least} was acknowledged, asked were {:?}",
            round.compactions
        );
        self.compacted = found;
        self.states = self.states.split_off(&found.max(1));
        if found > 1 {
            let refused = read(channel, found - 1).await.map(drop);
            let code = refused.map_err(|status| status.code());
            assert_eq!(code, Err(Code::OutOfRange), "below the compaction");
        }
    }

    async fn read_old_revisions(&self, channel: &Channel, random: &mut Random) {
        for revision in self.old_revisions(random) {
            let (found, _) = read(channel, revision)
                .await
                .expect("it is not compacted away");
            let expected = &self.states[&revision];
            assert!(
                *expected == found,
                "read at old revision {revision}:\n{}",
                expected.differences(&found)
            );
        }
    }

    /// The oldest, and some at random.
    fn old_revisions(&self, random: &mut Random) -> Vec<i64> {
        let oldest = *self
            .states
            .first_key_value()
            .expect("there is always one")
            .0;
        let span = (self.newest() - oldest + 1) as u64;
        let mut revisions = vec![oldest];
        revisions.extend((0..OLD_READS).map(|_| oldest + random.below(span) as i64));
        revisions
    }

    async fn compare_hash(&mut self, channel: &Channel) {
        if let Some(before) = &self.hash
            && before.compact_revision == self.compacted
        {
            let again = hash(channel, before.hash_revision).await;
            let again = again.expect("it is not compacted away");
            assert_eq!(
                again.hash, before.hash,
                "HashKV at revision {}",
                before.hash_revision
            );
            self.hashes_compared += 1;
        }
        let now = hash(channel, self.newest()).await;
        let mut now = now.expect("the newest revision is there");
        now.compact_revision = self.compacted;
        self.hash = Some(now);
    }

    /// Reads everything from a member whose files may be damaged: what it answers must be right, what it refuses must
    /// be refused as lost.
    ///
    /// # Errors
    /// What was wrong.
    pub async fn examine(&self, channel: &Channel, random: &mut Random) -> Result<Finding, String> {
        let mut finding = Finding::Harmless;
        let mut revisions = self.old_revisions(random);
        revisions.push(self.newest());
        for revision in revisions {
            let expected = &self.states[&revision];
            let whole = read(channel, revision).await;
            let Some((found, newest)) = unless_lost(whole)? else {
                finding = Finding::Reported;
                self.examine_keys(expected, revision, channel).await?;
                continue;
            };
            if newest != self.newest() {
                return Err(format!("revision {newest}, not {}", self.newest()));
            }
            if *expected != found {
                return Err(format!(
                    "at revision {revision}:\n{}",
                    expected.differences(&found)
                ));
            }
        }
        if let Some(before) = &self.hash {
            // An unequal hash is how damage is found among members, and so a report.
            let again = unless_lost(hash(channel, before.hash_revision).await)?;
            if again.is_none_or(|again| again.hash != before.hash) {
                finding = Finding::Reported;
            }
        }
        self.examine_leases(channel).await?;
        Ok(finding)
    }

    async fn examine_keys(
        &self,
        expected: &State,
        revision: i64,
        channel: &Channel,
    ) -> Result<(), String> {
        for (key, version) in &expected.keys {
            let single = RangeRequest {
                key: key.clone().into(),
                revision,
                ..Default::default()
            };
            let Some(answer) = unless_lost(single.send(channel.clone()).await)? else {
                continue;
            };
            let found = answer.kvs.first().map(version_of);
            if found.as_ref() != Some(version) {
                return Err(format!(
                    "{key} at revision {revision}: {found:?}, not {version:?}"
                ));
            }
        }
        Ok(())
    }

    async fn examine_leases(&self, channel: &Channel) -> Result<(), String> {
        let newest = &self.states[&self.newest()];
        for &lease in &self.leases {
            let facts = LeaseTimeToLiveRequest {
                id: lease,
                keys: true,
            };
            let Some(answer) = unless_lost(facts.send(channel.clone()).await)? else {
                continue;
            };
            let attached = newest.keys.iter().filter(|(_, key)| key.lease == lease);
            let expected: BTreeSet<_> = attached.map(|(key, _)| key.clone().into_bytes()).collect();
            let found: BTreeSet<_> = answer.keys.iter().map(|key| key.to_vec()).collect();
            if answer.granted_ttl != super::model::TTL_SECS || expected != found {
                return Err(format!("lease {lease}: {answer:?}"));
            }
        }
        Ok(())
    }
}

/// The open write that explains what is seen at a revision. It is open no longer.
async fn owner_among(
    open: &mut Vec<Operation>,
    before: &State,
    revision: i64,
    channel: &Channel,
) -> State {
    let (found, _) = read(channel, revision)
        .await
        .unwrap_or_else(|status| panic!("revision {revision}, which is new: {status}"));
    let owner = open
        .iter()
        .position(|operation| operation.after(before, revision).as_ref() == Some(&found));
    let Some(owner) = owner else {
        panic!(
            "nobody wrote what revision {revision} changed:\n{}still open: {:?}",
            before.differences(&found),
            open
        );
    };
    open.swap_remove(owner);
    found
}

/// All keys at a revision, 0 for the newest; and the newest.
async fn read(channel: &Channel, revision: i64) -> Result<(State, i64), Status> {
    let all = RangeRequest {
        key: "k/".into(),
        range_end: "k0".into(),
        revision,
        ..Default::default()
    };
    let answer = all.send(channel.clone()).await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let keys = answer
        .kvs
        .iter()
        .map(|kv| (text(&kv.key), version_of(kv)))
        .collect();
    let newest = answer.header.expect("every answer has a header").revision;
    Ok((State { keys }, newest))
}

fn version_of(kv: &keystead_proto::mvccpb::KeyValue) -> Version {
    Version {
        value: String::from_utf8_lossy(&kv.value).into(),
        lease: kv.lease,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
    }
}

async fn hash(channel: &Channel, revision: i64) -> Result<HashKvResponse, Status> {
    HashKvRequest { revision }.send(channel.clone()).await
}

/// An answer; `None` when it was refused as lost.
fn unless_lost<T>(answer: Result<T, Status>) -> Result<Option<T>, String> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(status) if status.code() == Code::DataLoss => Ok(None),
        Err(status) => Err(format!("refused in other words: {status}")),
    }
}
