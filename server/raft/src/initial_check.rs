//! Whether a member that starts stores what the others store: asked once, before it takes part in anything, where the
//! configuration wants it (etcd's `InitialCorruptCheck`). Called by `Consensus::start`.
//!
//! Only a hash of the same revision after the same compaction tells. Whoever is not there, is behind or has compacted
//! the revision away tells nothing, and nobody waits for it.

use keystead_mvcc::HashKv;
use keystead_state::Reader;
use tokio::runtime::Builder;

use crate::bootstrap::StartError;
use crate::config::Config;
use crate::peers::{HashAnswer, ask_for_hashes};

/// Compares what the store holds with what the others do. Blocks for as long as a request may take, at most.
///
/// # Errors
/// [`StartError::Inconsistent`], [`StartError::Unhashable`], and those of threads.
pub(crate) fn check(config: &Config, reader: &Reader) -> Result<(), StartError> {
    let members = reader.members();
    let me = config.identity;
    if members.iter().all(|member| member.id == me.member_id) {
        return Ok(());
    }
    tracing::info!(
        member = format!("{:016x}", me.member_id),
        "starting initial corruption check"
    );
    let own = reader.store().hash_kv(0).map_err(|error| {
        let member = me.member_id;
        StartError::Unhashable { member, error }
    })?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::Thread)?;
    let patience = config.proposal_deadline();
    let answers = runtime.block_on(ask_for_hashes(me, members, own.hash_revision, patience));
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    answers.iter().for_each(|answer| tell(&own, answer));
    if answers.iter().any(|answer| differs(&own, answer)) {
        return Err(StartError::Inconsistent(me.member_id));
    }
    let compared = answers.iter().filter_map(|it| comparable(&own, it));
    tracing::info!(
        member = format!("{:016x}", me.member_id),
        number_of_peers_checked = compared.count(),
        "initial corruption checking passed; no corruption"
    );
    Ok(())
}

/// Whether a member stores something else.
fn differs(own: &HashKv, other: &HashAnswer) -> bool {
    comparable(own, other).is_some_and(|it| it.hash != own.hash)
}

/// What a member answers, where that tells anything.
fn comparable<'a>(own: &HashKv, other: &'a HashAnswer) -> Option<&'a HashKv> {
    let hash = &other.answer.as_ref().ok()?.hash;
    (hash.compact_revision == own.compact_revision).then_some(hash)
}

fn tell(own: &HashKv, HashAnswer { member_id, answer }: &HashAnswer) {
    let peer = format!("{member_id:016x}");
    match answer {
        Ok(other) if other.hash.hash == own.hash => {}
        Ok(other) => tracing::warn!(
            peer,
            revision = own.hash_revision,
            hash = own.hash,
            compact_revision = own.compact_revision,
            peer_hash = other.hash.hash,
            peer_compact_revision = other.hash.compact_revision,
            "found different hash or compact revision values from remote peer"
        ),
        Err(error) => tracing::warn!(
            peer,
            revision = own.hash_revision,
            %error,
            "cannot fetch hash from remote peer"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::{NoHash, PeerHash};

    #[test]
    fn only_another_hash_after_the_same_compaction_is_another_history() {
        let own = HashKv {
            hash: 7,
            compact_revision: 5,
            hash_revision: 9,
        };
        let said = |answer: Result<(u32, i64), NoHash>| HashAnswer {
            member_id: 2,
            answer: answer.map(|(hash, compact_revision)| PeerHash {
                hash: HashKv {
                    hash,
                    compact_revision,
                    hash_revision: 9,
                },
                current_revision: 12,
            }),
        };
        for (answer, expected) in [
            (Ok((7, 5)), false),
            (Ok((8, 5)), true),
            (Ok((8, 6)), false),
            (Err(NoHash::Future), false),
            (Err(NoHash::Compacted), false),
            (Err(NoHash::Unanswered("gone".to_owned())), false),
        ] {
            let answer = said(answer);
            assert_eq!(differs(&own, &answer), expected, "{answer:?}");
        }
    }
}
