//! The checks for corruption beside everything that goes wrong: none of them may find any, for their alarm stops all writes.
//! A run has all of them on or none.

use keystead_proto::etcdserverpb::AlarmRequest;
use keystead_proto::etcdserverpb::alarm_request::AlarmAction;
use keystead_tests::{Cluster, Unary};
use tokio::time::timeout;

use super::RECOVERY_LIMIT;

/// Every check there is, at short intervals. What a compaction leaves is forgotten by a member that starts again, and soon one does.
pub const CHECKS: [&str; 6] = [
    "--feature-gates",
    "InitialCorruptCheck=true,CompactHashCheck=true",
    "--corrupt-check-time",
    "1s",
    "--compact-hash-check-time",
    "300ms",
];

/// What a member logs that finds corruption, by each of the checks, and when an alarm is raised, which may not stand any more.
const FINDINGS: [&str; 4] = [
    "found data inconsistency with peers",
    "data corruption detected",
    "Detected compaction hash mismatch",
    "alarm raised",
];

/// Fails when a member has found corruption, ever since the run began, or lists an alarm.
pub async fn assert_none_found(cluster: &Cluster) {
    for (member, server) in cluster.members().iter().enumerate() {
        let log = server.log();
        let finding = log
            .lines()
            .find(|line| FINDINGS.iter().any(|finding| line.contains(finding)));
        assert_eq!(finding, None, "member {member} found corruption");
        let request = AlarmRequest {
            action: AlarmAction::Get.into(),
            ..AlarmRequest::default()
        };
        let listed = timeout(RECOVERY_LIMIT, request.send(cluster.channel(member))).await;
        let listed = listed.expect("nothing is wrong any more");
        let alarms = listed.expect("nothing is wrong any more").alarms;
        assert!(alarms.is_empty(), "member {member} lists {alarms:?}");
    }
}
