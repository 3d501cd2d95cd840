//! The software of a host: one member of the real crate, its clients, and who takes orders.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use keystead_raft::simulation::{Inside, Surroundings};
use keystead_raft::wal::EntryId;
use keystead_raft::{Answering, Consensus, Observer};
use keystead_server::lease::{self, Lessor, Renewals, Revocations};
use keystead_state::{Applied, Reader, Refusal};

use crate::leases::{self, HostClock};
use crate::load;
use crate::plan::{PORTS, Plan};
use crate::world::{Order, World};

/// Clients that write at each member.
const WRITERS: u64 = 2;
/// And those that read.
const READERS: u64 = 3;

/// Runs the member on a host until the host crashes.
pub async fn run(world: World, at: usize) -> turmoil::Result {
    let inside = Inside::default();
    let (config, surroundings) = {
        let mut facts = world.lock();
        facts.starting(at, inside.clone());
        let slot = &facts.slots[at];
        let surroundings = Surroundings {
            files: Arc::new(slot.disk.clone()),
            log: facts.plan.log(at),
            ports: slot.only.map_or(PORTS.to_vec(), |(port, _)| vec![port]),
            inside: inside.clone(),
        };
        (facts.plan.config(at, &slot.dir), surroundings)
    };
    let election = config.election_timeout;
    let clock = Arc::new(HostClock::of(&world, at));
    let lessor = Arc::new(Lessor::new(clock, election, None));
    let observer = Arc::new(Seen {
        world: world.clone(),
        at,
        inside,
        lessor: lessor.clone(),
    });
    match Consensus::simulate(config, surroundings, observer).await {
        Ok((consensus, reader)) => {
            world.lock().started(at, consensus.clone(), reader.clone());
            for writer in 0..WRITERS {
                let (world, consensus) = (world.clone(), consensus.clone());
                tokio::task::spawn_local(load::write(world, at, writer, consensus));
            }
            for nth in 0..READERS {
                let (consensus, reader) = (consensus.clone(), reader.clone());
                tokio::task::spawn_local(load::read(world.clone(), at, nth, consensus, reader));
            }
            lessor.adopt(|| reader.leases());
            let revocations = Revocations::new(consensus.clone());
            tokio::task::spawn_local(lease::reap(lessor.clone(), revocations));
            let limit = Duration::from_secs(5) + 2 * election;
            let renewals = Renewals::new(consensus.clone(), lessor, election, limit);
            let leasing = leases::hold(world.clone(), at, consensus.clone(), renewals);
            tokio::task::spawn_local(leasing);
            obey(world, at, consensus, reader).await;
        }
        Err(error) => refused(&world, at, &error.to_string()),
    }
    std::future::pending().await
}

/// A member that does not start is wrong, unless its disk has just failed or is full: then it is tried again.
fn refused(world: &World, at: usize, error: &str) {
    let mut facts = world.lock();
    let disk = &facts.slots[at].disk;
    if disk.take_failed() || disk.is_full() {
        facts.note(|| format!("m{at} did not start on such a disk: {error}"));
        let again = facts.now_ms + 100;
        facts.slots[at].restart_at = Some(again);
    } else {
        facts.violated(format!("m{at} did not start: {error}"));
    }
}

async fn obey(world: World, at: usize, consensus: Consensus, reader: Reader) {
    let orders = world.lock().slots[at].orders.clone();
    loop {
        let next = orders.waiting.lock().pop_front();
        match next {
            Some(order) => {
                let (consensus, reader) = (consensus.clone(), reader.clone());
                tokio::task::spawn_local(follow(world.clone(), at, consensus, reader, order));
            }
            None => orders.more.notified().await,
        }
    }
}

async fn follow(world: World, at: usize, consensus: Consensus, reader: Reader, order: Order) {
    let led = consensus.status().is_leader;
    let done = match &order {
        Order::Move(to) => consensus.move_leader(*to).await,
        Order::Change(change) => consensus.change_members(change).await.map(drop),
        Order::Write => {
            while !load::write_once(&world, at, &consensus, b"last", 10).await {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        }
        Order::Defragment => consensus.defragment().await.map_err(|_| Refusal::Stopped),
        Order::MakeRoom => {
            load::make_room(&world, &consensus, &reader).await;
            Ok(())
        }
        Order::Stop => {
            consensus.hand_over().await;
            let handed = led && !consensus.status().is_leader;
            world.lock().coverage.leaders_handed_over += u64::from(handed);
            consensus.shutdown().await;
            Ok(())
        }
    };
    let mut facts = world.lock();
    facts.note(|| format!("m{at} was asked {order:?}: {done:?}"));
    if done.is_ok() {
        match order {
            Order::Move(_) => facts.coverage.leaders_moved += 1,
            Order::Change(change) => facts.changed(&change),
            Order::Write => facts.slots[at].wrote_last = true,
            Order::Defragment => facts.coverage.defragmentations += 1,
            Order::MakeRoom => {}
            Order::Stop => {
                facts.coverage.clean_stops += 1;
                facts.slots[at].stopped = true;
            }
        }
    }
}

/// Tells the world what a member does.
struct Seen {
    world: World,
    at: usize,
    inside: Inside,
    lessor: Arc<Lessor>,
}

impl Observer for Seen {
    fn applied(&self, entry: EntryId, applied: &Applied) {
        self.lessor.applied(&applied.lease_changes);
        let mut digest = DefaultHasher::new();
        for row in applied.sealed.rows.iter() {
            let revision = (row.revision.main, row.revision.sub);
            (revision, row.tombstone, &row.payload).hash(&mut digest);
        }
        (
            applied.sealed.last,
            applied.compacted,
            applied.outcomes.len(),
        )
            .hash(&mut digest);
        let others = (&applied.lease_changes, &applied.alarm_changes);
        format!("{others:?}").hash(&mut digest);
        let mut facts = self.world.lock();
        facts.applied(self.at, (entry.term, entry.index), applied, digest.finish());
    }

    fn restored(&self, reader: &Reader) {
        self.lessor.replace(reader.leases());
        let (_, index) = self.inside.applied();
        self.world.lock().restored(self.at, index, reader);
    }

    fn removed(&self) {
        let at = self.at;
        self.world
            .lock()
            .note(|| format!("m{at} hears that it was removed"));
    }

    fn asked(&self, request: Bytes) -> Answering {
        Box::pin(lease::answer(self.lessor.clone(), request))
    }

    fn leader_changed(&self, leading: bool, term: u64) {
        self.lessor.leader_changed(leading.then_some(term));
        let at = self.at;
        let mut facts = self.world.lock();
        facts.note(|| {
            format!(
                "m{at} leads: {leading}, in term {term} as {:x}",
                Plan::id(at)
            )
        });
        if leading {
            facts.leads(at, term);
        }
    }
}
