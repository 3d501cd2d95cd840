//! What a run has seen happen, so that one in which too little happened can fail.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keystead_proto::etcdserverpb::StatusRequest;
use keystead_tests::{Kind, Server, Unary};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;

const LOOK_INTERVAL: Duration = Duration::from_millis(50);
const LOOK_LIMIT: Duration = Duration::from_millis(300);
/// No member leads.
const NOBODY: usize = usize::MAX;

/// Counted while a run goes on, by everybody who sees something.
pub struct Sights {
    leader: AtomicUsize,
    /// The leader of each term that had one.
    terms: Mutex<BTreeMap<u64, usize>>,
    writes: AtomicU64,
    writes_through_followers: AtomicU64,
    keepalives: AtomicU64,
    keepalives_through_followers: AtomicU64,
    streams_ended: AtomicU64,
    streams_without_leader: AtomicU64,
}

impl Sights {
    /// Nothing yet.
    pub fn new() -> Arc<Sights> {
        Arc::new(Sights {
            leader: AtomicUsize::new(NOBODY),
            terms: Mutex::default(),
            writes: AtomicU64::new(0),
            writes_through_followers: AtomicU64::new(0),
            keepalives: AtomicU64::new(0),
            keepalives_through_followers: AtomicU64::new(0),
            streams_ended: AtomicU64::new(0),
            streams_without_leader: AtomicU64::new(0),
        })
    }

    /// A write was answered by this member.
    pub fn saw_write(&self, member: usize) {
        self.writes.fetch_add(1, Relaxed);
        self.writes_through_followers
            .fetch_add(self.is_follower(member).into(), Relaxed);
    }

    /// A keepalive was answered by this member.
    pub fn saw_keepalive(&self, member: usize) {
        self.keepalives.fetch_add(1, Relaxed);
        self.keepalives_through_followers
            .fetch_add(self.is_follower(member).into(), Relaxed);
    }

    fn is_follower(&self, member: usize) -> bool {
        self.leader().is_some_and(|leader| leader != member)
    }

    /// A watch stream was ended by its member.
    pub fn saw_stream_end(&self, no_leader: bool) {
        self.streams_ended.fetch_add(1, Relaxed);
        self.streams_without_leader
            .fetch_add(no_leader.into(), Relaxed);
    }

    /// Writes that were answered so far.
    pub fn writes(&self) -> u64 {
        self.writes.load(Relaxed)
    }

    /// Who leads, as far as is known.
    pub fn leader(&self) -> Option<usize> {
        Some(self.leader.load(Relaxed)).filter(|leader| *leader != NOBODY)
    }

    /// Looks at all members all the time, until the tasks are dropped.
    pub fn look(self: &Arc<Sights>, channels: &[Channel]) -> JoinSet<()> {
        let mut looking = JoinSet::new();
        for (member, channel) in channels.iter().enumerate() {
            looking.spawn(self.clone().look_at(member, channel.clone()));
        }
        looking
    }

