//! `--corrupt-check-time`: now and then the leader compares everybody's history with its own.

use keystead_mvcc::HashKv;
use keystead_raft::{HashAnswer, PeerHash};
use keystead_state::Refusal;
use tokio::time::{MissedTickBehavior, interval_at};

use super::{id, raise};
use crate::member::Member;

/// Checks as often as the member was told, while it leads.
pub(super) async fn run(member: &Member) {
    let Some(period) = member.config.corrupt_check_interval else {
        return;
    };
    tracing::info!(?period, "enabled corruption checking");
    let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        if member.consensus.leads()
            && let Err(refusal) = check(member).await
        {
            tracing::warn!(%refusal, "failed to check hash KV");
        }
    }
}

async fn check(member: &Member) -> Result<(), Refusal> {
    let consensus = &member.consensus;
    let before = consensus.hash_at(0).await?;
    let patience = member.config.request_timeout();
    let answers = consensus
        .hashes_of_others(before.hash_revision, patience)
        .await;
    // From here on this member has all that any of the answers can tell of.
    consensus.read_barrier().await?;
    let after = consensus.hash_at(0).await?;
    let own = Own {
        id: member.headers.member_id(),
        before,
        after,
    };
    if let Some((culprit, why)) = own.culprit(&answers) {
        tracing::error!(
            member = id(culprit),
            ?own,
            ?answers,
            "data corruption detected: {why}"
        );
        // It is tried again with the next check.
        raise(member, culprit).await.ok();
    }
    let checked = answers.iter().filter(|it| it.answer.is_ok()).count();
    tracing::info!(
        number_of_peers_checked = checked,
        "finished peer corruption check"
    );
    Ok(())
}

/// What the leader has to compare with: its history before it asked the others, and as of a moment after all they said.
#[derive(Debug)]
struct Own {
    id: u64,
    before: HashKv,
    after: HashKv,
}

impl Own {
    /// The member whose data is not what it must be, and how that shows. As in etcd the leader's word counts, and one member
    /// is named at a time; only where a majority agrees on other data than the leader's, the leader is the one.
    fn culprit(&self, answers: &[HashAnswer]) -> Option<(u64, &'static str)> {
        let Self { id, before, after } = self;
        if (before.hash_revision, before.compact_revision)
            == (after.hash_revision, after.compact_revision)
            && before.hash != after.hash
        {
            return Some((*id, "its hash changed and its revision did not"));
        }
        let heard = || {
            let answered = |it: &HashAnswer| Some((it.member_id, it.answer.clone().ok()?));
            answers.iter().filter_map(answered)
        };
        for (peer, said) in heard() {
            if said.current_revision > after.hash_revision {
                let why = "revision from follower must be less than or equal to leader's";
                return Some((peer, why));
            }
            if said.hash.compact_revision > after.compact_revision {
                let why = "compact revision from follower must be less than or equal to leader's";
                return Some((peer, why));
            }
            if !self.differs(&said) {
                continue;
            }
            let agree = heard()
                .filter(|(_, other)| self.differs(other) && other.hash.hash == said.hash.hash);
            let majority = answers.len().div_ceil(2) + 1;
            let culprit = if agree.count() >= majority { *id } else { peer };
            return Some((culprit, "same compact revision then hashes must match"));
        }
        None
    }

    /// Whether another's history is not that which this member had.
    fn differs(&self, other: &PeerHash) -> bool {
        other.hash.compact_revision == self.before.compact_revision
            && other.hash.hash != self.before.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keystead_raft::NoHash;

    const ME: u64 = 1;

    fn kv(hash: u32, compact_revision: i64, hash_revision: i64) -> HashKv {
        HashKv {
            hash,
            compact_revision,
            hash_revision,
        }
    }

    /// Answers of the members 2, 3, ...: hash, compaction, current revision.
    fn answers(said: &[Result<(u32, i64, i64), NoHash>]) -> Vec<HashAnswer> {
        let answer = |(member_id, said): (u64, &Result<(u32, i64, i64), NoHash>)| HashAnswer {
            member_id,
            answer: said
                .clone()
                .map(|(hash, compacted, current_revision)| PeerHash {
                    hash: kv(hash, compacted, 20),
                    current_revision,
                }),
        };
        (2..).zip(said).map(answer).collect()
    }

    #[test]
    fn whose_history_differs_after_the_same_compaction_is_named() {
        let own = Own {
            id: ME,
            before: kv(7, 5, 20),
            after: kv(9, 6, 25),
        };
        let well = Ok((7, 5, 20));
        let gone = Err(NoHash::Unanswered("gone".to_owned()));
        for (said, expected) in [
            (vec![], None),
            (vec![well.clone(), well.clone()], None),
            (vec![well.clone(), gone.clone()], None),
            // Compacted in between: its hash is of another history.
            (vec![Ok((8, 6, 20)), well.clone()], None),
            (vec![Err(NoHash::Future), Err(NoHash::Compacted)], None),
            (vec![well.clone(), Ok((8, 5, 20))], Some(3)),
            // Without a majority against it, the leader's word counts.
            (vec![Ok((8, 5, 20)), Ok((4, 5, 20))], Some(2)),
            (vec![Ok((8, 5, 20)), gone.clone()], Some(2)),
            (vec![Ok((8, 5, 20)), Ok((8, 5, 20))], Some(ME)),
            (
                vec![Ok((8, 5, 20)), Ok((8, 5, 20)), well.clone(), well.clone()],
                Some(2),
            ),
            // Ahead of the leader, which has all that was ever acknowledged.
            (vec![Ok((7, 5, 26)), well.clone()], Some(2)),
            (vec![Ok((7, 5, 25)), Ok((7, 7, 25))], Some(3)),
        ] {
            let culprit = own.culprit(&answers(&said)).map(|(culprit, _)| culprit);
            assert_eq!(culprit, expected, "{said:?}");
        }
    }

    #[test]
    fn a_leader_whose_hash_changes_by_itself_names_itself() {
        let own = |after| Own {
            id: ME,
            before: kv(7, 5, 20),
            after,
        };
        let well = answers(&[Ok((7, 5, 20))]);
        assert_eq!(own(kv(7, 5, 20)).culprit(&well), None);
        assert_eq!(own(kv(8, 6, 20)).culprit(&well), None);
        assert_eq!(own(kv(8, 5, 21)).culprit(&well), None);
        let changed = own(kv(8, 5, 20)).culprit(&well);
        assert_eq!(changed.map(|(culprit, _)| culprit), Some(ME));
    }
}
