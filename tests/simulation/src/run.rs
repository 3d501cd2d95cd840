//! One run of one seed: faults for a while, then none, and then everything must be whole.

use std::path::Path;
use std::time::Duration;

use keystead_raft::simulation;
use tempfile::TempDir;
use turmoil::Sim;

use crate::coverage::Coverage;
use crate::disk::Disk;
use crate::faults::{Faults, OPERATOR_MS, crash, make_room};
use crate::leases::Clockwork;
use crate::member;
use crate::plan::Plan;
use crate::watching;
use crate::world::{Facts, Order, Slot, World};

/// How often members are looked at, and logs compared.
const LOOK_MS: u64 = 20;
const COMPARE_MS: u64 = 500;
/// The most that a clean stop takes: a hand-over, answers to what was proposed, and a slow disk.
const STOP_MS: u64 = 20_000;

/// What became of a run.
pub struct Report {
    pub members: usize,
    pub simulated_ms: u64,
    pub trace: u64,
    pub coverage: Coverage,
    pub violations: Vec<String>,
}

/// Runs a plan to its end, or until something is wrong.
///
/// # Errors
/// There is no place for the members' directories.
pub fn run(plan: Plan, verbose: bool) -> anyhow::Result<Report> {
    simulation::enter();
    watching::begin(verbose);
    let dirs = directory()?;
    let world = Facts::new(plan.clone(), Vec::new(), verbose);
    let mut sim = turmoil::Builder::new()
        .rng_seed(plan.seed)
        .simulation_duration(Duration::from_secs(3600))
        .min_message_latency(Duration::ZERO)
        .max_message_latency(Duration::from_millis(plan.latency_ms))
        .tcp_capacity(4096)
        .build();
    for _ in 0..plan.members {
        add_host(&world, &mut sim, dirs.path());
    }
    let mut faults = Faults::of(&world);
    while world.lock().now_ms < plan.faults_ms && is_right(&world) {
        step(&world, &mut sim, dirs.path());
        faults.step(&mut sim);
    }
    faults.heal(&mut sim);
    world.lock().calm = true;
    let limit = plan.faults_ms + plan.healing_ms();
    while is_right(&world) && !is_whole(&world) {
        step(&world, &mut sim, dirs.path());
        ask_all_to_write(&world);
        if world.lock().now_ms.is_multiple_of(OPERATOR_MS) {
            make_room(&world);
        }
        if world.lock().now_ms > limit {
            let standing = standing(&world);
            world
                .lock()
                .violated(format!("the cluster is not whole in time: {standing}"));
        }
    }
    world.lock().check_acked();
    let hosts = world.lock().slots.len();
    for at in 0..hosts {
        crash(&world, &mut sim, at, false, None);
    }
    let seen = watching::seen();
    let mut facts = world.lock();
    let coverage = &mut facts.coverage;
    coverage.tails_truncated = seen.tails_truncated;
    coverage.snapshots_cut = seen.snapshots_cut;
    coverage.snapshots_resumed = seen.snapshots_resumed;
    Ok(Report {
        members: plan.members,
        simulated_ms: facts.now_ms,
        trace: facts.trace(),
        coverage: facts.coverage.clone(),
        violations: facts.violations.clone(),
    })
}

/// In memory where the system has such a place: the store syncs each commit.
fn directory() -> std::io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let prefix = "keystead-simulation-";
    tempfile::Builder::new()
        .prefix(prefix)
        .tempdir_in(memory)
        .or_else(|_| tempfile::Builder::new().prefix(prefix).tempdir())
}

fn is_right(world: &World) -> bool {
    world.lock().violations.is_empty()
}

fn add_host(world: &World, sim: &mut Sim<'_>, dirs: &Path) {
    let at = {
        let mut facts = world.lock();
        let at = facts.slots.len();
        let disk = Disk::new(facts.plan.seed ^ ((at as u64) << 8));
        let clock = Clockwork::of(facts.plan.seed, at);
        let dir = dirs.join(Plan::host(at));
        facts.slots.push(Slot::new(disk, dir, clock));
        at
    };
    let world = world.clone();
    sim.host(Plan::host(at), move || member::run(world.clone(), at));
}

/// One millisecond of all hosts, and what follows from it.
fn step(world: &World, sim: &mut Sim<'_>, dirs: &Path) {
    if let Err(error) = sim.step() {
        world
            .lock()
            .violated(format!("the simulation ended: {error}"));
    }
    let now = {
        let mut facts = world.lock();
        facts.now_ms += 1;
        facts.now_ms
    };
    for panic in watching::take_panics() {
        world.lock().violated(format!("a task panicked: {panic}"));
    }
    end_halted(world, sim, now);
    end_stopped(world, sim, now);
    restart_due(world, sim, now);
    if now.is_multiple_of(LOOK_MS) {
        follow_membership(world, sim, dirs);
        let mut facts = world.lock();
        for at in facts.up() {
            facts.look(at);
        }
        if now.is_multiple_of(COMPARE_MS) {
            facts.compare_logs();
        }
    }
}