    async fn look_at(self: Arc<Sights>, member: usize, channel: Channel) {
        loop {
            let status = timeout(LOOK_LIMIT, StatusRequest {}.send(channel.clone())).await;
            if let Ok(Ok(status)) = status
                && status
                    .header
                    .is_some_and(|it| it.member_id == status.leader)
            {
                self.saw_leader(status.raft_term, member);
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// A member says that it leads. An older leader may not know yet that it does no more.
    fn saw_leader(&self, term: u64, member: usize) {
        let mut terms = self.terms.lock().expect("nobody panics with it");
        terms.insert(term, member);
        let newest = terms.last_key_value().map(|(_, member)| *member);
        self.leader.store(newest.unwrap_or(NOBODY), Relaxed);
    }

    /// Everything that was counted, by name.
    pub fn counts(&self) -> Vec<Count> {
        let terms = self.terms.lock().expect("nobody panics with it");
        let leaders: Vec<usize> = terms.values().copied().collect();
        let changes = leaders.windows(2).filter(|it| it[0] != it[1]).count();
        vec![
            Count("answered writes", self.writes()),
            Count(
                "of them through followers",
                self.writes_through_followers.load(Relaxed),
            ),
            Count("answered keepalives", self.keepalives.load(Relaxed)),
            Count(
                "of these through followers",
                self.keepalives_through_followers.load(Relaxed),
            ),
            Count("terms with a leader", terms.len() as u64),
            Count("leaders changed", changes as u64),
            Count(
                "watch streams ended by members",
                self.streams_ended.load(Relaxed),
            ),
            Count(
                "of them for want of a leader",
                self.streams_without_leader.load(Relaxed),
            ),
        ]
    }
}

/// How often something happened.
#[derive(Clone, Copy)]
pub struct Count(pub &'static str, pub u64);

impl fmt::Debug for Count {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.1, self.0)
    }
}

/// What a member's log tells of its own work, in lines that begin so. Fields are told where they are not 0.
struct Line(&'static str, &'static str, Option<&'static str>);

const KEYSTEAD_LINES: [Line; 4] = [
    Line(
        "conflicting tails given up",
        "gave up entries that the leader does not have",
        None,
    ),
    Line(
        "snapshots installed",
        "a snapshot is in the store's place",
        None,
    ),
    Line("snapshots cut midway", "a snapshot was cut", Some("next")),
    Line(
        "cut snapshots gone on with",
        "taking a snapshot",
        Some("from"),
    ),
];

/// And of the checks for corruption, where the others were heard.
const CHECK_LINES: [Line; 3] = [
    Line(
        "initial checks",
        "initial corruption checking passed",
        Some(PEERS_CHECKED),
    ),
    Line(
        "periodic checks",
        "finished peer corruption check",
        Some(PEERS_CHECKED),
    ),
    Line(
        "hashes of compactions compared",
        "successfully checked hash on whole cluster",
        None,
    ),
];
const PEERS_CHECKED: &str = "number_of_peers_checked";

const ETCD_LINES: [Line; 1] = [Line("snapshots installed", "applied snapshot", None)];

/// How often each of these things happened at all members together, by their logs; the checks for corruption among them where
/// members make them.
pub fn logged(members: &[Server], with_checks: bool) -> Vec<Count> {
    let kind = members.first().map_or(Kind::Keystead, Server::kind);
    let own = match kind {
        Kind::Keystead => &KEYSTEAD_LINES[..],
        Kind::Etcd => &ETCD_LINES[..],
    };
    let checks = CHECK_LINES.iter().filter(|_| with_checks);
    let logs: Vec<String> = members.iter().map(Server::log).collect();
    let count = |line: &Line| logs.iter().map(|log| line.occurs(log)).sum();
    let lines = own.iter().chain(checks);
    lines.map(|it| Count(it.0, count(it))).collect()
}

/// How often this member gave up entries that its leader does not have.
pub fn given_up(member: &Server) -> u64 {
    KEYSTEAD_LINES[0].occurs(&member.log())
}

/// How often this member received a part of a snapshot whose rest did not come, and how often it went on with one.
pub fn cut_and_gone_on(member: &Server) -> (u64, u64) {
    let log = member.log();
    (
        KEYSTEAD_LINES[2].occurs(&log),
        KEYSTEAD_LINES[3].occurs(&log),
    )
}

impl Line {
    fn occurs(&self, log: &str) -> u64 {
        let lines = log.lines().filter(|line| line.contains(self.1));
        let told = lines.filter(|line| {
            self.2
                .is_none_or(|field| number(line, field).is_some_and(|it| it != 0))
        });
        told.count() as u64
    }
}

/// The number in a field of a line of the log.
fn number(line: &str, field: &str) -> Option<u64> {
    let (_, rest) = line.split_once(&format!("\"{field}\":"))?;
    let digits = rest.split(|it: char| !it.is_ascii_digit()).next()?;
    digits.parse().ok()
}
