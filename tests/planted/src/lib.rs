//! Known bugs, each planted by one `if` at the place where it would be made.
//!
//! A test that has never been red proves nothing. `tests/seeded` builds server and client with the feature `seeded-bugs`, plants
//! one bug at a time by the environment variable `KEYSTEAD_SEEDED_BUG`, and demands that the test which guards the place
//! fails. Without the feature [`planted`] is a constant `false`, and the compiled code is as if it were not there.
//!
//! This crate depends on nothing, and nothing may depend on what it says: only a wrong branch hangs on it.

/// A bug that somebody has shipped before, in etcd or elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The log acknowledges a batch that was written and not synced.
    SkipFsync,
    /// A new file of the log is used before its name is durable.
    SkipDirSync,
    /// A file of the log opens without the vote that was saved in an earlier one.
    ForgetVote,
    /// What is read of a torn batch counts as whole.
    TakeTornTail,
    /// The consensus core hears that an entry is durable when it was only queued.
    AnswerEarly,
    /// The applied id is committed in a transaction of its own, before the rows it tells of.
    AppliedIdApart,
    /// The log is purged up to what was applied, past what the store has on disk.
    PurgeTooFar,
    /// A row is served although its checksum fails.
    SkipRowChecksum,
    /// A watcher that has caught up misses the next revision.
    LoseHandoverEvent,
    /// Progress tells a revision whose events a watcher of the stream has not been sent.
    ProgressTooEarly,
    /// Compaction removes a tombstone exactly at its revision.
    DropCompactionTombstone,
    /// A member that does not lead ends leases by its own clock.
    RevokeAsFollower,
    /// A new leader ends leases by deadlines that it never heard renewed.
    KeepOldDeadlines,
    /// A renewal leaves what an earlier checkpoint says of the lease to the next leader.
    LeaveCheckpoint,
    /// A vote counts as saved before it is on the disk.
    SkipVoteSync,
    /// The store is flushed up to what was applied, past what the log has on disk.
    FlushUnsynced,
    /// A snapshot is installed without a look at whether it is the one that was promised.
    TakeAnySnapshot,
    /// What a leader decided is proposed in a later term of its own, too.
    RevokeInAnyTerm,
    /// What a write gives back of the key as it was is given to who may not read it.
    IgnorePrevKvRight,
    /// The end of a lease removes its keys in an order that other members do not share.
    RemoveInOwnOrder,
    /// A watch that goes on from a revision is told the one before, too.
    RepeatOnResume,
    /// An answer to an append counts for all that was sent to the follower.
    AcknowledgeSent,
    /// An answer to an append counts for a question that was sent after it, up to the same place in the log.
    AcknowledgeLater,
    /// A read joins the round that is under way, which may have begun before what the read must see.
    ReuseReadIndex,
    /// A member says to any leader that it follows it.
    BackAnyVote,
    /// What may have reached the leader goes to it again when the connection was lost.
    ForwardLost,
    /// The client's watch goes on from the revision at which a server said that it was created.
    ResumeFromCreated,
    /// The client hands out what has come of a revision whose rest is on its way.
    SplitRevision,
    /// The client counts a lease's time from when a renewal was answered.
    DeadlineFromReceipt,
    /// A guarded transaction has the guard's compare among the user's own.
    MixInOwner,
    /// A lock's key is removed whoever made it.
    UnlockByKeyAlone,
    /// Who waited for a lock takes it without looking whether its own key is still there.
    SkipOwnKeyAfterWait,
    /// A write that may have run is sent again.
    RetryUnknown,
    /// A transaction that is to run once marks its slot where its compares hold, and not where they fail.
    SlotInOneBranch,
    /// A transaction whose end is not known is sent again by another slot.
    AnotherSlot,
    /// A cache's linearizable read does not wait until the cache is as far as the store.
    ReadBehindStore,
    /// Who wants to know how far the store is takes the answer to a question that was asked before.
    ShareOlderWord,
    /// A forked child drops what its parent made.
    DropInChild,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Bug; 38] = [
        Bug::SkipFsync,
        Bug::SkipDirSync,
        Bug::ForgetVote,
        Bug::TakeTornTail,
        Bug::AnswerEarly,
        Bug::AppliedIdApart,
        Bug::PurgeTooFar,
        Bug::SkipRowChecksum,
        Bug::LoseHandoverEvent,
        Bug::ProgressTooEarly,
        Bug::DropCompactionTombstone,
        Bug::RevokeAsFollower,
        Bug::KeepOldDeadlines,
        Bug::LeaveCheckpoint,
        Bug::SkipVoteSync,
        Bug::FlushUnsynced,
        Bug::TakeAnySnapshot,
        Bug::RevokeInAnyTerm,
        Bug::IgnorePrevKvRight,
        Bug::RemoveInOwnOrder,
        Bug::RepeatOnResume,
        Bug::AcknowledgeSent,
        Bug::AcknowledgeLater,
        Bug::ReuseReadIndex,
        Bug::BackAnyVote,
        Bug::ForwardLost,
        Bug::ResumeFromCreated,
        Bug::SplitRevision,
        Bug::DeadlineFromReceipt,
        Bug::MixInOwner,
        Bug::UnlockByKeyAlone,
        Bug::SkipOwnKeyAfterWait,
        Bug::RetryUnknown,
        Bug::SlotInOneBranch,
        Bug::AnotherSlot,
        Bug::ReadBehindStore,
        Bug::ShareOlderWord,
        Bug::DropInChild,
    ];

    /// The bug's name in the environment variable.
    pub const fn name(self) -> &'static str {
        match self {
            Bug::SkipFsync => "skip_fsync",
            Bug::SkipDirSync => "skip_dir_sync",
            Bug::ForgetVote => "forget_vote",
            Bug::TakeTornTail => "take_torn_tail",
            Bug::AnswerEarly => "answer_early",
            Bug::AppliedIdApart => "applied_id_apart",
            Bug::PurgeTooFar => "purge_too_far",
            Bug::SkipRowChecksum => "skip_row_checksum",
            Bug::LoseHandoverEvent => "lose_handover_event",
            Bug::ProgressTooEarly => "progress_too_early",
            Bug::DropCompactionTombstone => "drop_compaction_tombstone",
            Bug::RevokeAsFollower => "revoke_as_follower",
            Bug::KeepOldDeadlines => "keep_old_deadlines",
            Bug::LeaveCheckpoint => "leave_checkpoint",
            Bug::SkipVoteSync => "skip_vote_sync",
            Bug::FlushUnsynced => "flush_unsynced",
            Bug::TakeAnySnapshot => "take_any_snapshot",
            Bug::RevokeInAnyTerm => "revoke_in_any_term",
            Bug::IgnorePrevKvRight => "ignore_prev_kv_right",
            Bug::RemoveInOwnOrder => "remove_in_own_order",
            Bug::RepeatOnResume => "repeat_on_resume",
            Bug::AcknowledgeSent => "acknowledge_sent",
            Bug::AcknowledgeLater => "acknowledge_later",
            Bug::ReuseReadIndex => "reuse_read_index",
            Bug::BackAnyVote => "back_any_vote",
            Bug::ForwardLost => "forward_lost",
            Bug::ResumeFromCreated => "resume_from_created",
            Bug::SplitRevision => "split_revision",
            Bug::DeadlineFromReceipt => "deadline_from_receipt",
            Bug::MixInOwner => "mix_in_owner",
            Bug::UnlockByKeyAlone => "unlock_by_key_alone",
            Bug::SkipOwnKeyAfterWait => "skip_own_key_after_wait",
            Bug::RetryUnknown => "retry_unknown",
            Bug::SlotInOneBranch => "slot_in_one_branch",
            Bug::AnotherSlot => "another_slot",
            Bug::ReadBehindStore => "read_behind_store",
            Bug::ShareOlderWord => "share_older_word",
            Bug::DropInChild => "drop_in_child",
        }
    }
}

