//! Power cuts under load, over and over on one disk, and in the first moments of new ones. `KEYSTEAD_POWER_CUTS` and
//! `KEYSTEAD_FIRST_CUTS` say how many.

use std::time::{Duration, Instant};

use keystead_tests::{Random, Sights, TINY_LIMITS};

use super::disk::OnLossyDisk;
use super::ledger::Ledger;
use super::load::{Load, Round};
use super::{seed, times};

const CUTS: u64 = 200;
const FIRST_CUTS: u64 = 12;
/// A cut falls somewhere in this after the load began.
const LOAD: Duration = Duration::from_millis(250);
/// In the first life of a member it is later, so that much of the log is purged before.
const FIRST_LOAD: Duration = Duration::from_millis(1200);
/// A start takes about as long as this.
const START: Duration = Duration::from_millis(80);
/// In one of so many rounds the cut is followed by one while the member still starts.
const EARLY_ONE_IN: u64 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_under_load_loses_no_acknowledged_write() {
    let Some(mut member) = OnLossyDisk::prepare(&TINY_LIMITS) else {
        return;
    };
    let cuts = times("KEYSTEAD_POWER_CUTS", CUTS);
    let mut random = Random::new(seed());
    let mut ledger = Ledger::default();
    let mut sights = Sights::default();
    let (mut compactions, mut slowest) = (0, Duration::ZERO);
    let begin = Instant::now();
    member.server.restart().await;
    for cut in 0..cuts {
        let round = write_until_cut(&mut member, &ledger, cut, LOAD, &mut random).await;
        compactions += round.compactions.iter().filter(|(_, done)| *done).count() as u64;
        sights.look(&member.data());
        if random.one_in(EARLY_ONE_IN) {
            cut_while_starting(&mut member, &mut random).await;
        }
        let started = Instant::now();
        member.server.restart().await;
        slowest = slowest.max(started.elapsed());
        let channel = member.server.channel();
        ledger.settle(round, &channel, &mut random).await;
    }
    let mut counts = vec![
        ("acknowledged writes, all there", ledger.acknowledged),
        ("equal hashes", ledger.hashes_compared),
        ("physical compactions", compactions),
    ];
    counts.extend(sights.counts());
    println!(
        "{cuts} power cuts in {:?}, slowest start {slowest:?}: {counts:?}",
        begin.elapsed()
    );
    for (what, count) in counts {
        assert!(count > 0, "the run proves little: there were no {what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_in_the_first_moments_of_a_member_loses_nothing_either() {
    let lives = times("KEYSTEAD_FIRST_CUTS", FIRST_CUTS);
    let mut random = Random::new(seed());
    for _ in 0..lives {
        let Some(mut member) = OnLossyDisk::prepare(&TINY_LIMITS) else {
            return;
        };
        cut_while_starting(&mut member, &mut random).await;
        member.server.restart().await;
        let mut ledger = Ledger::default();
        let round = write_until_cut(&mut member, &ledger, 0, FIRST_LOAD, &mut random).await;
        member.server.restart().await;
        let channel = member.server.channel();
        ledger.settle(round, &channel, &mut random).await;
    }
}

/// Lets clients write for a while, then turns the power off under them.
async fn write_until_cut(
    member: &mut OnLossyDisk,
    ledger: &Ledger,
    number: u64,
    at_most: Duration,
    random: &mut Random,
) -> Round {
    let channel = member.server.channel();
    let load = Load::start(&channel, number, ledger.leases(), random);
    let moment = random.below(at_most.as_millis() as u64);
    tokio::time::sleep(Duration::from_millis(moment)).await;
    member.server.kill();
    let round = load.stop().await;
    member.cut(random.bits());
    round
}

async fn cut_while_starting(member: &mut OnLossyDisk, random: &mut Random) {
    member.server.launch();
    let moment = random.below(START.as_millis() as u64);
    tokio::time::sleep(Duration::from_millis(moment)).await;
    member.cut(random.bits());
}
