//! A cluster of real processes on this machine, of either program: each member has a directory, free ports and a relay of its
//! own, through which the others reach it. It ends with the test.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use keystead_proto::etcdserverpb::{HashKvRequest, RangeRequest, StatusRequest, StatusResponse};
use tokio::time::{sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;

use crate::network::Network;
use crate::server::{Kind, Server, free_address};
use crate::unary::Unary;

/// How long a cluster may take to agree on something once nothing is in its way.
const PATIENCE: Duration = Duration::from_secs(90);
/// Nothing that is asked of a single member takes longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Members that know each other by a static `--initial-cluster`.
pub struct Cluster {
    kind: Kind,
    members: Vec<Server>,
    network: Network,
}

impl Cluster {
    /// Starts a fresh cluster and waits until every member answers a linearizable read; `None` when it is etcd and there is none.
    pub async fn start(kind: Kind, members: usize, arguments: &[&str]) -> Option<Cluster> {
        let mut cluster = Cluster::prepare(kind, members, arguments).await?;
        for member in 0..members {
            cluster.member(member).launch();
        }
        cluster.ready().await;
        Some(cluster)
    }

    /// The same without starting a member.
    pub async fn prepare(kind: Kind, members: usize, arguments: &[&str]) -> Option<Cluster> {
        Cluster::prepare_with_spares(kind, members, 0, arguments).await
    }

    /// The same with so many more, which are no members yet: whoever adds one and starts it has a member that knows all
    /// before it.
    pub async fn prepare_with_spares(
        kind: Kind,
        founders: usize,
        spares: usize,
        arguments: &[&str],
    ) -> Option<Cluster> {
        let members = founders + spares;
        let relays = Network::addresses(members);
        let peers: Vec<SocketAddr> = (0..members).map(|_| free_address()).collect();
        let listed: Vec<String> = (0..members)
            .map(|member| format!("{}=http://{}", name(member), relays[member]))
            .collect();
        let server = |member: usize| {
            let known = founders.max(member + 1);
            let mut all = vec!["--initial-cluster".to_owned(), listed[..known].join(",")];
            all.extend(arguments.iter().map(|&argument| argument.to_owned()));
            if member >= founders {
                all.extend(["--initial-cluster-state", "existing"].map(str::to_owned));
            }
            let url = format!("http://{}", relays[member]);
            Server::member(kind, &name(member), peers[member], &url, &all)
        };
        let servers: Option<Vec<Server>> = (0..members).map(server).collect();
        let servers = servers?;
        let pids = servers.iter().map(Server::watched_pid).collect();
        Some(Cluster {
            kind,
            network: Network::start(relays, &peers, pids).await,
            members: servers,
        })
    }

    /// Which program its members are.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// How many members it was made with, spares among them.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// A member, to start, stop or pause it.
    pub fn member(&mut self, member: usize) -> &mut Server {
        &mut self.members[member]
    }

    /// All members.
    pub fn members(&self) -> &[Server] {
        &self.members
    }

    /// The links between the members.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// A connection to a member; connects on first use.
    pub fn channel(&self, member: usize) -> Channel {
        self.members[member].channel()
    }

    /// Waits until every member that was started answers a linearizable read.
    pub async fn ready(&mut self) {
        for (member, server) in self.members.iter_mut().enumerate() {
            if server.is_started()
                && let Err(ended) = server.answer_or_end().await
            {
                panic!(
                    "member {member} ended by itself ({ended}):\n{}",
                    server.log()
                );
            }
        }
    }

    /// What a member says of itself, if it answers.
    pub async fn status(&self, member: usize) -> Result<StatusResponse, Status> {
        within(StatusRequest {}.send(self.channel(member))).await
    }

    /// Waits until all members that were started name the same leader, and gives its place.
    pub async fn leader(&self) -> usize {
        let begin = Instant::now();
        loop {
            if let Some(leader) = self.agreed_leader().await {
                return leader;
            }
            self.assert_patience(begin, "no leader that all agree on");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn agreed_leader(&self) -> Option<usize> {
        let (mut own, mut named) = (Vec::new(), Vec::new());
        for member in (0..self.size()).filter(|it| self.members[*it].is_started()) {
            let status = self.status(member).await.ok()?;
            own.push((status.header?.member_id, member));
            named.push((status.leader, status.raft_term));
        }
        let (leader, term) = *named.first()?;
        let agreed = leader != 0 && named.iter().all(|it| *it == (leader, term));
        let place = own.iter().find(|(id, _)| *id == leader);
        place.filter(|_| agreed).map(|(_, member)| *member)
    }

    /// Waits until every member that was started has come to the same revision, and fails unless all have the same content
    /// there, by HashKV. Gives that revision.
    pub async fn assert_equal(&self) -> i64 {
        let revision = self.settled().await;
        let mut hashes = Vec::new();
        for member in (0..self.size()).filter(|it| self.members[*it].is_started()) {
            let request = HashKvRequest { revision };
            let answer = within(request.send(self.channel(member))).await;
            let answer = answer.unwrap_or_else(|status| panic!("member {member}: {status}"));
            hashes.push((answer.hash, answer.compact_revision, answer.hash_revision));
        }
        assert!(
            hashes.iter().all(|it| it.0 == hashes[0].0),
            "the members differ at revision {revision}: hash, compacted, hashed {hashes:?}"
        );
        revision
    }

    async fn settled(&self) -> i64 {
        let begin = Instant::now();
        loop {
            let mut revisions = Vec::new();
            for member in (0..self.size()).filter(|it| self.members[*it].is_started()) {
                let read = RangeRequest {
                    key: "ready".into(),
                    serializable: true,
                    ..Default::default()
                };
                let answer = within(read.send(self.channel(member))).await;
                revisions.push(answer.ok().and_then(|it| it.header).map(|it| it.revision));
            }
            if let Some(revision) = revisions[0]
                && revisions.iter().all(|it| *it == Some(revision))
            {
                return revision;
            }
            self.assert_patience(begin, &format!("revisions stay apart: {revisions:?}"));
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn assert_patience(&self, begin: Instant, what: &str) {
        assert!(begin.elapsed() < PATIENCE, "{what} after {PATIENCE:?}");
    }
}

fn name(member: usize) -> String {
    format!("m{member}")
}

async fn within<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    timeout(ANSWER_LIMIT, answer)
        .await
        .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer from the member")))
}