#[cfg(not(feature = "seeded-bugs"))]
mod switch {
    use super::Bug;

    /// Whether to do as `bug` does. Never, in a build without the feature.
    #[inline(always)]
    pub const fn planted(_bug: Bug) -> bool {
        false
    }
}

#[cfg(feature = "seeded-bugs")]
mod switch {
    use std::env;
    use std::io::{self, Write as _};
    use std::process;
    use std::sync::{LazyLock, Once};

    use super::Bug;

    /// Names the one bug of this process.
    const VARIABLE: &str = "KEYSTEAD_SEEDED_BUG";

    static CHOSEN: LazyLock<Option<Bug>> = LazyLock::new(|| {
        let name = env::var_os(VARIABLE)?;
        let bug = Bug::ALL.into_iter().find(|bug| name == bug.name());
        Some(bug.unwrap_or_else(|| {
            eprintln!("{VARIABLE}={} names no bug", name.display());
            process::exit(2)
        }))
    });

    /// Whether to do as `bug` does. The first time it is so the process says it, so that a red test is known to be red
    /// with the bug in its way.
    pub fn planted(bug: Bug) -> bool {
        static SAID: Once = Once::new();
        let planted = *CHOSEN == Some(bug);
        if planted {
            // In one piece: several processes may say so to one reader, who looks for the line.
            SAID.call_once(|| {
                let said = format!("seeded bug at work: {}\n", bug.name());
                // Without a reader nobody misses it.
                io::stderr().write_all(said.as_bytes()).ok();
            });
        }
        planted
    }
}

pub use switch::planted;
