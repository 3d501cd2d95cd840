//! Three members in one process, over socket files: what one acknowledges all have, whoever dies.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use keystead_mvcc as mvcc;
use keystead_proto::etcdserverpb::Member;
use keystead_proto::internal::Record;
use keystead_state::{Limits, Outcome, Reader};

use super::{Collected, Nobody, dump, eventually, kill, propose, put, revision, stop};
use crate::{
    Config, Consensus, DataDirError, Identity, MemberChange, PeerListener, ReplySink, StartError,
};

/// Enough for a debug build on a machine that is busy with other things.
const ELECTION: Duration = Duration::from_millis(1500);
/// A start takes less, and waits no longer for a lock.
const PATIENCE: Duration = Duration::from_secs(10);

/// Members of one cluster, each with a directory and a socket of its own.
pub(super) struct Cluster {
    tmp: tempfile::TempDir,
    running: Vec<Option<(Consensus, Reader)>>,
    adjust: fn(&mut Config),
}

impl Cluster {
    /// A cluster of `size` members, of which none runs.
    pub(super) fn of(size: usize) -> Self {
        Self {
            tmp: tempfile::tempdir().unwrap(),
            running: (0..size).map(|_| None).collect(),
            adjust: |_| {},
        }
    }

    /// All members run.
    pub(super) fn started(size: usize) -> Self {
        Self::started_with(size, |_| {})
    }

    pub(super) fn started_with(size: usize, adjust: fn(&mut Config)) -> Self {
        let mut cluster = Self {
            adjust,
            ..Self::of(size)
        };
        (0..size).for_each(|member| cluster.start(member));
        cluster
    }

    pub(super) fn id(member: usize) -> u64 {
        0xa0 + member as u64
    }

    fn socket(&self, member: usize) -> PathBuf {
        self.tmp.path().join(format!("{member}.sock"))
    }

    fn record(&self, member: usize) -> Member {
        Member {
            id: Self::id(member),
            name: format!("m{member}"),
            peer_urls: vec![format!("unix://{}", self.socket(member).display())],
            ..Member::default()
        }
    }

    fn config(&self, member: usize) -> Config {
        let identity = Identity {
            cluster_id: 0xc1,
            member_id: Self::id(member),
        };
        let data_dir = self.tmp.path().join(member.to_string());
        let mut config = Config {
            founders: (0..self.running.len())
                .map(|member| self.record(member))
                .collect(),
            election_timeout: ELECTION,
            heartbeat: ELECTION / 10,
            flush_interval: Duration::from_millis(100),
            wal_segment_bytes: 1 << 20,
            wal_retained_bytes: 64 << 10,
            ..Config::at(data_dir, identity, Limits::default())
        };
        (self.adjust)(&mut config);
        config
    }

    pub(super) fn start(&mut self, member: usize) {
        self.start_at(member, &self.socket(member));
    }

    /// Starts a member that listens elsewhere than where it is dialled.
    fn start_at(&mut self, member: usize, socket: &Path) {
        let began = Instant::now();
        let started = self.try_start(member, || {
            std::fs::remove_file(socket).ok();
            let listener = UnixListener::bind(socket).unwrap();
            listener.set_nonblocking(true).unwrap();
            vec![PeerListener::Unix(listener)]
        });
        let started = started.unwrap();
        assert!(
            began.elapsed() < PATIENCE,
            "a start waits for no other member"
        );
        self.running[member] = Some(started);
    }

    /// Starts one that may be refused.
    fn try_start(
        &self,
        member: usize,
        listeners: impl Fn() -> Vec<PeerListener>,
    ) -> Result<(Consensus, Reader), StartError> {
        let limit = Instant::now() + PATIENCE;
        loop {
            match Consensus::start(self.config(member), listeners(), Arc::new(Nobody)) {
                // A child of another test's, between its fork and its exec, holds the lock that the last one let go.
                Err(StartError::DataDir(DataDirError::InUse(_))) if Instant::now() < limit => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                started => return started,
            }
        }
    }

