//! A cluster under faults: kill -9, pauses, partitions and slow links, one after the other, while clients work through all
//! members. All that the clients were told must be linearizable (`linear`), every watch stream keep the nine rules (`watched`),
//! every lease live as long as it was promised (`leases`), and all members hold the same in the end.
//!
//! A run is a row of epochs. After each everything is mended, the cluster tells its history, and what clients and watchers
//! wrote down is judged by it; then the store is compacted up to there while the next epoch runs. `KEYSTEAD_SEED` replays a
//! run's choices; `KEYSTEAD_CHAOS_CYCLES` or `KEYSTEAD_TEST_LONG` make it longer. Real etcd passes too, or the checkers would
//! ask for what nobody promises.

mod clients;
mod corruption;
mod history;
mod leases;
mod lies;
mod linear;
mod nemesis;
mod sights;
mod tenants;
mod watched;
mod watchers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, thread};

use indicatif::{ProgressBar, ProgressStyle};
use keystead_proto::etcdserverpb::{CompactionRequest, LeaseLeasesRequest};
use keystead_tests::{Cluster, Kind, Random, TINY_LIMITS, Unary};
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

use clients::{CLIENTS, Clients};
use corruption::CHECKS;
use history::{Content, Ending, Op, Operation, Request, Truth};
use leases::{Kept, Tenancy};
use linear::Proven;
use nemesis::Nemesis;
use sights::{Count, Sights, logged};
use tenants::Tenants;
use watched::Told;
use watchers::Watchers;

use crate::power::disk::LossyDirectory;

const CYCLES: u64 = 60;
const LONG_CYCLES: u64 = 1000;
/// And with five members, whose every fault is worth several of three.
const CYCLES_OF_FIVE: u64 = 20;
const LONG_CYCLES_OF_FIVE: u64 = 200;
/// A run of Keystead has at most so many times its cycles to see everything happen.
const MORE_CYCLES: u64 = 3;
/// Cycles before everything is judged.
const EPOCH_CYCLES: u64 = 15;
/// Compactions while these run, each of a part of the history that was judged last.
const COMPACTIONS: usize = 3;
/// A cluster in which nothing goes wrong any more takes a write within this.
const RECOVERY_LIMIT: Duration = Duration::from_secs(90);

/// And ends every lease that nobody keeps alive any more within this: the longest TTL is 3 s.
const LEASES_LIMIT: Duration = Duration::from_secs(60);

