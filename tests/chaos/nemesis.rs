//! What goes wrong: members die, stand still or lose each other, one fault after another, chosen by a seed.

use std::time::Duration;

use keystead_proto::etcdserverpb::cluster_client::ClusterClient;
use keystead_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keystead_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
    MoveLeaderRequest,
};
use keystead_tests::{Cluster, Kind, Link, Random};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;

use super::sights::{Count, Sights, cut_and_gone_on, given_up};
use crate::power::disk::LossyDirectory;

/// The fewest members of which two may be missing.
const FIVE: usize = 5;

/// So many writes a killed member misses when it is to be left behind.
const MISSED_WRITES: u64 = 250;
/// And it is waited for no longer than this.
const MISSING_LIMIT: Duration = Duration::from_secs(4);

/// What of a snapshot comes through before it is cut: more than one message, which is 512 KiB, and less than was missed.
const LEAST_RATION_BYTES: u64 = 540 << 10;
const MORE_RATION_BYTES: u64 = 160 << 10;
/// A snapshot that is to be cut is waited for no longer than this, and so is its rest.
const CUT_LIMIT: Duration = Duration::from_secs(4);

/// Another leader is waited for no longer than this.
const OUTVOTE_LIMIT: Duration = Duration::from_secs(4);

/// What an outvoted leader has to give up is waited for so long.
const OUTVOTED: Duration = Duration::from_secs(1);

/// A leader is outvoted so often at most before one has given something up.
const OUTVOTES: u32 = 8;

/// A change of the members may take so long when nothing else is wrong.
const CHANGE_LIMIT: Duration = Duration::from_secs(90);

/// One thing that goes wrong, and is mended again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    KillOne,
    /// Two at the same moment, of five: by a loss of power where disks can lose something.
    KillTwo,
    KillAll,
    /// The power of one member goes, and with it what its disk was not told to keep.
    CutPower,
    /// The same for all at the same moment.
    CutAllPower,
    /// Every sync of one member takes long.
    SlowDisk,
    /// Down for so long that it is left far behind.
    LeaveBehind,
    /// The same, and the snapshot that it is sent then breaks off midway.
    CutSnapshot,
    /// Asked to end, and started again.
    Restart,
    Pause,
    /// Packets to and from one member are dropped.
    Isolate,
    /// The leader takes writes that reach nobody, until the others have another leader.
    Outvote,
    /// Connections to and from one member break and are refused.
    Unplug,
    /// One member hears nothing.
    Deafen,
    /// Nothing that one member says arrives.
    Mute,
    /// Two members lose each other, and both keep the others.
    CutOne,
    /// What is sent is lost, every connection of one member breaks later.
    Swallow,
    Slow,
    /// One member is cut off and found again every 100 ms.
    Flap,
    MoveLeader,
    /// One member is removed, and a new one with an empty directory takes its address, as a learner first or not.
    Replace,
}

/// All that can happen to three members of either program on any disk.
const FAULTS: [Fault; 16] = [
    Fault::KillOne,
    Fault::KillAll,
    Fault::LeaveBehind,
    Fault::Restart,
    Fault::Pause,
    Fault::Isolate,
    Fault::Outvote,
    Fault::Unplug,
    Fault::Deafen,
    Fault::Mute,
    Fault::CutOne,
    Fault::Swallow,
    Fault::Slow,
    Fault::Flap,
    Fault::MoveLeader,
    Fault::Replace,
];

/// Takes one fault after the other, each as often as the others, in an order of chance.
pub struct Nemesis {
    random: Random,
    /// Where the members keep their data, one each; none on disks that lose nothing.
    disks: Vec<LossyDirectory>,
    /// What the directory of each member looked like when it was last dead.
    files: Vec<keystead_tests::Sights>,
    /// What is still to come before each fault comes again.
    deck: Vec<Fault>,
    members: usize,
    kills: u64,
    pairs_killed: u64,
    power_cuts: u64,
    pauses: u64,
    partitions: u64,
    transfers: u64,
    replacements: u64,
}

impl Nemesis {
    /// For so many members, that keep their data on these disks, or on others.
    pub fn new(random: Random, members: usize, disks: Vec<LossyDirectory>) -> Nemesis {
        Nemesis {
            random,
            members,
            disks,
            files: Vec::new(),
            deck: Vec::new(),
            kills: 0,
            pairs_killed: 0,
            power_cuts: 0,
            pauses: 0,
            partitions: 0,
            transfers: 0,
            replacements: 0,
        }
    }

