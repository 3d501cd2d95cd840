//! Alarms: what keeps the cluster from taking writes.

use keystead_proto::etcdserverpb::alarm_request::AlarmAction;
use keystead_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmResponse, AlarmType};

use crate::channel::rpc;
use crate::client::Client;
use crate::error::Result;
use crate::header::Header;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlarmKind {
    /// The store is full: only deletes and compactions are taken.
    NoSpace,
    /// The member's data differs from the others', or is damaged.
    Corrupt,
}

/// An alarm of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Alarm {
    /// Whose.
    pub member_id: u64,
    /// What.
    pub kind: AlarmKind,
}

/// The answer of both verbs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    /// Who answered.
    pub header: Header,
    /// Those that are raised, or those that were taken back.
    pub alarms: Vec<Alarm>,
}

impl AlarmKind {
    fn of(alarm: AlarmType) -> Option<AlarmKind> {
        match alarm {
            AlarmType::None => None,
            AlarmType::Nospace => Some(AlarmKind::NoSpace),
            AlarmType::Corrupt => Some(AlarmKind::Corrupt),
        }
    }
}

impl From<AlarmKind> for AlarmType {
    fn from(kind: AlarmKind) -> AlarmType {
        match kind {
            AlarmKind::NoSpace => AlarmType::Nospace,
            AlarmKind::Corrupt => AlarmType::Corrupt,
        }
    }
}

impl Alarms {
    fn new(answer: AlarmResponse) -> Alarms {
        let alarm = |alarm: AlarmMember| {
            Some(Alarm {
                member_id: alarm.member_id,
                kind: AlarmKind::of(alarm.alarm())?,
            })
        };
        Alarms {
            header: answer.header.into(),
            alarms: answer.alarms.into_iter().filter_map(alarm).collect(),
        }
    }
}

impl Client {
    /// Lists the alarms that are raised, of all members.
    ///
    /// # Errors
    /// See [`Client::range`].
    pub async fn alarms(&self) -> Result<Alarms> {
        let request = AlarmRequest {
            action: AlarmAction::Get.into(),
            member_id: 0,
            alarm: AlarmType::None.into(),
        };
        let answer = self.call(&rpc::ALARMS, &request).await?;
        Ok(Alarms::new(answer))
    }

    /// Takes an alarm back. Nothing is answered for one that is not raised.
    ///
    /// # Errors
    /// See [`Client::put_with`]; to do it twice harms nothing.
    pub async fn disarm(&self, alarm: Alarm) -> Result<Alarms> {
        let request = AlarmRequest {
            action: AlarmAction::Deactivate.into(),
            member_id: alarm.member_id,
            alarm: AlarmType::from(alarm.kind).into(),
        };
        let answer = self.call(&rpc::DISARM, &request).await?;
        Ok(Alarms::new(answer))
    }
}
