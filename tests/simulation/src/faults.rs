//! What goes wrong in a run, and when: hosts that crash, networks that are cut in every shape, disks that are slow or fail, and
//! changes of leader and members that are asked for in between.

use std::time::Duration;

use keystead_raft::MemberChange;
use turmoil::Sim;

use crate::plan::{HOSTS, Plan};
use crate::world::{Order, World};

/// Chooses the next fault, and ends those that are over.
pub struct Faults {
    world: World,
    plan: Plan,
    dice: fastrand::Rng,
    next_at: u64,
    partition: Option<Partition>,
    /// Disks and links that are to be as before, and when.
    slow_disks: Vec<(u64, usize)>,
    slow_links: Vec<(u64, usize, usize)>,
    /// What the next leader is asked for.
    wants_other_leader: bool,
    wants_other_members: bool,
}

struct Partition {
    until: u64,
    /// What can't be sent, from which host to which.
    cut: Vec<(usize, usize)>,
    /// How often it comes and goes.
    flaps_ms: Option<u64>,
    is_cut: bool,
}

impl Faults {
    /// The faults of a plan; none has come yet.
    pub fn of(world: &World) -> Self {
        let plan = world.lock().plan.clone();
        Self {
            world: world.clone(),
            dice: fastrand::Rng::with_seed(plan.seed ^ 0xfa17),
            // The founders find together first.
            next_at: 1_500,
            plan,
            partition: None,
            slow_disks: Vec::new(),
            slow_links: Vec::new(),
            wants_other_leader: false,
            wants_other_members: false,
        }
    }

    /// To be called every millisecond.
    pub fn step(&mut self, sim: &mut Sim<'_>) {
        let now = self.world.lock().now_ms;
        self.end_what_is_over(sim, now);
        self.ask_leader();
        if now < self.next_at {
            return;
        }
        self.next_at = now + self.dice.u64(50..900);
        match self.dice.u8(..100) {
            0..18 => self.crash_one(sim, now),
            18..22 => self.crash_all(sim, now),
            22..42 => self.partition(sim, now),
            42..49 => self.slow_disk(now),
            49..55 => self.failing_disk(),
            55..61 => self.slow_link(sim, now),
            61..75 => self.wants_other_leader = true,
            _ => self.wants_other_members = self.plan.changes_members,
        }
    }

    /// Ends all faults: networks and disks are as at first, and whoever is down starts.
    pub fn heal(&mut self, sim: &mut Sim<'_>) {
        self.heal_network(sim);
        for (_, a, b) in std::mem::take(&mut self.slow_links) {
            self.set_latency(sim, a, b, self.plan.latency_ms);
        }
        let mut facts = self.world.lock();
        facts.note(|| "all faults end".to_owned());
        for slot in &mut facts.slots {
            slot.disk.set_pace(2);
            slot.disk.set_failing(None);
            slot.restart_at = slot.restart_at.map(|_| 0);
        }
    }

    fn end_what_is_over(&mut self, sim: &mut Sim<'_>, now: u64) {
        match &mut self.partition {
            Some(partition) if partition.until <= now => self.heal_network(sim),
            Some(partition)
                if partition
                    .flaps_ms
                    .is_some_and(|flaps| now.is_multiple_of(flaps)) =>
            {
                partition.is_cut = !partition.is_cut;
                set_cut(sim, &partition.cut, partition.is_cut);
            }
            _ => {}
        }
        for (_, at) in self.slow_disks.extract_if(.., |(until, _)| *until <= now) {
            self.world.lock().slots[at].disk.set_pace(2);
        }
        let over: Vec<_> = self
            .slow_links
            .extract_if(.., |(until, ..)| *until <= now)
            .collect();
        for (_, a, b) in over {
            self.set_latency(sim, a, b, self.plan.latency_ms);
        }
    }

    fn running(&self) -> Vec<usize> {
        let facts = self.world.lock();
        let hosts = 0..facts.slots.len();
        hosts
            .filter(|at| facts.slots[*at].running.is_some())
            .collect()
    }

    fn one_of(&mut self, hosts: &[usize]) -> Option<usize> {
        (!hosts.is_empty()).then(|| hosts[self.dice.usize(..hosts.len())])
    }