/// Ends the hosts of members that would have ended their processes.
fn end_halted(world: &World, sim: &mut Sim<'_>, now: u64) {
    let halts = simulation::take_halts();
    let ended: Vec<usize> = {
        let facts = world.lock();
        let has_ended = |at: &usize| {
            let member = facts.member(*at);
            let stops = facts.slots[*at].stopping.is_some();
            !stops && member.is_some_and(|(consensus, _)| consensus.has_ended())
        };
        facts.up().into_iter().filter(has_ended).collect()
    };
    for at in ended {
        let failed = {
            let mut facts = world.lock();
            let failed = facts.slots[at].disk.take_failed();
            facts.coverage.disks_failed += u64::from(failed);
            failed
        };
        if !failed {
            world
                .lock()
                .violated(format!("m{at} ended by itself: {halts:?}"));
        }
        crash(world, sim, at, false, Some(now + 200));
    }
}

/// Ends the hosts of members that have stopped as they were asked to, and with that nothing may be lost any more.
fn end_stopped(world: &World, sim: &mut Sim<'_>, now: u64) {
    let hosts = world.lock().slots.len();
    for at in 0..hosts {
        let (stopped, overdue) = {
            let slot = &world.lock().slots[at];
            let overdue = slot.stopping.is_some_and(|since| since + STOP_MS < now);
            (slot.stopped, overdue && !slot.stopped)
        };
        if overdue {
            world.lock().violated(format!("m{at} does not stop"));
        }
        if stopped {
            crash(world, sim, at, true, Some(now + 100));
        }
    }
}

fn restart_due(world: &World, sim: &mut Sim<'_>, now: u64) {
    let due: Vec<usize> = {
        let mut facts = world.lock();
        let slots = facts.slots.iter_mut().enumerate();
        let due =
            slots.filter(|(_, slot)| !slot.gone && slot.restart_at.is_some_and(|at| at <= now));
        due.map(|(at, slot)| {
            slot.restart_at = None;
            at
        })
        .collect()
    };
    for at in due {
        world.lock().ended(at);
        sim.bounce(Plan::host(at));
    }
}

/// Whom the leader counts among the members and who was never started is started; who was removed, as anybody has applied,
/// ends.
fn follow_membership(world: &World, sim: &mut Sim<'_>, dirs: &Path) {
    let listed = {
        let facts = world.lock();
        let leader = facts.leader().and_then(|at| facts.member(at));
        leader.map_or(Vec::new(), |(consensus, _)| consensus.members())
    };
    while listed
        .iter()
        .any(|member| Plan::at(member.id) >= world.lock().slots.len())
    {
        add_host(world, sim, dirs);
    }
    let removed: Vec<usize> = {
        let facts = world.lock();
        let readers = facts.up().into_iter().filter_map(|at| facts.member(at));
        let readers: Vec<_> = readers.map(|(_, reader)| reader).collect();
        let hosts = 0..facts.slots.len();
        hosts
            .filter(|at| !facts.slots[*at].gone)
            .filter(|at| readers.iter().any(|it| it.was_removed(Plan::id(*at))))
            .collect()
    };
    for at in removed {
        world.lock().slots[at].gone = true;
        crash(world, sim, at, false, None);
    }
}

/// Every member that is up is asked to write, once; those that come later, too.
fn ask_all_to_write(world: &World) {
    let mut facts = world.lock();
    for at in facts.members() {
        if facts.member(at).is_some() && !std::mem::replace(&mut facts.slots[at].asked, true) {
            facts.order(at, Order::Write);
        }
    }
}

/// Whether all members wrote, and have the same state.
fn is_whole(world: &World) -> bool {
    let facts = world.lock();
    let mut states = Vec::new();
    for at in facts.members() {
        let Some((consensus, reader)) = facts.member(at) else {
            return false;
        };
        if !facts.slots[at].wrote_last {
            return false;
        }
        states.push((consensus.status().applied_index, reader));
    }
    if states.is_empty() || states.iter().any(|(applied, _)| *applied != states[0].0) {
        return false;
    }
    let hashes = states
        .iter()
        .map(|(_, reader)| reader.store().hash_kv(0).ok());
    let hashes: Vec<_> = hashes.collect();
    drop(states);
    let same = hashes
        .iter()
        .all(|hash| hash.is_some() && *hash == hashes[0]);
    drop(facts);
    if !same {
        world.lock().violated(format!(
            "members with the same log have other stores: {hashes:?}"
        ));
    }
    same
}

/// Who stands where, for the report of a cluster that did not come together.
fn standing(world: &World) -> String {
    let facts = world.lock();
    let slots = facts.slots.iter().enumerate();
    let all = slots.map(|(at, slot)| match facts.member(at) {
        Some((consensus, _)) => {
            format!("m{at} {:?}, wrote: {}", consensus.status(), slot.wrote_last)
        }
        None if slot.gone => format!("m{at} is gone"),
        None => format!("m{at} is down"),
    });
    all.collect::<Vec<_>>().join("; ")
}