    /// Ends a member as kill -9 would.
    pub(super) fn kill(&mut self, member: usize) {
        let (consensus, _) = self.running[member].take().unwrap();
        std::fs::remove_file(self.socket(member)).unwrap();
        kill(consensus);
    }

    pub(super) fn member(&self, member: usize) -> &Consensus {
        &self.running[member].as_ref().unwrap().0
    }

    pub(super) fn reader(&self, member: usize) -> &Reader {
        &self.running[member].as_ref().unwrap().1
    }

    fn alive(&self) -> impl Iterator<Item = usize> {
        (0..self.running.len()).filter(|member| self.running[*member].is_some())
    }

    /// Waits until all members that run agree on a leader among them.
    pub(super) fn leader(&self) -> usize {
        let mut agreed = None;
        eventually("a leader that all follow", || {
            let mut leaders = self
                .alive()
                .map(|member| self.member(member).status().leader);
            let first = leaders.next().unwrap();
            let all = leaders.all(|leader| leader == first);
            agreed = self
                .alive()
                .find(|member| all && Self::id(*member) == first);
            agreed.is_some()
        });
        agreed.unwrap()
    }

    pub(super) fn follower(&self) -> usize {
        let leader = self.leader();
        self.alive().find(|member| *member != leader).unwrap()
    }

    /// Writes through a member until it is acknowledged; what was not may have been done, too.
    pub(super) fn write(&self, member: usize, record: &Record) -> i64 {
        let mut done = None;
        eventually("a write", || {
            let outcome = propose(self.member(member), vec![record.clone()]).remove(0);
            done = outcome.is_ok().then(|| revision(&outcome));
            done.is_some()
        });
        done.unwrap()
    }

    /// Waits until all members that run have the same, and returns it.
    pub(super) fn settled(&self) -> (i64, Vec<bytes::Bytes>) {
        let mut same = None;
        eventually("the same on all members", || {
            let mut states = self.alive().map(|member| dump(self.reader(member)));
            let first = states.next().unwrap();
            same = states.all(|state| state == first).then_some(first);
            same.is_some()
        });
        same.unwrap()
    }
}

fn is_done(outcome: &Outcome) -> bool {
    outcome.is_ok()
}

#[test]
fn what_one_member_acknowledges_all_have() {
    let cluster = Cluster::started(3);
    let leader = cluster.leader();
    let outcomes = propose(
        cluster.member(leader),
        (0..200).map(|n| put(&format!("k{n}"), "v")).collect(),
    );
    assert!(outcomes.iter().all(is_done));
    let (revision, rows) = cluster.settled();
    assert_eq!((revision, rows.len()), (201, 200));
}

#[test]
fn a_write_through_any_member_is_seen_there_when_it_is_answered() {
    let cluster = Cluster::started(3);
    cluster.leader();
    for round in 0..20 {
        for member in 0..3 {
            let key = format!("{round}-{member}");
            let written = cluster.write(member, &put(&key, "v"));
            assert!(dump(cluster.reader(member)).0 >= written);
        }
    }
    assert_eq!(cluster.settled().1.len(), 60);
}

#[test]
fn the_cluster_goes_on_when_its_leader_dies_and_the_dead_one_comes_back() {
    let mut cluster = Cluster::started(3);
    for round in 0..3 {
        let leader = cluster.leader();
        cluster.write(leader, &put(&format!("before-{round}"), "v"));
        cluster.kill(leader);
        let next = cluster.leader();
        assert_ne!(next, leader);
        cluster.write(next, &put(&format!("after-{round}"), "v"));
        cluster.start(leader);
        cluster.write(leader, &put(&format!("again-{round}"), "v"));
    }
    assert!(cluster.settled().1.len() >= 9);
}

