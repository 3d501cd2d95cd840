//! The small facts of a cut of the store, for who writes a snapshot: as of the same entry as the cut's rows, which
//! [`crate::Reader`], being of now, can't promise.

use keystead_mvcc::TableEntry;
use keystead_proto::authpb::{Role, User};
use keystead_proto::etcdserverpb::{AlarmMember, Member};
use prost::Message;

use crate::auth::Fact;
use crate::table::{ALARM, AUTH, LEASE, MEMBER, MalformedEntry, ROLE, USER};
use crate::{LeaseFacts, alarm, auth, lease};

/// What the small tables of a cut say.
#[derive(Clone, Debug, PartialEq)]
pub struct CutFacts {
    /// Leases, by id.
    pub leases: Vec<(i64, LeaseFacts)>,
    /// Alarms in force.
    pub alarms: Vec<AlarmMember>,
    /// Members.
    pub members: Vec<Member>,
    /// Users, by name.
    pub users: Vec<User>,
    /// Roles, by name.
    pub roles: Vec<Role>,
    /// Whether authentication is enabled.
    pub auth_enabled: bool,
    /// The revision of users and roles.
    pub auth_revision: u64,
}

impl CutFacts {
    /// Reads the entries of a cut's tables.
    ///
    /// # Errors
    /// [`MalformedEntry`]: the store was damaged or written by a later version.
    pub fn read(entries: &[TableEntry]) -> Result<Self, MalformedEntry> {
        let mut facts = Self {
            leases: Vec::new(),
            alarms: Vec::new(),
            members: Vec::new(),
            users: Vec::new(),
            roles: Vec::new(),
            auth_enabled: false,
            auth_revision: auth::FIRST_REVISION,
        };
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
                USER => facts
                    .users
                    .push(User::decode(value.clone()).map_err(|_| malformed())?),
                ROLE => facts
                    .roles
                    .push(Role::decode(value.clone()).map_err(|_| malformed())?),
                AUTH => match auth::decode_fact(key, value)? {
                    Fact::Enabled => facts.auth_enabled = true,
                    Fact::Revision(revision) => facts.auth_revision = revision,
                },
                _ => {}
            }
        }
        Ok(facts)
    }
}