    fn crash_one(&mut self, sim: &mut Sim<'_>, now: u64) {
        let running = self.running();
        let leader = self.world.lock().leader();
        // The leader more often than others.
        let chosen = match (leader, self.dice.u8(..3)) {
            (Some(leader), 0) => Some(leader),
            _ => self.one_of(&running),
        };
        if let Some(at) = chosen {
            let (power, down) = (self.dice.bool(), self.dice.u64(0..2_000));
            crash(&self.world, sim, at, power, Some(now + down));
        }
    }

    fn crash_all(&mut self, sim: &mut Sim<'_>, now: u64) {
        for at in self.running() {
            let down = self.dice.u64(0..800);
            crash(&self.world, sim, at, true, Some(now + down));
        }
        self.world.lock().coverage.all_crashed += 1;
    }

    fn partition(&mut self, sim: &mut Sim<'_>, now: u64) {
        self.heal_network(sim);
        let mut hosts = self.running();
        if hosts.len() < 2 {
            return;
        }
        self.dice.shuffle(&mut hosts);
        let leader = self.world.lock().leader();
        if let Some(place) = hosts.iter().position(|at| Some(*at) == leader)
            && self.dice.bool()
        {
            hosts.swap(0, place);
        }
        let (shape, cut) = self.shape(&hosts);
        let flaps_ms = (self.dice.u8(..5) == 0).then(|| self.dice.u64(50..200));
        set_cut(sim, &cut, true);
        let until = now + self.dice.u64(300..2_500);
        let mut facts = self.world.lock();
        facts.note(|| format!("the network is cut ({shape}) around {hosts:?} until {until}, flapping: {flaps_ms:?}"));
        facts.coverage.partitions += 1;
        self.partition = Some(Partition {
            until,
            cut,
            flaps_ms,
            is_cut: true,
        });
    }

    /// What is cut, for hosts of which the first is in the middle of it.
    fn shape(&mut self, hosts: &[usize]) -> (&'static str, Vec<(usize, usize)>) {
        let (first, rest) = (hosts[0], &hosts[1..]);
        let both = |a: usize, b: usize| [(a, b), (b, a)];
        let half = hosts.len() / 2;
        match self.dice.u8(..6) {
            0 => (
                "one alone",
                rest.iter().flat_map(|at| both(first, *at)).collect(),
            ),
            1 => ("one mute", rest.iter().map(|at| (first, *at)).collect()),
            2 => ("one deaf", rest.iter().map(|at| (*at, first)).collect()),
            3 => {
                let (left, right) = hosts.split_at(half);
                let pairs = left
                    .iter()
                    .flat_map(|a| right.iter().map(move |b| (*a, *b)));
                ("two parts", pairs.flat_map(|(a, b)| both(a, b)).collect())
            }
            4 => {
                // The first reaches all, and no other reaches those of the other side.
                let (left, right) = rest.split_at(rest.len() / 2);
                let pairs = left
                    .iter()
                    .flat_map(|a| right.iter().map(move |b| (*a, *b)));
                ("bridge", pairs.flat_map(|(a, b)| both(a, b)).collect())
            }
            _ => {
                // Each reaches the next and the one before it.
                let count = hosts.len();
                let apart = |a: usize, b: usize| (a + 1) % count != b && (b + 1) % count != a;
                let pairs = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
                let pairs =
                    pairs.filter(|(a, b)| a != b && (apart(*a, *b) || (count < 4 && a + b == 1)));
                ("ring", pairs.map(|(a, b)| (hosts[a], hosts[b])).collect())
            }
        }
    }

    fn heal_network(&mut self, sim: &mut Sim<'_>) {
        if let Some(partition) = self.partition.take() {
            set_cut(sim, &partition.cut, false);
            self.world.lock().note(|| "the network is whole".to_owned());
        }
    }

    fn slow_disk(&mut self, now: u64) {
        let hosts = self.running();
        let Some(at) = self.one_of(&hosts) else {
            return;
        };
        let (pace, lasts) = (self.dice.u64(30..800), self.dice.u64(500..4_000));
        let mut facts = self.world.lock();
        facts.note(|| format!("the disk of m{at} takes up to {pace} ms for a sync"));
        facts.slots[at].disk.set_pace(pace);
        self.slow_disks.push((now + lasts, at));
    }

