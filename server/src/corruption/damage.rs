//! This member's own rows: one whose checksum fails is refused to whoever reads it, and reported here.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::raise;
use crate::member::Member;

/// How long a damaged row may go without the alarm.
const LOOK: Duration = Duration::from_secs(1);

/// Raises the alarm for this member whenever a damaged row was read, also when it was disarmed since.
pub(super) async fn run(member: &Member) {
    let mut reported = 0;
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let found = member.reader.store().counters().damaged_reads;
        if found > reported && raise(member, member.headers.member_id()).await.is_ok() {
            reported = found;
        }
    }
}