/// Elections within a cycle, and changes of members while not all is well.
const TIMING: [&str; 5] = [
    "--heartbeat-interval",
    "50",
    "--election-timeout",
    "500",
    "--strict-reconfig-check=false",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_passes_the_checkers_of_a_cluster_under_faults() {
    let arguments = [
        &TIMING[..],
        &["--snapshot-count", "50", "--snapshot-catchup-entries", "20"],
    ]
    .concat();
    run(Kind::Etcd, 3, &arguments, Nemesis::all_faults()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_under_faults_lose_nothing_and_tell_nothing_wrong() {
    let arguments = [&TIMING[..], &TINY_LIMITS, &CHECKS].concat();
    run(Kind::Keystead, 3, &arguments, cycles(CYCLES, LONG_CYCLES)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_members_of_which_two_die_at_once_lose_nothing_and_tell_nothing_wrong() {
    // Without the checks, as members run by default: their hashing and questions hide no race here.
    let arguments = [&TIMING[..], &TINY_LIMITS].concat();
    let cycles = cycles(CYCLES_OF_FIVE, LONG_CYCLES_OF_FIVE);
    run(Kind::Keystead, 5, &arguments, cycles).await;
}

fn cycles(usual: u64, long: u64) -> u64 {
    let is_long = env::var_os("KEYSTEAD_TEST_LONG").is_some();
    let cycles = if is_long { long } else { usual };
    number("KEYSTEAD_CHAOS_CYCLES").unwrap_or(cycles)
}

/// Runs so many cycles, and fails when one of the checkers does, or when it was no run.
async fn run(kind: Kind, members: usize, arguments: &[&str], cycles: u64) {
    let seed = number("KEYSTEAD_SEED").unwrap_or_else(|| {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH);
        clock.expect("the clock is past 1970").as_millis() as u64
    });
    let test = thread::current().name().unwrap_or("chaos").to_owned();
    println!("KEYSTEAD_SEED={seed} cargo test --release -p keystead-tests {test}");
    let Some(mut cluster) = Cluster::prepare(kind, members, arguments).await else {
        return;
    };
    let disks = if kind == Kind::Keystead {
        on_lossy_disks(&mut cluster)
    } else {
        Vec::new()
    };
    let mut random = Random::new(seed);
    let nemesis = Nemesis::new(Random::new(random.bits()), members, disks);
    for member in 0..members {
        cluster.member(member).launch();
    }
    cluster.ready().await;
    let mut run = Run::new(cluster, nemesis, random, cycles);
    run.is_checked = arguments.ends_with(&CHECKS);
    let mut done = 0;
    while done < cycles
        || (kind == Kind::Keystead && done < MORE_CYCLES * cycles && run.missed().is_some())
    {
        let epoch = EPOCH_CYCLES.min(cycles - done % cycles);
        run.epoch(epoch).await;
        done += epoch;
    }
    run.bar.finish_and_clear();
    println!(
        "{members} members of {kind:?}, {done} cycles in {:.0?}: {:?}",
        run.clock.elapsed(),
        run.counts()
    );
    println!("leases left alone ended within {:?}", run.slowest_end);
    let writes = run.sights.writes();
    assert!(writes > 20 * done, "the load was no load");
    if kind == Kind::Keystead {
        assert_eq!(run.missed(), None, "the run proves little");
    }
}

/// Puts the data of all members on disks that forget what was not synced when their power goes; none where nothing can be
/// mounted.
fn on_lossy_disks(cluster: &mut Cluster) -> Vec<LossyDirectory> {
    let disks: Option<Vec<_>> = (0..cluster.size())
        .map(|_| LossyDirectory::mount())
        .collect();
    let disks = disks.unwrap_or_default();
    for (member, disk) in disks.iter().enumerate() {
        let data = disk.data().display().to_string();
        cluster.member(member).set_flag("--data-dir", &data);
    }
    disks
}

fn number(name: &str) -> Option<u64> {
    let given = env::var(name).ok()?;
    Some(given.parse().expect("it is a number"))
}

/// A cluster at work, and what was proven of it so far. The cluster is dropped before the disks that it is on.
struct Run {
    cluster: Cluster,
    channels: Vec<Channel>,
    clock: Instant,
    random: Random,
    nemesis: Nemesis,
    sights: Arc<Sights>,
    bar: ProgressBar,
    /// Whether its members check each other for corruption.
    is_checked: bool,
    /// Where the epoch before began.
    base_before: i64,
    /// Where the epoch begins, and what is stored there.
    base: i64,
    content: Content,
    /// On the operations' clock.
    epoch_began: u64,
    /// Operations of the epoch before whose outcome is still unknown.
    open: Vec<Operation>,
    proven: Proven,
    told: Told,
    streams: u64,
    kept: Kept,
    /// Leases that were granted to stay, and all that were to be.
    lasting: BTreeSet<i64>,
    asked_to_last: BTreeSet<i64>,
    /// The longest that it took the leases at the end of an epoch to end.
    slowest_end: Duration,
}

impl Run {
    fn new(cluster: Cluster, nemesis: Nemesis, random: Random, cycles: u64) -> Run {
        let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {eta} left, {msg}");
        let bar = ProgressBar::new(cycles).with_style(style.expect("the template is right"));
        Run {
            channels: (0..cluster.size())
                .map(|member| cluster.channel(member))
                .collect(),
            cluster,
            clock: Instant::now(),
            nemesis,
            random,
            sights: Sights::new(),
            bar,
            is_checked: false,
            // A fresh store.
            base_before: 1,
            base: 1,
            content: Content::new(),
            epoch_began: 0,
            open: Vec::new(),
            proven: Proven::default(),
            told: Told::default(),
            streams: 0,
            kept: Kept::default(),
            lasting: BTreeSet::new(),
            asked_to_last: BTreeSet::new(),
            slowest_end: Duration::ZERO,
        }
    }

    async fn epoch(&mut self, cycles: u64) {
        self.epoch_began = self.clock.elapsed().as_nanos() as u64;
        let _looking = self.sights.look(&self.channels);
        let clients = Clients::start(&self.channels, self.clock, &mut self.random, &self.sights);
        let tenants = Tenants::start(
            &self.channels,
            self.clock,
            CLIENTS,
            &mut self.random,
            &self.sights,
        );
        let watchers = Watchers::start(&self.channels, self.base, &mut self.random, &self.sights);
        let mut compactions = [(); COMPACTIONS].map(|()| self.random.below(cycles));
        compactions.sort_unstable();
        for cycle in 0..cycles {
            let due = compactions.iter().filter(|it| **it <= cycle).count();
            if compactions.contains(&cycle) && self.base > 1 {
                self.compact(due).await;
            }
            let begin = Instant::now();
            let fault = self.nemesis.cycle(&mut self.cluster, &self.sights).await;
            // Read where a run fails.
            println!("{fault:?} in {:?}", begin.elapsed());
            self.assert_all_run(fault);
            self.bar
                .set_message(format!("{} answered writes", self.sights.writes()));
            self.bar.inc(1);
        }
        let mut operations = std::mem::take(&mut self.open);
        operations.extend(clients.finish().await);
        let (of_tenants, tenancies) = tenants.finish().await;
        operations.extend(of_tenants);
        self.cluster.ready().await;
        self.assert_leases_end(&tenancies).await;
        let end = self.last_write(&mut operations).await;
        let streams = watchers.finish(end).await;
        let truth = self.agreed_history(end).await;
        self.judge(operations, &tenancies, &streams, &truth);
        self.cluster.assert_equal().await;
        corruption::assert_none_found(&self.cluster).await;
        self.base_before = self.base;
        self.base = end;
        self.content = truth.content(end).clone();
    }

    /// A compaction in the midst of faults, of so many parts of what was judged last; one that fails will be made by the next.
    async fn compact(&mut self, parts: usize) {
        let channel = self.random.pick(&self.channels).clone();
        let judged = self.base - self.base_before;
        let compaction = CompactionRequest {
            revision: self.base_before + judged * parts as i64 / COMPACTIONS as i64,
            physical: false,
        };
        tokio::spawn(async move { compaction.send(channel).await.ok() });
    }

    fn assert_all_run(&mut self, fault: nemesis::Fault) {
        for member in 0..self.cluster.size() {
            let server = self.cluster.member(member);
            if let Some(ended) = server.ended() {
                panic!("after {fault:?} member {member} ended by itself ({ended})");
            }
        }
    }

    /// Waits until every member has the leases that were granted to stay, and no others.
    async fn assert_leases_end(&mut self, tenancies: &[Tenancy]) {
        for lasting in tenancies.iter().filter(|it| it.lasting) {
            self.asked_to_last.insert(lasting.id);
            if !lasting.renewals.is_empty() {
                self.lasting.insert(lasting.id);
            }
        }
        let begin = Instant::now();
        loop {
            let tables = self.lease_tables().await;
            let agreed = tables.iter().all(|it| it.is_some() && *it == tables[0]);
            if let Some(Some(table)) = tables.first()
                && agreed
                && table.is_superset(&self.lasting)
                && table.is_subset(&self.asked_to_last)
            {
                self.lasting.clone_from(table);
                break;
            }
            assert!(
                begin.elapsed() < LEASES_LIMIT,
                "only {:?} were to stay, the members' leases are {tables:?}",
                self.lasting
            );
            sleep(Duration::from_millis(50)).await;
        }
        self.slowest_end = self.slowest_end.max(begin.elapsed());
    }

    async fn lease_tables(&self) -> Vec<Option<BTreeSet<i64>>> {
        let mut tables = Vec::new();
        for channel in &self.channels {
            let asked = timeout(
                clients::ANSWER_LIMIT,
                LeaseLeasesRequest {}.send(channel.clone()),
            );
            let table = asked.await.ok().and_then(Result::ok);
            tables.push(table.map(|it| it.leases.iter().map(|lease| lease.id).collect()));
        }
        tables
    }

    /// Writes until a write is answered; gives its revision. All that was answered before is at a lower one.
    async fn last_write(&self, operations: &mut Vec<Operation>) -> i64 {
        let begin = Instant::now();
        for attempt in 0.. {
            let request = Request::Alone(Op::Put {
                key: "k/1".into(),
                value: format!("end-{}-{attempt}", self.base).into(),
                lease: 0,
            });
            let member = attempt % self.channels.len();
            let called = self.clock.elapsed().as_nanos() as u64;
            let sent = clients::send(&request, self.channels[member].clone()).await;
            let ending = match &sent {
                Ok(answer) => Ending::Answered(answer.clone()),
                Err(_) => Ending::Unknown,
            };
            operations.push(Operation {
                client: usize::MAX,
                member,
                called,
                returned: self.clock.elapsed().as_nanos() as u64,
                request,
                ending,
            });
            match sent {
                Ok(answer) => return answer.revision,
                Err(status) => assert!(
                    begin.elapsed() < RECOVERY_LIMIT,
                    "all is mended, and no write is taken: {status}"
                ),
            }
            sleep(Duration::from_millis(50)).await;
        }
        unreachable!("the attempts never end")
    }

    /// The history up to `end`, which every member must tell alike.
    async fn agreed_history(&self, end: i64) -> Truth {
        let mut told = Vec::new();
        for channel in &self.channels {
            told.push(watchers::history(channel.clone(), self.base, end).await);
        }
        for (member, events) in told.iter().enumerate() {
            let apart = events
                .iter()
                .zip(&told[0])
                .find(|(one, other)| one != other);
            assert_eq!(
                apart, None,
                "members {member} and 0 tell different histories"
            );
            assert_eq!(
                events.len(),
                told[0].len(),
                "member {member} tells another history"
            );
        }
        Truth::new(self.base, self.content.clone(), &told[0])
            .unwrap_or_else(|wrong| panic!("the members tell no possible history: {wrong}"))
    }

    fn judge(
        &mut self,
        operations: Vec<Operation>,
        tenancies: &[Tenancy],
        streams: &[watched::Stream],
        truth: &Truth,
    ) {
        let proven = linear::check(&operations, truth)
            .unwrap_or_else(|wrong| panic!("not linearizable: {wrong}"));
        self.proven.writes += proven.writes;
        self.proven.reads += proven.reads;
        self.proven.serializable_reads += proven.serializable_reads;
        self.proven.unknown_done += proven.unknown_done;
        // An old leader of etcd's ends leases that a new one has kept alive.
        if self.cluster.kind() == Kind::Keystead {
            let kept = leases::check(tenancies, &proven.expired, &operations, truth)
                .unwrap_or_else(|wrong| panic!("a lease was not kept: {wrong}"));
            self.kept.leases += kept.leases;
            self.kept.renewals += kept.renewals;
            self.kept.expired += kept.expired;
            self.kept.revoked += kept.revoked;
        }
        self.open = proven
            .open
            .iter()
            .map(|index| operations[*index].clone())
            // What was called before this epoch and is still open happens no more.
            .filter(|operation| operation.called >= self.epoch_began)
            .collect();
        for stream in streams {
            let told = watched::check(stream, truth)
                .unwrap_or_else(|wrong| panic!("{:?}: {wrong}", stream.asked));
            self.told.events += told.events;
            self.told.progress += told.progress;
        }
        self.streams += streams.len() as u64;
    }

    /// What has not happened yet.
    fn missed(&self) -> Option<&'static str> {
        let counts = self.counts().into_iter();
        counts
            .filter(|Count(_, count)| *count == 0)
            .map(|Count(name, _)| name)
            .next()
    }

    fn counts(&self) -> Vec<Count> {
        let mut counts = self.sights.counts();
        counts.extend(self.nemesis.counts());
        counts.extend(logged(self.cluster.members(), self.is_checked));
        counts.extend([
            Count("writes in their place", self.proven.writes),
            Count("reads in their place", self.proven.reads),
            Count(
                "serializable reads in their place",
                self.proven.serializable_reads,
            ),
            Count("unknown writes that happened", self.proven.unknown_done),
            Count("watch streams", self.streams),
            Count("events told", self.told.events),
            Count("progress told", self.told.progress),
            Count("leases", self.kept.leases),
            Count("leases expired", self.kept.expired),
            Count("leases revoked", self.kept.revoked),
            Count("grants and keepalives in time", self.kept.renewals),
        ]);
        counts
    }
}
