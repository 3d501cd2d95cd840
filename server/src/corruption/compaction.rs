//! `CompactHashCheck`: every compaction leaves a hash of what was there before it, the same on all members, and the leader
//! compares these. Unlike the periodic check it costs nothing but the questions.

use std::collections::BTreeMap;

use keystead_mvcc::HashKv;
use keystead_raft::HashAnswer;
use tokio::time::sleep;

use super::{id, raise};
use crate::member::Member;

/// Checks as often as the member was told, while it leads.
pub(super) async fn run(member: &Member) {
    let Some(period) = member.config.compact_hash_check_interval else {
        return;
    };
    let mut checked_up_to = 0;
    loop {
        sleep(period).await;
        if member.consensus.leads() {
            check(member, &mut checked_up_to).await;
        }
    }
}

/// Compares the newest hash that all members have; what was compared once is not compared again.
async fn check(member: &Member, checked_up_to: &mut i64) {
    let me = member.headers.member_id();
    let patience = member.config.request_timeout();
    let hashes = unchecked(member.reader.store().compaction_hashes(), *checked_up_to);
    let (mut checked, count) = (0, hashes.len());
    for own in hashes {
        let asked = member
            .consensus
            .hashes_of_others(own.hash_revision, patience);
        let answers = asked.await;
        if answers.is_empty() {
            break;
        }
        checked += 1;
        match judge(me, &own, &answers) {
            Verdict::Equal => {
                tracing::info!(
                    revision = own.hash_revision,
                    "successfully checked hash on whole cluster"
                );
                *checked_up_to = own.hash_revision;
                break;
            }
            Verdict::Incomplete => tracing::warn!(
                revision = own.hash_revision,
                ?answers,
                "skipped revision in compaction hash check; was not able to check all peers"
            ),
            Verdict::Corrupt(culprits) => {
                for culprit in culprits {
                    tracing::error!(
                        member = id(culprit),
                        ?own,
                        ?answers,
                        "Detected compaction hash mismatch"
                    );
                    // It is tried again with the next check.
                    raise(member, culprit).await.ok();
                }
                break;
            }
        }
    }
    tracing::info!(
        number_of_hashes = count,
        number_of_hashes_checked = checked,
        "finished compaction hash check"
    );
}

/// The hashes of compactions after the last that was compared, newest first.
fn unchecked(mut hashes: Vec<HashKv>, checked_up_to: i64) -> Vec<HashKv> {
    hashes.retain(|hash| hash.hash_revision > checked_up_to);
    hashes.sort_unstable_by_key(|hash| std::cmp::Reverse(hash.hash_revision));
    hashes
}

/// What the hashes of one compaction say.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// All members have the same.
    Equal,
    /// Those that were heard have the same; an older compaction may be on all of them.
    Incomplete,
    /// The members whose data is not that of the majority; 0 where there is no majority.
    Corrupt(Vec<u64>),
}

/// etcd's rule: a hash that a quorum of all members has is right.
fn judge(me: u64, own: &HashKv, answers: &[HashAnswer]) -> Verdict {
    let mut members = BTreeMap::from([(own.hash, vec![me])]);
    for HashAnswer { member_id, answer } in answers {
        if let Ok(said) = answer
            && said.hash.compact_revision == own.compact_revision
        {
            members.entry(said.hash.hash).or_default().push(*member_id);
        }
    }
    if members.len() == 1 {
        let heard = members.values().flatten().count() - 1;
        return if heard == answers.len() {
            Verdict::Equal
        } else {
            Verdict::Incomplete
        };
    }
    let quorum = answers.len().div_ceil(2) + 1;
    let right = members.iter().find(|(_, having)| having.len() >= quorum);
    Verdict::Corrupt(match right.map(|(hash, _)| *hash) {
        Some(right) => {
            members.remove(&right);
            members.into_values().flatten().collect()
        }
        None => vec![0],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use keystead_raft::{NoHash, PeerHash};

    const ME: u64 = 1;
    const COMPACTED: i64 = 5;

    fn kv(hash: u32, compact_revision: i64) -> HashKv {
        HashKv {
            hash,
            compact_revision,
            hash_revision: 20,
        }
    }

    fn said(hash: u32, compact_revision: i64) -> Result<PeerHash, NoHash> {
        Ok(PeerHash {
            hash: kv(hash, compact_revision),
            current_revision: 30,
        })
    }

    #[test]
    fn the_majority_decides_who_is_corrupt() {
        let (well, other) = (said(7, COMPACTED), said(8, COMPACTED));
        let third = said(9, COMPACTED);
        let (elsewhere, gone) = (
            said(8, COMPACTED + 1),
            Err(NoHash::Unanswered("gone".into())),
        );
        for (said, expected) in [
            (vec![&well, &well], Verdict::Equal),
            (vec![&well, &gone], Verdict::Incomplete),
            (vec![&well, &elsewhere], Verdict::Incomplete),
            (vec![&gone, &gone], Verdict::Incomplete),
            (vec![&well, &other], Verdict::Corrupt(vec![3])),
            (vec![&other, &other], Verdict::Corrupt(vec![ME])),
            (vec![&other, &third], Verdict::Corrupt(vec![0])),
            // Two of three are no majority of what all three say.
            (vec![&gone, &other], Verdict::Corrupt(vec![0])),
            (vec![&other], Verdict::Corrupt(vec![0])),
            (
                vec![&well, &other, &well, &third],
                Verdict::Corrupt(vec![3, 5]),
            ),
            (vec![&well, &other, &gone, &gone], Verdict::Corrupt(vec![0])),
        ] {
            let answers: Vec<_> = (2..)
                .zip(&said)
                .map(|(member_id, &answer)| HashAnswer {
                    member_id,
                    answer: answer.clone(),
                })
                .collect();
            assert_eq!(judge(ME, &kv(7, COMPACTED), &answers), expected, "{said:?}");
        }
    }

    #[test]
    fn the_newest_hashes_come_first_and_none_twice() {
        let at = |hash_revision| HashKv {
            hash: 7,
            compact_revision: 1,
            hash_revision,
        };
        let hashes = unchecked(vec![at(3), at(9), at(6)], 3);
        assert_eq!(hashes, [at(9), at(6)]);
    }
}
