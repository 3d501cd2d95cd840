//! Raised alarms, and what they make the state refuse.
//!
//! An alarm is raised by one member and holds for the cluster until it is disarmed.
//!
//! ```text
//! table ALARM   key:   member id, 8 bytes | kind of alarm, 4 bytes; both big endian
//!               value: version 1, 1 byte
//! ```

use std::collections::BTreeSet;

use keystead_mvcc::{Store, Writer};
use keystead_proto::etcdserverpb::alarm_request::AlarmAction;
use keystead_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmResponse, AlarmType};

use crate::apply::header;
use crate::table::{ALARM, MalformedEntry};
use crate::{OpenError, Refusal};

const VALUE: [u8; 1] = [1];

/// The alarms that are raised, by member and kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Alarms(BTreeSet<(u64, i32)>);

/// An alarm that was raised, or disarmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlarmChange {
    /// Whose alarm; 0 where nobody knows.
    pub member_id: u64,
    /// Which, as `AlarmType` counts.
    pub alarm: i32,
    /// Raised, or disarmed.
    pub raised: bool,
}

/// What a request does, as far as alarms care. Requests that manage alarms, members or versions are never refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It takes space.
    Grows,
    /// It changes the state without taking space.
    Changes,
}

impl Alarms {
    pub(crate) fn load(store: &Store) -> Result<Self, OpenError> {
        let mut raised = BTreeSet::new();
        for (key, value) in store.table(ALARM)? {
            let alarm = decode_key(&key).filter(|_| *value == VALUE);
            raised.insert(alarm.ok_or_else(|| MalformedEntry::new(ALARM, &key))?);
        }
        Ok(Self(raised))
    }

    /// The alarms of one kind, or all for NONE, by member.
    pub(crate) fn list(&self, kind: i32) -> Vec<AlarmMember> {
        let wanted = |&&(_, alarm): &&(u64, i32)| kind == AlarmType::None as i32 || kind == alarm;
        self.0
            .iter()
            .filter(wanted)
            .map(|&(member_id, alarm)| AlarmMember { member_id, alarm })
            .collect()
    }

    /// Whether a request is let through. CORRUPT is stronger than NOSPACE.
    pub(crate) fn admit(&self, effect: Effect) -> Result<(), Refusal> {
        if self.0.is_empty() {
            return Ok(());
        }
        let raised = |kind: AlarmType| self.0.iter().any(|&(_, alarm)| alarm == kind as i32);
        if raised(AlarmType::Corrupt) {
            return Err(Refusal::Corrupt);
        }
        if effect == Effect::Grows && raised(AlarmType::Nospace) {
            return Err(Refusal::NoSpace);
        }
        Ok(())
    }
}

/// Lists, raises or disarms. The answer holds the alarm that was raised, also when it was before, or the one that was
/// disarmed; nothing when there was none to disarm, and nothing for an alarm or action of no kind.
pub(crate) fn alarm(
    writer: &mut Writer,
    alarms: &mut Alarms,
    request: &AlarmRequest,
    changes: &mut Vec<AlarmChange>,
) -> AlarmResponse {
    let subject = (request.member_id, request.alarm);
    let member = AlarmMember {
        member_id: request.member_id,
        alarm: request.alarm,
    };
    let mut changed = |raised, value| {
        writer.set(ALARM, &encode_key(subject), value);
        changes.push(AlarmChange {
            member_id: request.member_id,
            alarm: request.alarm,
            raised,
        });
    };
    let listed = match AlarmAction::try_from(request.action) {
        Ok(AlarmAction::Get) => alarms.list(request.alarm),
        Ok(AlarmAction::Activate) if request.alarm != AlarmType::None as i32 => {
            if alarms.0.insert(subject) {
                changed(true, Some(&VALUE[..]));
            }
            vec![member]
        }
        Ok(AlarmAction::Deactivate) if alarms.0.remove(&subject) => {
            changed(false, None);
            vec![member]
        }
        Ok(AlarmAction::Activate | AlarmAction::Deactivate) | Err(_) => Vec::new(),
    };
    AlarmResponse {
        header: Some(header(writer.begin().commit())),
        alarms: listed,
    }
}

fn encode_key((member_id, kind): (u64, i32)) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&member_id.to_be_bytes());
    key[8..].copy_from_slice(&kind.to_be_bytes());
    key
}

pub(crate) fn decode_key(key: &[u8]) -> Option<(u64, i32)> {
    let (member_id, kind) = key.split_first_chunk::<8>()?;
    Some((
        u64::from_be_bytes(*member_id),
        i32::from_be_bytes(kind.try_into().ok()?),
    ))
}
