//! Leases: the clocks that members count them by, clients that are granted some, renew them for a while and let them end, and what
//! must be true of that.
//!
//! A client that is told that its lease lives counts its TTL from when it sent the question. Until that is over, the lease
//! must not end; nor may anybody be told that it lives who asked after its end. Time is what the clock of the leader
//! counts that ends it: clocks go at different speeds, and forward at once, as when a machine was suspended.

use std::collections::BTreeMap;
use std::time::Duration;

use keystead_proto::etcdserverpb::LeaseGrantRequest;
use keystead_proto::internal::RecordKind;
use keystead_raft::Consensus;
use keystead_server::lease::{Clock, Renewal, Renewals};
use keystead_state::{LeaseChange, Reply};

use crate::load::{record, write_leased};
use crate::plan::Plan;
use crate::world::{Facts, World};

/// The longest TTL that is asked for.
const TTL_SECS: i64 = 3;
/// How exactly time is known here.
const STEP_MS: u64 = 2;

/// The clock of a host, which outlives its members.
#[derive(Clone, Debug)]
pub struct Clockwork {
    /// How many of its milliseconds are a thousand of others'.
    speed: u64,
    /// When it went on at once, and by how much.
    jumps: Vec<(u64, u64)>,
}

impl Clockwork {
    /// A clock that goes by up to a twentieth too fast or too slow.
    pub fn of(seed: u64, at: usize) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed ^ 0xc10c ^ ((at as u64) << 32));
        Self {
            speed: dice.u64(950..=1050),
            jumps: Vec::new(),
        }
    }

    /// It goes on at once.
    pub fn jump(&mut self, now_ms: u64, by_ms: u64) {
        self.jumps.push((now_ms, by_ms));
    }

    /// What it shows.
    fn at(&self, now_ms: u64) -> u64 {
        let jumps = self.jumps.iter().filter(|(at, _)| *at <= now_ms);
        now_ms * self.speed / 1000 + jumps.map(|(_, by)| by).sum::<u64>()
    }
}

/// The same, as a member reads it.
pub struct HostClock {
    world: World,
    at: usize,
}

impl HostClock {
    /// That of a host.
    pub fn of(world: &World, at: usize) -> Self {
        Self {
            world: world.clone(),
            at,
        }
    }
}

impl Clock for HostClock {
    fn now(&self) -> Duration {
        let facts = self.world.lock();
        Duration::from_millis(facts.slots[self.at].clock.at(facts.now_ms))
    }
}

/// What is known of leases, by id.
#[derive(Default)]
pub struct Leases {
    granted: i64,
    /// When a client last asked who was told that its lease lives, and for how long.
    told: BTreeMap<i64, (u64, u64)>,
    /// When a lease ended, and which host's clock said so.
    ended: BTreeMap<i64, (u64, usize)>,
}

impl Facts {
    /// A lease ends by an entry of `term`.
    pub fn check_leases(&mut self, term: u64, changes: &[LeaseChange]) {
        for change in changes {
            let LeaseChange::Revoked { id } = *change else {
                continue;
            };
            let Some(leader) = self.known.leaders.get(&term) else {
                self.violated(format!(
                    "lease {id} ended in term {term}, which had no leader"
                ));
                continue;
            };
            self.leases
                .ended
                .insert(id, (self.now_ms, Plan::at(*leader)));
            self.coverage.leases_expired += 1;
            self.check_lease(id);
        }
    }

    /// A client is told that its lease lives for its TTL from when it asked.
    fn lives(&mut self, id: i64, asked_ms: u64, ttl_secs: i64) {
        let ttl_ms = ttl_secs.unsigned_abs() * 1000;
        let told = self.leases.told.entry(id).or_insert((asked_ms, ttl_ms));
        *told = (asked_ms.max(told.0), ttl_ms);
        self.check_lease(id);
    }

    /// Whoever was told that a lease lives has had it for so long.
    fn check_lease(&mut self, id: i64) {
        let (Some((asked, ttl)), Some((ended, by))) =
            (self.leases.told.get(&id), self.leases.ended.get(&id))
        else {
            return;
        };
        let clock = &self.slots[*by].clock;
        let lived = clock.at(*ended).saturating_sub(clock.at(*asked));
        if lived + STEP_MS < *ttl {
            self.violated(format!(
                "lease {id} ended at {ended} by the clock of m{by}, which counts {lived} ms of {ttl} since a client asked, and was told that it lives"
            ));
        }
    }

    /// A client is told that its lease is no more.
    fn gone(&mut self, id: i64) {
        if !self.leases.ended.contains_key(&id) {
            self.violated(format!(
                "a client was told that lease {id} is gone, which has not ended"
            ));
        }
    }
}

/// Has one lease after the other, until it is calm.
pub async fn hold(world: World, at: usize, consensus: Consensus, renewals: Renewals) {
    let starts = world.lock().slots[at].starts;
    let seed = world.lock().plan.seed;
    let mut dice = fastrand::Rng::with_seed(seed ^ 0x1ea5e ^ ((at as u64) << 40) ^ starts);
    while !world.lock().calm {
        let (id, asked) = {
            let mut facts = world.lock();
            facts.leases.granted += 1;
            (facts.leases.granted, facts.now_ms)
        };
        let ttl = dice.i64(1..=TTL_SECS);
        let request = LeaseGrantRequest { id, ttl };
        let granted = consensus.propose_one(record(RecordKind::LeaseGrant, &request));
        let Ok(Reply::LeaseGrant(_)) = granted.await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        {
            let mut facts = world.lock();
            facts.coverage.leases_granted += 1;
            facts.lives(id, asked, ttl);
        }
        let key = format!("leased{}", dice.u8(..4));
        write_leased(&world, at, &consensus, key.as_bytes(), (20, id)).await;
        for _ in 0..dice.u8(..12) {
            tokio::time::sleep(Duration::from_millis(dice.u64(50..700))).await;
            if !renew(&world, id, &renewals).await {
                break;
            }
        }
        // It ends by itself.
        tokio::time::sleep(Duration::from_millis(dice.u64(100..2_000))).await;
    }
}

/// Renews a lease, and says whether it lives.
async fn renew(world: &World, id: i64, renewals: &Renewals) -> bool {
    let asked = world.lock().now_ms;
    let renewed = renewals.renew(id).await;
    let mut facts = world.lock();
    facts.note(|| format!("lease {id}: {renewed:?}"));
    match renewed {
        Ok(Renewal::Alive { ttl_secs }) => {
            facts.coverage.leases_renewed += 1;
            facts.lives(id, asked, ttl_secs);
            true
        }
        Ok(_) => {
            facts.gone(id);
            false
        }
        Err(_) => true,
    }
}