#[test]
fn a_read_anywhere_sees_what_was_acknowledged_before_it_began() {
    let cluster = Cluster::started(3);
    cluster.leader();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for round in 0..60 {
        let (writer, reader) = (round % 3, (round / 3) % 3);
        let written = cluster.write(writer, &put("k", &round.to_string()));
        runtime
            .block_on(cluster.member(reader).read_barrier())
            .unwrap();
        assert!(dump(cluster.reader(reader)).0 >= written, "round {round}");
    }
}

#[test]
fn without_a_majority_nothing_is_acknowledged_and_with_one_it_goes_on_by_itself() {
    let mut cluster = Cluster::started(3);
    let leader = cluster.leader();
    cluster.write(leader, &put("before", "v"));
    let others: Vec<_> = (0..3).filter(|member| *member != leader).collect();
    others.iter().for_each(|member| cluster.kill(*member));
    eventually("the leader finds itself alone", || {
        cluster.member(leader).status().leader == 0
    });
    let outcome = propose(cluster.member(leader), vec![put("alone", "v")]).remove(0);
    assert!(outcome.is_err(), "{outcome:?}");
    cluster.start(others[0]);
    let next = cluster.leader();
    cluster.write(next, &put("after", "v"));
    cluster.start(others[1]);
    assert!(cluster.settled().1.len() >= 2);
}

#[test]
fn a_member_that_was_away_is_served_what_it_missed() {
    let mut cluster = Cluster::started(3);
    let away = cluster.follower();
    cluster.kill(away);
    let leader = cluster.leader();
    let missed = (0..300).map(|n| put(&format!("k{n}"), "v")).collect();
    assert!(propose(cluster.member(leader), missed).iter().all(is_done));
    cluster.start(away);
    assert_eq!(cluster.settled().1.len(), 300);
    for member in 0..3 {
        stop(cluster.member(member).clone());
    }
}

/// So much that the log keeps little of it, whoever leads, and a member that lacks it needs the store itself.
fn fill(cluster: &Cluster, round: usize) {
    let leader = cluster.leader();
    let value = "x".repeat(8 << 10);
    let purges = || {
        let members = cluster.alive().map(|member| cluster.member(member));
        members.map(|it| it.counters().log.purges).collect()
    };
    let before: Vec<u64> = purges();
    eventually("the logs were purged", || {
        let records = (0..64).map(|n| put(&format!("k{round}-{n}"), &value));
        // Some may be refused, where a busy machine loses its leader: there are more.
        propose(cluster.member(leader), records.collect());
        purges()
            .iter()
            .zip(&before)
            .all(|(now, before)| *now > before + 1)
    });
}

#[test]
fn a_member_that_lacks_what_the_log_gave_up_gets_the_store_and_then_the_log() {
    let mut cluster = Cluster::started(3);
    let away = cluster.follower();
    for round in 0..2 {
        cluster.kill(away);
        fill(&cluster, round);
        cluster.start(away);
        let leader = cluster.leader();
        cluster.write(leader, &put(&format!("after-{round}"), "v"));
        cluster.settled();
    }
    let hash = |member: usize| cluster.reader(member).store().hash_kv(0).unwrap();
    assert_eq!(hash(away), hash(cluster.leader()));
    // What it took over is on its disk.
    cluster.kill(away);
    cluster.start(away);
    let (revision, _) = cluster.settled();
    assert_eq!(cluster.write(away, &put("last", "v")), revision + 1);
}

#[test]
fn a_tail_that_no_majority_had_gives_way_to_what_one_has() {
    // A leader that lost its majority still takes what comes within 0.65 of this.
    let mut cluster = Cluster::started_with(3, |config| {
        config.election_timeout = 2 * ELECTION;
        config.heartbeat = ELECTION / 10;
    });
    let leader = cluster.leader();
    cluster.write(leader, &put("before", "v"));
    cluster.settled();
    let others: Vec<_> = (0..3).filter(|member| *member != leader).collect();
    others.iter().for_each(|member| cluster.kill(*member));
    let last = cluster.member(leader).status().last_log_index;
    let told: Arc<dyn ReplySink> = Arc::new(Collected::default());
    let alone = vec![(0, put("alone", "v")), (1, put("alone", "w"))];
    cluster.member(leader).propose(&told, alone);
    eventually("it stands in the log of one", || {
        cluster.member(leader).status().last_log_index > last
    });
    cluster.kill(leader);
    others.iter().for_each(|member| cluster.start(*member));
    let next = cluster.leader();
    cluster.write(next, &put("after", "v"));
    cluster.start(leader);
    let (revision, rows) = cluster.settled();
    assert_eq!(
        (revision, rows.len()),
        (3, 2),
        "before and after, and nothing between"
    );
}

