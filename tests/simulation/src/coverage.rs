//! What runs have gone through: a set of runs that missed one of these has proven less than it says, and fails.

use keystead_raft::Counters;

macro_rules! coverage {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts, of one run or of many.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Coverage { $($(#[$doc])* pub $name: u64,)* }

        impl Coverage {
            /// All counts by name.
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }

            /// Adds what a run printed by name.
            pub fn add(&mut self, name: &str, count: u64) {
                match name {
                    $(stringify!($name) => self.$name += count,)*
                    _ => {}
                }
            }
        }
    };
}

coverage! {
    /// Writes that were acknowledged.
    writes,
    /// Of these, by members that did not lead.
    writes_through_followers,
    /// Linearizable reads that were answered.
    reads,
    /// Leases that were granted.
    leases_granted,
    /// Renewals that a client was told of.
    leases_renewed,
    /// Leases that ended because their time was up.
    leases_expired,
    /// Clocks that jumped forward.
    clocks_jumped,
    /// Terms that had a leader.
    leaders,
    /// Handovers of the leadership that were asked for and done.
    leaders_moved,
    /// Members that stopped because they were asked to.
    clean_stops,
    /// Of these, leaders that handed over before.
    leaders_handed_over,
    /// Changes of the members that were done.
    members_changed,
    /// Of these, members that came without a vote.
    learners_added,
    /// Of these, learners that got one.
    learners_promoted,
    /// Of these, members that went.
    members_removed,
    /// Of these, members that are reached elsewhere from then on.
    members_updated,
    /// And those that were, when they could be reached nowhere else.
    members_reached_elsewhere,
    /// Members that ended, with a loss of power or without.
    crashes,
    /// Times that all ended at once.
    all_crashed,
    /// Members that lost their power just after they had voted.
    crashed_voting,
    /// Sectors that a loss of power took.
    sectors_lost,
    /// Disks that failed.
    disks_failed,
    /// Disks of logs that were full for a while.
    disks_full,
    /// Alarms that this raised.
    alarms_raised,
    /// And those that were disarmed again.
    alarms_disarmed,
    /// Stores that were defragmented while they served.
    defragmentations,
    /// Compactions of the history.
    compactions,
    /// Networks that were cut, in any shape.
    partitions,
    /// Links that held messages back and handed them out together.
    links_held,
    /// Messages, and all behind them on a connection, that came late because a part was lost.
    messages_late,
    /// Connections that broke, most midway through a message.
    connections_cut,
    /// Connections on which all was lost from some message on.
    connections_silent,
    /// Links whose messages were read in small pieces.
    links_in_pieces,
    /// Times that a member took the end of its log back.
    tails_truncated,
    /// Segments of logs that were used again.
    segments_recycled,
    /// Purges of logs.
    purges,
    /// Stores that were taken over from another member.
    snapshots_installed,
    /// Comparisons of these with the stores of others at the same revision.
    snapshots_compared,
    /// Of those that were begun, the ones that were cut midway.
    snapshots_cut,
    /// Those that went on where an earlier one was cut.
    snapshots_resumed,
}

impl Coverage {
    /// Adds what a member did in one run of its process.
    pub fn take(&mut self, counters: &Counters) {
        self.segments_recycled += counters.log.segments_recycled;
        self.purges += counters.log.purges;
    }
}
