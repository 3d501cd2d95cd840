//! The small facts of a cut of the store, for who writes a snapshot: as of the same entry as the cut's rows, which
//! [`crate::Reader`], being of now, can't promise.

use keystead_mvcc::TableEntry;
use keystead_proto::etcdserverpb::{AlarmMember, Member};
use prost::Message;

use crate::table::{ALARM, LEASE, MEMBER, MalformedEntry};
use crate::{alarm, lease};

/// What the small tables of a cut say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CutFacts {
    /// Lease ids with their time to live in seconds.
    pub leases: Vec<(i64, i64)>,
    /// Alarms in force.
    pub alarms: Vec<AlarmMember>,
    /// Members.
    pub members: Vec<Member>,
}

impl CutFacts {
    /// Reads the entries of a cut's tables.
    ///
    /// # Errors
    /// [`MalformedEntry`]: the store was damaged or written by a later version.
    pub fn read(entries: &[TableEntry]) -> Result<Self, MalformedEntry> {
        let mut facts = Self::default();
        for TableEntry { table, key, value } in entries {
            let malformed = || MalformedEntry::new(*table, key);
            match *table {
                LEASE => facts.leases.push(lease::decode_entry(key, value)?),
                ALARM => {
                    let (member_id, alarm) = alarm::decode_key(key).ok_or_else(malformed)?;
                    facts.alarms.push(AlarmMember { member_id, alarm });
                }
                MEMBER => facts
                    .members
                    .push(Member::decode(value.clone()).map_err(|_| malformed())?),
                _ => {}
            }
        }
        Ok(facts)
    }
}