    fn failing_disk(&mut self) {
        let hosts = self.running();
        let Some(at) = self.one_of(&hosts) else {
            return;
        };
        let after = self.dice.u32(..40);
        let mut facts = self.world.lock();
        facts.note(|| format!("the disk of m{at} fails after {after} operations"));
        facts.slots[at].disk.set_failing(Some(after));
    }

    fn slow_link(&mut self, sim: &mut Sim<'_>, now: u64) {
        let hosts = self.running();
        let (Some(a), Some(b)) = (self.one_of(&hosts), self.one_of(&hosts)) else {
            return;
        };
        if a != b {
            let (latency, lasts) = (self.dice.u64(20..400), self.dice.u64(500..4_000));
            self.world
                .lock()
                .note(|| format!("messages between m{a} and m{b} take up to {latency} ms"));
            self.set_latency(sim, a, b, latency);
            self.slow_links.push((now + lasts, a, b));
        }
    }

    fn set_latency(&self, sim: &mut Sim<'_>, a: usize, b: usize, ms: u64) {
        sim.set_link_max_message_latency(Plan::host(a), Plan::host(b), Duration::from_millis(ms));
    }

    /// Whoever leads is asked for what was wished for while nobody did.
    fn ask_leader(&mut self) {
        if !self.wants_other_leader && !self.wants_other_members {
            return;
        }
        let leader = self.world.lock().leader();
        let Some(leader) = leader else { return };
        if std::mem::take(&mut self.wants_other_leader) {
            self.move_leader(leader);
        }
        if std::mem::take(&mut self.wants_other_members) {
            self.change_members(leader);
        }
    }

    fn move_leader(&mut self, leader: usize) {
        let up = self.world.lock().up();
        if let Some(to) = self.one_of(&up) {
            self.world.lock().order(leader, Order::Move(Plan::id(to)));
        }
    }

    fn change_members(&mut self, leader: usize) {
        let members = {
            let facts = self.world.lock();
            let member = facts.member(leader);
            member.map_or(Vec::new(), |(consensus, _)| consensus.members())
        };
        let learner = members.iter().find(|member| member.is_learner);
        let voters: Vec<u64> = members
            .iter()
            .filter(|it| !it.is_learner)
            .map(|it| it.id)
            .collect();
        let known = self.world.lock().slots.len();
        let change = match (learner, self.dice.u8(..4)) {
            (Some(learner), 0..3) => MemberChange::Promote(learner.id),
            (Some(learner), _) => MemberChange::Remove(learner.id),
            (None, 0) if voters.len() > 3 => {
                MemberChange::Remove(voters[self.dice.usize(..voters.len())])
            }
            (None, _) if known < HOSTS => {
                let at = known;
                MemberChange::Add(Plan::record(at, self.dice.u8(..4) > 0))
            }
            (None, _) if voters.len() > 3 => {
                MemberChange::Remove(voters[self.dice.usize(..voters.len())])
            }
            _ => return,
        };
        self.world.lock().order(leader, Order::Change(change));
    }
}

fn set_cut(sim: &mut Sim<'_>, pairs: &[(usize, usize)], cut: bool) {
    for (from, to) in pairs {
        let (from, to) = (Plan::host(*from), Plan::host(*to));
        if cut {
            sim.partition_oneway(from, to);
        } else {
            sim.repair_oneway(from, to);
        }
    }
}

/// Ends a member's process, with all that its host's disk had not synced where the power goes.
pub fn crash(world: &World, sim: &mut Sim<'_>, at: usize, power: bool, restart_at: Option<u64>) {
    {
        let mut facts = world.lock();
        facts.note(|| format!("m{at} crashes, its power too: {power}; restarts at {restart_at:?}"));
        facts.ended(at);
        facts.coverage.crashes += 1;
        facts.slots[at].restart_at = restart_at;
    }
    // What ends with it may tell the world.
    sim.crash(Plan::host(at));
    if power {
        let disk = world.lock().slots[at].disk.clone();
        world.lock().coverage.sectors_lost += disk.cut_power();
    }
}
