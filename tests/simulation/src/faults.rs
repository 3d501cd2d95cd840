//! What goes wrong in a run, and when: hosts that crash, networks (`network.rs`), disks that are slow or fail, and changes of
//! leader and members that are asked for in between.

use keystead_raft::MemberChange;
use turmoil::Sim;

use crate::network::Network;
use crate::plan::{HOSTS, PORTS, Plan};
use crate::world::{Order, World};

/// Term and owner of a vote, where there is one.
type Vote = Option<(u64, u64)>;

/// How often somebody looks whether an alarm stands.
pub const OPERATOR_MS: u64 = 1_000;

/// Chooses the next fault, and ends those that are over.
pub struct Faults {
    world: World,
    plan: Plan,
    dice: fastrand::Rng,
    next_at: u64,
    network: Network,
    /// Disks that are to be as before, and when.
    slow_disks: Vec<(u64, usize)>,
    full_disks: Vec<(u64, usize)>,
    /// The votes of all, where the next that votes is to crash.
    awaits_vote: Option<Vec<Vote>>,
    /// What the next leader is asked for.
    wants_other_leader: bool,
    wants_other_members: bool,
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
            network: Network::of(world),
            slow_disks: Vec::new(),
            full_disks: Vec::new(),
            awaits_vote: None,
            wants_other_leader: false,
            wants_other_members: false,
        }
    }

    /// To be called every millisecond.
    pub fn step(&mut self, sim: &mut Sim<'_>) {
        let now = self.world.lock().now_ms;
        self.network.end_what_is_over(sim, now);
        for (_, at) in self.slow_disks.extract_if(.., |(until, _)| *until <= now) {
            self.world.lock().slots[at].disk.set_pace(2);
        }
        for (_, at) in self.full_disks.extract_if(.., |(until, _)| *until <= now) {
            self.world.lock().slots[at].disk.set_full(false);
        }
        if now.is_multiple_of(OPERATOR_MS) {
            make_room(&self.world);
        }
        self.crash_who_voted(sim, now);
        self.end_moves(sim, now);
        self.ask_leader();
        if now < self.next_at {
            return;
        }
        self.next_at = now + self.dice.u64(50..700);
        match self.dice.u8(..148) {
            0..18 => self.crash_one(sim, now),
            18..21 => self.crash_all(sim, now),
            21..41 => {
                let hosts = self.running();
                self.network.cut(sim, now, hosts, &mut self.dice);
            }
            41..47 => self.slow_disk(now),
            47..53 => self.failing_disk(),
            53..58 => self.with_link(|network, link, dice| network.slow(sim, now, link, dice)),
            58..63 => self.with_link(|network, link, dice| network.hold(sim, now, link, dice)),
            63..80 => self.with_link(|network, link, dice| network.sicken(sim, now, link, dice)),
            80..93 => self.wants_other_leader = true,
            93..103 => self.stop_one(now),
            103..109 => self.jump(now),
            109..115 => self.full_disk(now),
            115..121 => self.defragment(),
            121..126 => self.crash_leader_and_voter(sim, now),
            _ => self.wants_other_members = self.plan.changes_members,
        }
    }

    /// Ends all faults: networks and disks are as at first, and whoever is down starts.
    pub fn heal(&mut self, sim: &mut Sim<'_>) {
        self.network.heal(sim);
        self.end_moves(sim, u64::MAX);
        let mut facts = self.world.lock();
        facts.note(|| "all faults end".to_owned());
        for slot in &mut facts.slots {
            slot.disk.set_pace(2);
            slot.disk.set_failing(None);
            slot.disk.set_full(false);
            slot.restart_at = slot.restart_at.map(|_| 0);
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

    /// The leader more often than others.
    fn one_that_runs(&mut self) -> Option<usize> {
        let running = self.running();
        let leader = self.world.lock().leader();
        match (leader, self.dice.u8(..3)) {
            (Some(leader), 0) => Some(leader),
            _ => self.one_of(&running),
        }
    }

    fn crash_one(&mut self, sim: &mut Sim<'_>, now: u64) {
        if let Some(at) = self.one_that_runs() {
            let (power, down) = (self.dice.bool(), self.dice.u64(0..2_000));
            crash(&self.world, sim, at, power, Some(now + down));
        }
    }

    /// A member is asked to stop, as by SIGTERM.
    fn stop_one(&mut self, now: u64) {
        let Some(at) = self.one_that_runs() else {
            return;
        };
        let mut facts = self.world.lock();
        if facts.member(at).is_some() && facts.slots[at].stopping.is_none() {
            facts.slots[at].stopping = Some(now);
            facts.order(at, Order::Stop);
        }
    }

    /// A machine was suspended: the clock that leases live by goes on at once.
    fn jump(&mut self, now: u64) {
        let Some(at) = self.one_that_runs() else {
            return;
        };
        let by = self.dice.u64(200..5_000);
        let mut facts = self.world.lock();
        facts.note(|| format!("the clock of m{at} jumps by {by} ms"));
        facts.coverage.clocks_jumped += 1;
        facts.slots[at].clock.jump(now, by);
    }

    /// The leader crashes, and of those who vote for the next the first loses its power at once.
    fn crash_leader_and_voter(&mut self, sim: &mut Sim<'_>, now: u64) {
        let leader = self.world.lock().leader();
        if let Some(leader) = leader {
            let down = self.dice.u64(0..2_000);
            crash(&self.world, sim, leader, false, Some(now + down));
            self.awaits_vote = Some(votes(&self.world));
        }
    }

    fn crash_who_voted(&mut self, sim: &mut Sim<'_>, now: u64) {
        let Some(before) = &self.awaits_vote else {
            return;
        };
        let votes = votes(&self.world);
        let mut both = before.iter().zip(&votes);
        if let Some(at) = both.position(|(before, now)| now > before && before.is_some()) {
            self.awaits_vote = None;
            self.world.lock().coverage.crashed_voting += 1;
            let down = self.dice.u64(0..500);
            crash(&self.world, sim, at, true, Some(now + down));
        }
    }

    fn crash_all(&mut self, sim: &mut Sim<'_>, now: u64) {
        for at in self.running() {
            let down = self.dice.u64(0..800);
            crash(&self.world, sim, at, true, Some(now + down));
        }
        self.world.lock().coverage.all_crashed += 1;
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

    /// The log has no room for a new segment: it goes on with those that it can use again.
    fn full_disk(&mut self, now: u64) {
        let hosts = self.running();
        let Some(at) = self.one_of(&hosts) else {
            return;
        };
        let until = now + self.dice.u64(500..3_000);
        let mut facts = self.world.lock();
        facts.note(|| format!("the disk of m{at} is full until {until}"));
        facts.coverage.disks_full += 1;
        facts.slots[at].disk.set_full(true);
        self.full_disks.push((until, at));
    }

    fn defragment(&mut self) {
        let up = self.world.lock().up();
        if let Some(at) = self.one_of(&up) {
            self.world.lock().order(at, Order::Defragment);
        }
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

    fn with_link(&mut self, ill: impl FnOnce(&mut Network, (usize, usize), &mut fastrand::Rng)) {
        let hosts = self.running();
        let (Some(a), Some(b)) = (self.one_of(&hosts), self.one_of(&hosts)) else {
            return;
        };
        if a != b {
            ill(&mut self.network, (a, b), &mut self.dice);
        }
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
        if self.dice.u8(..3) == 0
            && let Some(change) = self.move_of(&members)
        {
            return self.world.lock().order(leader, Order::Change(change));
        }
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

    /// A member that is to be reached at its other port.
    fn move_of(
        &mut self,
        members: &[keystead_proto::etcdserverpb::Member],
    ) -> Option<MemberChange> {
        let facts = self.world.lock();
        let listens_at_both = |id: u64| {
            facts
                .slots
                .get(Plan::at(id))
                .is_some_and(|it| it.only.is_none())
        };
        let movable: Vec<_> = members.iter().filter(|it| listens_at_both(it.id)).collect();
        let chosen = (!movable.is_empty()).then(|| movable[self.dice.usize(..movable.len())])?;
        let at = Plan::at(chosen.id);
        let urls = PORTS.map(|port| Plan::url(at, port));
        let other = urls.into_iter().find(|url| !chosen.peer_urls.contains(url));
        Some(MemberChange::Update {
            id: chosen.id,
            peer_urls: vec![other?],
        })
    }

    /// Whose address was changed starts again, and listens there alone for a while; then everywhere, for a change that nobody has
    /// heard of may yet come.
    fn end_moves(&mut self, sim: &mut Sim<'_>, now: u64) {
        let hosts = self.world.lock().slots.len();
        for at in 0..hosts {
            let (begins, ends) = {
                let mut facts = self.world.lock();
                let slot = &mut facts.slots[at];
                let ends = slot.only.is_some_and(|(_, until)| until <= now);
                let moved = slot.moved.take().filter(|_| now < u64::MAX && !slot.gone);
                if let Some(port) = moved {
                    slot.only = Some((port, now + self.dice.u64(1_500..4_000)));
                } else if ends {
                    slot.only = None;
                }
                (moved.is_some(), ends && !slot.gone)
            };
            if begins || ends {
                crash(&self.world, sim, at, false, Some(now.saturating_add(50)));
            }
        }
    }
}

fn votes(world: &World) -> Vec<Vote> {
    let facts = world.lock();
    let running = facts.slots.iter().map(|slot| slot.running.as_ref());
    running
        .map(|running| running.and_then(|it| it.inside.vote()))
        .collect()
}

/// Has a member compact and disarm the alarms, where one stands.
pub fn make_room(world: &World) {
    let mut facts = world.lock();
    let stands = |at: &usize| {
        facts
            .member(*at)
            .is_some_and(|(_, reader)| !reader.alarms().is_empty())
    };
    let first = facts.up().into_iter().find(stands);
    if let Some(at) = first {
        facts.order(at, Order::MakeRoom);
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