/// Replaces the files of one directory by those of another.
fn copy_files(from: &Path, to: &Path) {
    drop(std::fs::remove_dir_all(to));
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

#[test]
fn a_kill_between_the_new_store_and_the_log_that_begins_behind_it_is_survived() {
    let mut cluster = Cluster::started(3);
    let away = cluster.follower();
    cluster.kill(away);
    let dir = cluster.config(away).data_dir;
    let before = cluster.tmp.path().join("before");
    copy_files(&dir.join("wal"), &before);
    fill(&cluster, 0);
    // What it takes over stays the last that its store was given.
    cluster.adjust = |config| config.flush_interval = Duration::from_secs(3600);
    cluster.start(away);
    cluster.settled();
    // While the mark is there, the old log is nothing to wonder about.
    eventually("the log begins behind the store", || {
        !dir.join("INSTALLING").exists()
    });
    // All of them: what the old log lacks was acknowledged, and a leader that knows so would not go on.
    (0..3).for_each(|member| cluster.kill(member));
    let taken_over = {
        let options = mvcc::Options {
            map_bytes: cluster.config(away).map_bytes,
            ..mvcc::Options::default()
        };
        mvcc::Store::open(&dir.join("store"), &options)
            .unwrap()
            .position
    };
    copy_files(&before, &dir.join("wal"));
    let refused = cluster.try_start(away, Vec::new).err();
    assert!(
        matches!(refused, Some(StartError::Apart(_))),
        "that is damage: {refused:?}"
    );
    std::fs::write(dir.join("INSTALLING"), format!("{taken_over}\n")).unwrap();
    (0..3).for_each(|member| cluster.start(member));
    cluster.write(away, &put("after", "v"));
    cluster.settled();
    assert!(!dir.join("INSTALLING").exists());
}

/// Its leader would not be reached by it otherwise, until the next change of the members.
#[test]
fn addresses_that_were_given_up_with_the_log_are_not_dialled() {
    let mut cluster = Cluster::started(3);
    let leader = cluster.leader();
    let others: Vec<usize> = (0..3).filter(|member| *member != leader).collect();
    let moved = others[0];
    cluster.write(leader, &put("before", "v"));
    others.iter().for_each(|member| cluster.kill(*member));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let change = MemberChange::Update {
        id: Cluster::id(moved),
        peer_urls: vec!["unix:///nowhere".to_owned()],
    };
    let old = cluster.member(leader).clone();
    let changing =
        || async { tokio::time::timeout(ELECTION / 10, old.change_members(&change)).await };
    eventually("the change to stand in the log", || {
        assert!(runtime.block_on(changing()).is_err(), "nobody else has it");
        let moved = Cluster::id(moved);
        let known = old.members().into_iter().find(|member| member.id == moved);
        known.is_some_and(|member| member.peer_urls == ["unix:///nowhere"])
    });
    drop(old);
    cluster.kill(leader);

    others.iter().for_each(|member| cluster.start(*member));
    let next = cluster.leader();
    cluster.write(next, &put("without-it", "v"));
    cluster.start(leader);
    cluster.settled();
    eventually("the member with the address to lead", || {
        let leads = cluster.member(cluster.leader());
        runtime
            .block_on(leads.move_leader(Cluster::id(moved)))
            .is_ok()
    });
    cluster.write(leader, &put("through-it", "v"));
}