    /// So many cycles let every fault happen at least once, where disks lose nothing.
    pub fn all_faults() -> u64 {
        FAULTS.len() as u64
    }

    /// Everything that was counted, by name.
    pub fn counts(&self) -> Vec<Count> {
        let mut counts = vec![
            Count("members killed", self.kills),
            Count("members paused", self.pauses),
            Count("partitions", self.partitions),
            Count("leaders moved", self.transfers),
            Count("members replaced", self.replacements),
        ];
        if self.members >= FIVE {
            counts.push(Count("pairs killed at once", self.pairs_killed));
        }
        if !self.disks.is_empty() {
            counts.push(Count("power cuts", self.power_cuts));
        }
        // The same five for every member.
        for (number, (name, _)) in self
            .files
            .first()
            .iter()
            .flat_map(|it| it.counts())
            .enumerate()
        {
            let sum = self.files.iter().map(|it| it.counts()[number].1).sum();
            counts.push(Count(name, sum));
        }
        counts.retain(|Count(name, _)| *name != "defragmentations");
        counts
    }

    /// Lets one fault happen, mends it and lets the cluster work for a moment. Gives the fault.
    pub async fn cycle(&mut self, cluster: &mut Cluster, sights: &Sights) -> Fault {
        let fault = self.next_fault(cluster);
        let victim = self.victim(cluster, sights);
        match fault {
            Fault::KillOne => {
                self.kill(cluster, victim);
                self.hold().await;
                cluster.member(victim).launch();
            }
            Fault::KillTwo => self.kill_two(cluster, victim).await,
            Fault::KillAll | Fault::CutAllPower => {
                self.end_all(cluster, fault == Fault::CutAllPower).await;
            }
            Fault::CutPower => {
                self.kill(cluster, victim);
                self.cut_power(victim);
                self.hold().await;
                cluster.member(victim).launch();
            }
            Fault::LeaveBehind => {
                let member = self.leave_behind(cluster, sights).await;
                cluster.member(member).launch();
            }
            Fault::CutSnapshot => self.cut_snapshot(cluster, sights).await,
            Fault::SlowDisk => {
                let delay = Duration::from_millis(50 + self.random.below(500));
                self.disks[victim].disk.slow_syncs(delay);
                self.hold().await;
                self.disks[victim].disk.slow_syncs(Duration::ZERO);
            }
            Fault::Restart => {
                block_in_place(|| cluster.member(victim).terminate());
                cluster.member(victim).launch();
            }
            Fault::Pause => {
                self.pauses += 1;
                cluster.member(victim).pause();
                self.hold().await;
                cluster.member(victim).resume();
            }
            Fault::Slow => {
                let delay = Duration::from_millis(20 + self.random.below(180));
                cluster.network().isolate(victim, Link::Slow(delay));
                self.hold().await;
            }
            Fault::Outvote => self.outvote(cluster, sights).await,
            Fault::Flap => self.flap(cluster, victim).await,
            Fault::MoveLeader => self.move_leader(cluster, sights).await,
            Fault::Replace => self.replace(cluster, sights).await,
            _ => {
                self.partition(cluster, fault, victim);
                self.hold().await;
            }
        }
        cluster.network().heal();
        sleep(Duration::from_millis(200 + self.random.below(600))).await;
        fault
    }

    fn next_fault(&mut self, cluster: &Cluster) -> Fault {
        if self.deck.is_empty() {
            self.deck = FAULTS.to_vec();
            if !self.disks.is_empty() {
                self.deck
                    .extend([Fault::CutPower, Fault::CutAllPower, Fault::SlowDisk]);
            }
            if cluster.kind() == Kind::Keystead {
                self.deck.push(Fault::CutSnapshot);
            }
            if self.members >= FIVE {
                self.deck.push(Fault::KillTwo);
            }
        }
        let chosen = self.random.below(self.deck.len() as u64) as usize;
        self.deck.swap_remove(chosen)
    }

    /// Any member, the leader more often than the others.
    fn victim(&mut self, cluster: &Cluster, sights: &Sights) -> usize {
        let any = self.random.below(cluster.size() as u64) as usize;
        match sights.leader() {
            Some(leader) if self.random.one_in(2) => leader,
            _ => any,
        }
    }

    /// Long enough for an election, or too short for one.
    async fn hold(&mut self) {
        sleep(Duration::from_millis(200 + self.random.below(1600))).await;
    }

