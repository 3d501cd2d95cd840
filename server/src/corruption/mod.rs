//! Whether all members store the same, and what is done when they do not: the alarm CORRUPT is raised for the member whose
//! data must be replaced, and the cluster changes nothing until it is disarmed. etcd's checks, with its rules; the one
//! at the start of a member is consensus's. Runs on the background thread; hashes are taken at low priority.

mod compaction;
mod damage;
mod periodic;

use keystead_proto::etcdserverpb::alarm_request::AlarmAction;
use keystead_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType};
use keystead_proto::internal::RecordKind;
use keystead_state::Refusal;
use prost::Message as _;

use crate::member::Member;

/// Looks after it for as long as the member runs.
pub(crate) async fn watch(member: &Member) {
    tokio::join!(
        periodic::run(member),
        compaction::run(member),
        damage::run(member)
    );
}

/// Raises CORRUPT for a member, 0 where nobody knows which it is. Nothing is done where it stands.
async fn raise(member: &Member, culprit: u64) -> Result<(), Refusal> {
    let alarm = AlarmType::Corrupt.into();
    let standing = AlarmMember {
        member_id: culprit,
        alarm,
    };
    if member.reader.alarms().contains(&standing) {
        return Ok(());
    }
    let request = AlarmRequest {
        action: AlarmAction::Activate.into(),
        member_id: culprit,
        alarm,
    };
    let raised = member.propose(RecordKind::Alarm, request.encode_to_vec().into());
    raised.await.map(drop).inspect_err(|refusal| {
        let member = id(culprit);
        tracing::warn!(member, %refusal, "the alarm CORRUPT could not be raised; it is tried again");
    })
}

/// A member's id as it is told everywhere.
fn id(member_id: u64) -> String {
    format!("{member_id:016x}")
}
