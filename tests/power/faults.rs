//! The k-th operation of the disk fails, once or from then on, while a member starts or works. It ends with an error or
//! goes on; and whatever it acknowledged is there once the disk is well again. `KEYSTEAD_DISK_FAULTS` says how many faults
//! are tried of each kind.

use std::time::{Duration, Instant};

use keystead_lossyfs::{Errno, Fault};
use keystead_proto::etcdserverpb::alarm_request::AlarmAction;
use keystead_proto::etcdserverpb::{AlarmMember, AlarmRequest};
use keystead_tests::{Random, TINY_LIMITS, Unary};
use tonic::transport::Channel;

use super::disk::OnLossyDisk;
use super::ledger::Ledger;
use super::load::Load;
use super::{seed, times};

const FAULTS: u64 = 25;
/// A fault falls on one of so many operations after the start began; starting alone takes about twenty.
const OPERATIONS: u64 = 400;
/// How long a member works on, though the fault may have come.
const LOAD: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_input_output_error_all_that_was_acknowledged_is_there() {
    fail_and_check(Errno::EIO, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_disk_was_full_for_a_moment_all_that_was_acknowledged_is_there() {
    fail_and_check(Errno::ENOSPC, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_disk_was_full_for_good_all_that_was_acknowledged_is_there() {
    fail_and_check(Errno::ENOSPC, true).await;
}

async fn fail_and_check(errno: Errno, lasting: bool) {
    let Some(mut member) = OnLossyDisk::prepare(&TINY_LIMITS) else {
        return;
    };
    let faults = times("KEYSTEAD_DISK_FAULTS", FAULTS);
    let mut random = Random::new(seed());
    let mut ledger = Ledger::default();
    let (mut refused_starts, mut ends, mut survived) = (0, 0, 0);
    for number in 0..faults {
        // Early operations are few and each is another: half of the faults are theirs.
        let after = random.below(*random.clone().pick(&[40, OPERATIONS]));
        let hit = member.directory.disk.operations() + after;
        member.directory.disk.fail(Some(Fault {
            after,
            errno,
            lasting,
        }));
        let what = format!("operation {after} of round {number} fails");
        let round = match member.server.try_restart().await {
            Err(ended) => {
                assert_eq!(ended.code(), Some(1), "{what}: {}", member.server.log());
                refused_starts += 1;
                Default::default()
            }
            Ok(()) => {
                let channel = member.server.channel();
                let load = Load::start(&channel, number, ledger.leases(), &mut random);
                let begin = Instant::now();
                while begin.elapsed() < LOAD && !load.gave_up() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                match member.server.ended() {
                    Some(ended) => {
                        assert_eq!(ended.code(), Some(1), "{what}: {}", member.server.log());
                        ends += 1;
                    }
                    None => survived += u64::from(member.directory.disk.operations() > hit),
                }
                // What is left of the server when it ended takes the load's connections with it.
                member.server.kill();
                load.stop().await
            }
        };
        member.directory.disk.fail(None);
        if random.one_in(2) {
            member.cut(random.bits());
        }
        member.server.restart().await;
        let channel = member.server.channel();
        disarm(&channel).await;
        ledger.settle(round, &channel, &mut random).await;
    }
    println!(
        "{faults} faults {errno:?}, lasting {lasting}: {refused_starts} starts refused, {ends} members ended, {survived} \
         went on; {} acknowledged writes are there",
        ledger.acknowledged
    );
    let hits = if errno == Errno::ENOSPC && !lasting {
        // A moment without space is mostly one to wait for.
        [ends + refused_starts + survived; 2]
    } else {
        [ends, refused_starts]
    };
    assert!(!hits.contains(&0), "the faults hit nothing");
}

/// What an operator does once the disk has room again.
async fn disarm(channel: &Channel) {
    let raised = AlarmRequest::default().send(channel.clone()).await;
    for AlarmMember { member_id, alarm } in raised.expect("a healthy member answers").alarms {
        let disarm = AlarmRequest {
            action: AlarmAction::Deactivate.into(),
            member_id,
            alarm,
        };
        disarm.send(channel.clone()).await.expect("disarmed");
    }
}