    fn kill(&mut self, cluster: &mut Cluster, member: usize) {
        self.kills += 1;
        block_in_place(|| cluster.member(member).kill());
        if cluster.kind() == Kind::Keystead {
            self.files.resize_with(cluster.size(), Default::default);
            let data = cluster.member(member).flag("--data-dir").to_owned();
            self.files[member].look(data.as_ref());
        }
    }

    fn cut_power(&mut self, member: usize) {
        self.power_cuts += 1;
        let seed = self.random.bits();
        block_in_place(|| self.disks[member].cut(seed));
    }

    async fn kill_two(&mut self, cluster: &mut Cluster, victim: usize) {
        self.pairs_killed += 1;
        let step = 1 + self.random.below(cluster.size() as u64 - 1) as usize;
        let both = [victim, (victim + step) % cluster.size()];
        for member in both {
            self.kill(cluster, member);
        }
        if !self.disks.is_empty() {
            for member in both {
                self.cut_power(member);
            }
        }
        self.hold().await;
        for member in both {
            cluster.member(member).launch();
        }
    }

    async fn end_all(&mut self, cluster: &mut Cluster, by_power: bool) {
        for member in 0..cluster.size() {
            self.kill(cluster, member);
        }
        for member in (0..cluster.size()).filter(|_| by_power) {
            self.cut_power(member);
        }
        let first = self.random.below(cluster.size() as u64) as usize;
        for next in 0..cluster.size() {
            let member = (first + next) % cluster.size();
            cluster.member(member).launch();
            sleep(Duration::from_millis(self.random.below(200))).await;
        }
    }

    fn follower(&mut self, cluster: &Cluster, sights: &Sights) -> usize {
        let member = self.random.below(cluster.size() as u64) as usize;
        if sights.leader() == Some(member) {
            (member + 1) % cluster.size()
        } else {
            member
        }
    }

    /// Gives the member, which is dead still.
    async fn leave_behind(&mut self, cluster: &mut Cluster, sights: &Sights) -> usize {
        let member = self.follower(cluster, sights);
        self.kill(cluster, member);
        let (begin, enough) = (Instant::now(), sights.writes() + MISSED_WRITES);
        while sights.writes() < enough && begin.elapsed() < MISSING_LIMIT {
            sleep(Duration::from_millis(10)).await;
        }
        member
    }

