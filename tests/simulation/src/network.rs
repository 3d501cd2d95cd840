//! What goes wrong between hosts, and when it is over: networks that are cut in every shape, links that are slow, that hold
//! messages back to hand them out all at once, and those that are ill (`wires.rs`).

use std::rc::Rc;
use std::time::Duration;

use turmoil::Sim;

use crate::plan::Plan;
use crate::wires::{Ill, Wires};
use crate::world::World;

/// All that is wrong between hosts at the moment.
pub struct Network {
    world: World,
    latency_ms: u64,
    wires: Rc<Wires>,
    partition: Option<Partition>,
    /// Links that are to be as before, and when.
    slow: Vec<(u64, usize, usize)>,
    held: Vec<(u64, usize, usize)>,
}

struct Partition {
    until: u64,
    /// What can't be sent, from which host to which.
    cut: Vec<(usize, usize)>,
    /// How often it comes and goes.
    flaps_ms: Option<u64>,
    is_cut: bool,
}

impl Network {
    /// Nothing is wrong.
    pub fn of(world: &World) -> Self {
        let wires = Wires::of(world);
        keystead_raft::simulation::wire(wires.clone());
        Self {
            world: world.clone(),
            latency_ms: world.lock().plan.latency_ms,
            wires,
            partition: None,
            slow: Vec::new(),
            held: Vec::new(),
        }
    }

    /// Ends what is over, and lets what flaps flap.
    pub fn end_what_is_over(&mut self, sim: &mut Sim<'_>, now: u64) {
        match &mut self.partition {
            Some(partition) if partition.until <= now => self.unite(sim),
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
        for (_, a, b) in extract(&mut self.slow, now) {
            set_latency(sim, a, b, self.latency_ms);
        }
        for (_, a, b) in extract(&mut self.held, now) {
            sim.release(Plan::host(a), Plan::host(b));
        }
        self.wires.end(now);
    }

    /// Ends everything.
    pub fn heal(&mut self, sim: &mut Sim<'_>) {
        self.unite(sim);
        self.end_what_is_over(sim, u64::MAX);
    }

    fn unite(&mut self, sim: &mut Sim<'_>) {
        if let Some(partition) = self.partition.take() {
            set_cut(sim, &partition.cut, false);
            self.world.lock().note(|| "the network is whole".to_owned());
        }
    }

    /// Cuts the network around `hosts`, of which the leader is in the middle more often than others.
    pub fn cut(
        &mut self,
        sim: &mut Sim<'_>,
        now: u64,
        mut hosts: Vec<usize>,
        dice: &mut fastrand::Rng,
    ) {
        self.unite(sim);
        if hosts.len() < 2 {
            return;
        }
        // A link is held or cut.
        for (_, a, b) in std::mem::take(&mut self.held) {
            sim.release(Plan::host(a), Plan::host(b));
        }
        dice.shuffle(&mut hosts);
        let leader = self.world.lock().leader();
        if let Some(place) = hosts.iter().position(|at| Some(*at) == leader)
            && dice.bool()
        {
            hosts.swap(0, place);
        }
        let (shape, cut) = shape(&hosts, dice);
        let flaps_ms = (dice.u8(..5) == 0).then(|| dice.u64(50..200));
        set_cut(sim, &cut, true);
        // Now and then longer than a lease that nobody renews.
        let lasts = match dice.u8(..4) {
            0 => dice.u64(2_500..5_000),
            _ => dice.u64(300..2_500),
        };
        let until = now + lasts;
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

    /// Makes the link between two hosts slow.
    pub fn slow(
        &mut self,
        sim: &mut Sim<'_>,
        now: u64,
        (a, b): (usize, usize),
        dice: &mut fastrand::Rng,
    ) {
        let (latency, lasts) = (dice.u64(20..400), dice.u64(500..4_000));
        self.world
            .lock()
            .note(|| format!("messages between m{a} and m{b} take up to {latency} ms"));
        set_latency(sim, a, b, latency);
        self.slow.push((now + lasts, a, b));
    }

    /// Holds all messages between two hosts back, and hands them out together.
    pub fn hold(
        &mut self,
        sim: &mut Sim<'_>,
        now: u64,
        (a, b): (usize, usize),
        dice: &mut fastrand::Rng,
    ) {
        // What is cut is not held: turmoil's links are in one state.
        self.unite(sim);
        let until = now + dice.u64(50..1_500);
        let mut facts = self.world.lock();
        facts.note(|| format!("messages between m{a} and m{b} are held back until {until}"));
        facts.coverage.links_held += 1;
        sim.hold(Plan::host(a), Plan::host(b));
        self.held.push((until, a, b));
    }

    /// Makes the link between two hosts ill.
    pub fn sicken(
        &mut self,
        sim: &Sim<'_>,
        now: u64,
        (a, b): (usize, usize),
        dice: &mut fastrand::Rng,
    ) {
        let ill = Ill::ALL[dice.usize(..Ill::ALL.len())];
        let until = now + dice.u64(500..4_000);
        let between = (sim.lookup(Plan::host(a)), sim.lookup(Plan::host(b)));
        let mut facts = self.world.lock();
        facts.note(|| format!("the link between m{a} and m{b} is ill until {until}: {ill:?}"));
        facts.coverage.links_in_pieces += u64::from(ill == Ill::Pieces);
        self.wires.begin(ill, between, until);
    }
}

fn extract(links: &mut Vec<(u64, usize, usize)>, now: u64) -> Vec<(u64, usize, usize)> {
    links.extract_if(.., |(until, ..)| *until <= now).collect()
}

/// What is cut, for hosts of which the first is in the middle of it.
fn shape(hosts: &[usize], dice: &mut fastrand::Rng) -> (&'static str, Vec<(usize, usize)>) {
    let (first, rest) = (hosts[0], &hosts[1..]);
    let both = |a: usize, b: usize| [(a, b), (b, a)];
    let half = hosts.len() / 2;
    match dice.u8(..6) {
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

fn set_latency(sim: &mut Sim<'_>, a: usize, b: usize, ms: u64) {
    sim.set_link_max_message_latency(Plan::host(a), Plan::host(b), Duration::from_millis(ms));
}