    async fn cut_snapshot(&mut self, cluster: &mut Cluster, sights: &Sights) {
        let member = self.leave_behind(cluster, sights).await;
        let ration = LEAST_RATION_BYTES + self.random.below(MORE_RATION_BYTES);
        for other in (0..cluster.size()).filter(|other| *other != member) {
            cluster.network().set(other, member, Link::Ration(ration));
        }
        let (cut_before, gone_on_before) = cut_and_gone_on(cluster.member(member));
        cluster.member(member).launch();
        let begin = Instant::now();
        while begin.elapsed() < CUT_LIMIT {
            let (cut, gone_on) = cut_and_gone_on(cluster.member(member));
            if cut > cut_before {
                cluster.network().heal();
            }
            if gone_on > gone_on_before {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn partition(&mut self, cluster: &Cluster, fault: Fault, victim: usize) {
        self.partitions += 1;
        let network = cluster.network();
        let others = (0..cluster.size()).filter(|other| *other != victim);
        match fault {
            Fault::Isolate => network.isolate(victim, Link::Hold),
            Fault::Unplug => network.isolate(victim, Link::Refuse),
            Fault::Swallow => network.isolate(victim, Link::Swallow),
            Fault::Deafen => others.for_each(|other| network.set(other, victim, Link::Hold)),
            Fault::Mute => others.for_each(|other| network.set(victim, other, Link::Hold)),
            _ => {
                let other = (victim + 1) % cluster.size();
                network.set_between(victim, other, Link::Hold);
            }
        }
    }

    /// Where nothing was given up it is done again: often a snapshot has come in between.
    async fn outvote(&mut self, cluster: &Cluster, sights: &Sights) {
        for _ in 0..OUTVOTES {
            let is_enough = self.outvote_once(cluster, sights).await;
            if is_enough || cluster.kind() != Kind::Keystead {
                return;
            }
        }
    }

    /// True when the leader gave up what it had taken. It is found again as soon as there is another: a moment later it would lack so
    /// much that a snapshot took the place of what it has to give up.
    async fn outvote_once(&mut self, cluster: &Cluster, sights: &Sights) -> bool {
        let Some(leader) = sights.leader() else {
            sleep(OUTVOTED).await;
            return false;
        };
        self.partitions += 1;
        let member = &cluster.members()[leader];
        let before = given_up(member);
        cluster.network().isolate(leader, Link::Swallow);
        let begin = Instant::now();
        while sights.leader() == Some(leader) && begin.elapsed() < OUTVOTE_LIMIT {
            sleep(Duration::from_millis(10)).await;
        }
        cluster.network().heal();
        let begin = Instant::now();
        while given_up(member) == before && begin.elapsed() < OUTVOTED {
            sleep(Duration::from_millis(20)).await;
        }
        given_up(member) > before
    }

    async fn flap(&mut self, cluster: &Cluster, victim: usize) {
        self.partitions += 1;
        for _ in 0..4 {
            let link = *self.random.pick(&[Link::Hold, Link::Refuse, Link::Swallow]);
            cluster.network().isolate(victim, link);
            sleep(Duration::from_millis(100)).await;
            cluster.network().heal();
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// A transfer that fails, since the leader has just changed or the target is behind, is none.
    async fn move_leader(&mut self, cluster: &Cluster, sights: &Sights) {
        let Some(leader) = sights.leader() else {
            return;
        };
        let step = 1 + self.random.below(cluster.size() as u64 - 1) as usize;
        let Ok(target) = cluster.status((leader + step) % cluster.size()).await else {
            return;
        };
        let request = MoveLeaderRequest {
            target_id: target.header.map_or(0, |it| it.member_id),
        };
        let mut client = MaintenanceClient::new(cluster.channel(leader));
        let moved = timeout(Duration::from_secs(3), client.move_leader(request)).await;
        self.transfers += u64::from(matches!(moved, Ok(Ok(_))));
    }

    async fn replace(&mut self, cluster: &mut Cluster, sights: &Sights) {
        let member = self.follower(cluster, sights);
        self.kill(cluster, member);
        let others = (0..cluster.size()).filter(|other| *other != member);
        let others: Vec<Channel> = others.map(|other| cluster.channel(other)).collect();
        let url = cluster
            .member(member)
            .flag("--initial-advertise-peer-urls")
            .to_owned();
        until_done("a removal", &others, async |mut asked| {
            match member_at(&mut asked, &url).await? {
                // A removal of which nobody heard may have happened.
                None => Ok(()),
                Some(old) => {
                    let removal = MemberRemoveRequest { id: old.id };
                    asked.member_remove(removal).await.map(drop)
                }
            }
        })
        .await;
        let is_learner = self.random.one_in(2);
        until_done("an addition", &others, async |mut asked| {
            let addition = MemberAddRequest {
                peer_urls: vec![url.clone()],
                is_learner,
            };
            match asked.member_add(addition).await {
                Err(status) if status.message().contains("Peer URLs already exists") => Ok(()),
                added => added.map(drop),
            }
        })
        .await;
        let new = cluster.member(member);
        new.wipe();
        new.set_flag("--initial-cluster-state", "existing");
        new.launch();
        until_done("a promotion", &others, async |mut asked| {
            let new = member_at(&mut asked, &url).await?;
            match new.filter(|it| it.is_learner) {
                None => Ok(()),
                Some(learner) => {
                    let promotion = MemberPromoteRequest { id: learner.id };
                    asked.member_promote(promotion).await.map(drop)
                }
            }
        })
        .await;
        self.replacements += 1;
    }
}

async fn member_at(
    asked: &mut ClusterClient<Channel>,
    url: &String,
) -> Result<Option<Member>, Status> {
    let list = MemberListRequest { linearizable: true };
    let members = asked.member_list(list).await?.into_inner().members;
    let mut members = members.into_iter();
    Ok(members.find(|it| it.peer_urls.contains(url)))
}

/// Asks one member after the other for what has to be done before anything else goes wrong.
async fn until_done(
    what: &str,
    members: &[Channel],
    mut ask: impl AsyncFnMut(ClusterClient<Channel>) -> Result<(), Status>,
) {
    let begin = Instant::now();
    for channel in members.iter().cycle() {
        let asked = ClusterClient::new(channel.clone());
        let refused = match timeout(Duration::from_secs(5), ask(asked)).await {
            Ok(Ok(())) => return,
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded("no answer in 5 s"),
        };
        assert!(
            begin.elapsed() < CHANGE_LIMIT,
            "{what} fails after {CHANGE_LIMIT:?}: {refused}"
        );
        sleep(Duration::from_millis(50)).await;
    }
}
