//! Members that find each other by DNS (`--discovery-srv`), on real etcd, where it can be built, and on Keystead: both ask a server
//! of this process, found the same cluster by the same records, and refuse the same ones with the same words. Skipped where this
//! process may not mount a file for them alone.

mod commands;
mod dns;

use std::net::{Ipv4Addr, SocketAddr};

use hickory_resolver::proto::op::ResponseCode;
use keystead_proto::etcdserverpb::MemberListRequest;
use keystead_tests::{Kind, Network, Server, Unary, eventually};

use dns::{Dns, Zone};

const PROGRAMS: [Kind; 2] = [Kind::Etcd, Kind::Keystead];
const HOSTS: [&str; 3] = ["m0.cluster.test", "m1.cluster.test", "m2.cluster.test"];

/// Addresses for three members, which names lead to.
struct Site {
    peers: Vec<SocketAddr>,
}

impl Site {
    fn new() -> Site {
        let peers = Network::addresses(3);
        Site { peers }
    }

    fn port(&self, member: usize) -> u16 {
        self.peers[member].port()
    }

    fn url(&self, member: usize) -> String {
        format!("http://{}:{}", HOSTS[member], self.port(member))
    }

    /// What the record of a member names.
    fn target(&self, member: usize) -> (&'static str, u16) {
        (HOSTS[member], self.port(member))
    }

    /// The hosts of all members.
    fn zone(&self) -> Zone {
        let hosts = HOSTS.iter();
        hosts.fold(Zone::default(), |zone, host| {
            zone.host(host, Ipv4Addr::LOCALHOST)
        })
    }

    /// A member that is to find the others, not started; `None` when it is etcd and there is none.
    fn member(&self, kind: Kind, member: usize, dns: &Dns, flags: &[&str]) -> Option<Server> {
        let flags: Vec<_> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let name = format!("m{member}");
        let mut server =
            Server::member(kind, &name, self.peers[member], &self.url(member), &flags)?;
        server.resolve_by(dns.resolv_conf());
        Some(server)
    }
}

/// The cluster's id, and of each member, by name, the id and the peer URLs.
type Formed = (u64, Vec<(String, u64, Vec<String>)>);

/// What a member tells of its cluster, once it knows all by name.
async fn formed(server: &Server) -> Option<Formed> {
    let request = MemberListRequest { linearizable: true };
    let list = request.send(server.channel()).await.ok()?;
    let published = list.members.iter().all(|it| !it.client_urls.is_empty());
    let members = list.members.into_iter();
    let mut members: Vec<_> = members.map(|it| (it.name, it.id, it.peer_urls)).collect();
    members.sort();
    published.then_some((list.header?.cluster_id, members))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_records_found_the_same_cluster() {
    let site = Site::new();
    let all = || (0..3).map(|member| site.target(member));
    let zone = site
        .zone()
        .srv("_etcd-server._tcp.cluster.test", all())
        .srv("_etcd-server-blue._tcp.cluster.test", all());
    // What no record has is looked up in this domain, too.
    let Some(dns) = Dns::start(zone, "test") else {
        return;
    };
    let by_name = [
        "--discovery-srv",
        "cluster",
        "--discovery-srv-name",
        "blue",
        "--initial-cluster-token",
        "another",
    ];
    for flags in [&["--discovery-srv", "cluster.test"][..], &by_name] {
        let mut told = Vec::new();
        for kind in PROGRAMS {
            let members = (0..3).map(|member| site.member(kind, member, &dns, flags));
            let Some(mut members) = members.collect::<Option<Vec<_>>>() else {
                println!("skipped on {kind:?}: there is none");
                continue;
            };
            members.iter_mut().for_each(Server::launch);
            for member in &mut members {
                if let Err(ended) = member.answer_or_end().await {
                    panic!("{kind:?} {flags:?} {ended}: {}", member.log());
                }
            }
            let list = eventually("all names", async || formed(&members[1]).await).await;
            let named: Vec<_> = list.1.iter().map(|(name, ..)| name.as_str()).collect();
            assert_eq!(named, ["m0", "m1", "m2"], "{kind:?} {flags:?}");
            let urls: Vec<_> = list.1.iter().map(|(.., urls)| urls.concat()).collect();
            assert_eq!(urls, [0, 1, 2].map(|member| site.url(member)));
            told.push(list);
        }
        assert!(told.windows(2).all(|it| it[0] == it[1]), "{told:#?}");
    }
}

/// The founders that a member reads off the records, as it logs them.
fn founders(log: &str) -> Vec<&str> {
    let lines = log
        .lines()
        .filter(|line| line.contains("got bootstrap from DNS for etcd-server"));
    let nodes = lines.filter_map(|line| line.split_once("\"node\":\"")?.1.split('"').next());
    nodes.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_with_tls_come_first_and_name_the_same_members_as_those_without() {
    let site = Site::new();
    let all = || (0..3).map(|member| site.target(member));
    let zone = site
        .zone()
        .srv("_etcd-server-ssl._tcp.cluster.test", all())
        .srv("_etcd-server._tcp.cluster.test", all());
    let Some(dns) = Dns::start(zone, ".") else {
        return;
    };
    let encrypted = |member| site.url(member).replace("http:", "https:");
    // It is not reached by TLS itself.
    let expected = [
        format!("0={}", encrypted(1)),
        format!("1={}", encrypted(2)),
        format!("m0={}", site.url(0)),
        format!("0={}", site.url(1)),
        format!("1={}", site.url(2)),
    ];
    for kind in PROGRAMS {
        let flags = ["--discovery-srv", "cluster.test"];
        let Some(mut member) = site.member(kind, 0, &dns, &flags) else {
            println!("skipped on {kind:?}: there is none");
            continue;
        };
        member.launch();
        let log = eventually("all founders", async || {
            assert_eq!(member.ended(), None, "{}", member.log());
            Some(member.log()).filter(|log| founders(log).len() >= expected.len())
        })
        .await;
        assert_eq!(founders(&log), expected, "{kind:?}");
    }
}

/// Starts a member that must end by itself, with etcd's exit code, and say so; the text is as people read it.
async fn assert_refused(mut member: Server, sentence: &str) {
    let kind = member.kind();
    let ended = member.try_restart().await;
    let ended = ended.expect_err(&format!("{kind:?}: {sentence}"));
    // A sentence in a line of the log has its quotes and its ends of lines escaped.
    let log = member.log().replace("\\\"", "\"").replace("\\n", "\n");
    assert!(log.contains(sentence), "{kind:?}: {sentence}\n{log}");
    assert_eq!(ended.code(), Some(1), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_name_no_cluster_of_this_member_are_refused_in_etcds_words() {
    let site = Site::new();
    let zone = site
        .zone()
        .host("alias.cluster.test", Ipv4Addr::LOCALHOST)
        .srv(
            "_etcd-server._tcp.others.test",
            [1, 2].map(|it| site.target(it)),
        )
        .srv("_etcd-server-ssl._tcp.tls.test", [site.target(0)])
        .srv("_etcd-server._tcp.gone.test", [("gone.cluster.test", 1)])
        .srv("_etcd-server._tcp.alone.test", [site.target(0)])
        .srv(
            "_etcd-server._tcp.twice.test",
            [0, 0].map(|it| site.target(it)),
        )
        .srv(
            "_etcd-server._tcp.alias.test",
            [site.target(0), ("alias.cluster.test", site.port(0))],
        )
        .srv(
            "_etcd-server._tcp.pair.test",
            [0, 1, 1].map(|it| site.target(it)),
        )
        .refuse("_etcd-server-ssl._tcp.broken.test", ResponseCode::ServFail)
        .refuse("_etcd-server._tcp.broken.test", ResponseCode::Refused);
    let Some(dns) = Dns::start(zone, ".") else {
        return;
    };
    let lookup = |name: &str, why: &str| format!("lookup {name} on {}: {why}", dns.address());
    let none = |service: &str, domain: &str| {
        let why = lookup(&format!("_{service}._tcp.{domain}"), "no such host");
        format!("error querying DNS SRV records for _{service} {why}")
    };
    let set_up = |why: &str| format!("error setting up initial cluster: {why}");
    let both = |ssl: &str, plain: &str| set_up(&format!("{ssl}\n{plain}"));
    let (m0, m1) = (site.url(0), site.url(1));
    let (encrypted, alias) = (m0.replace("http:", "https:"), m0.replace("m0.", "alias."));
    let broken = |service: &str| {
        let why = lookup(
            &format!("_{service}._tcp.broken.test"),
            "server misbehaving",
        );
        format!("error querying DNS SRV records for _{service} {why}")
    };
    let second = format!("http://127.0.0.1:{}", site.port(1));
    let two = format!("{m0},{second}");
    let gone = "http://gone.cluster.test:1";
    for (domain, more, sentence) in [
        (
            "none.test",
            &[][..],
            both(&none("etcd-server-ssl", "none.test"), &none("etcd-server", "none.test")),
        ),
        (
            "alone.test",
            &["--discovery-srv-name", "blue"],
            both(
                &none("etcd-server-ssl-blue", "alone.test"),
                &none("etcd-server-blue", "alone.test"),
            ),
        ),
        (
            "others.test",
            &[],
            set_up("cannot find local etcd member \"m0\" in SRV records"),
        ),
        (
            "tls.test",
            &[],
            both(
                &format!(
                    "error querying DNS SRV records for _etcd-server-ssl bootstrap at {encrypted} from DNS for etcd-server-ssl \
                     has scheme mismatch with expected peer {m0}"
                ),
                &none("etcd-server", "tls.test"),
            ),
        ),
        (
            "gone.test",
            &[],
            both(
                &none("etcd-server-ssl", "gone.test"),
                &format!(
                    "error querying DNS SRV records for _etcd-server {}",
                    lookup("gone.cluster.test.", "no such host")
                ),
            ),
        ),
        ("broken.test", &[], both(&broken("etcd-server-ssl"), &broken("etcd-server"))),
        (
            "alone.test",
            &["--initial-advertise-peer-urls", gone],
            both(
                &lookup("gone.cluster.test", "no such host"),
                &lookup("gone.cluster.test", "no such host"),
            ),
        ),
        (
            "twice.test",
            &[],
            format!(
                "failed to resolve {m0} to match --initial-cluster=m0={m0} (len([\"{m0}\"]) != len([\"{m0}\" \"{m0}\"]))"
            ),
        ),
        (
            "alias.test",
            &[],
            format!(
                "--initial-cluster has m0={alias} but missing from --initial-advertise-peer-urls={m0} (len([\"{m0}\"]) != \
                 len([\"{alias}\" \"{m0}\"]))"
            ),
        ),
        (
            "pair.test",
            &[],
            format!("initial cluster 0={m1},1={m1},m0={m0} has duplicate url"),
        ),
        (
            "alone.test",
            &["--initial-advertise-peer-urls", &two],
            // etcd says here that what it was told is in the list.
            format!(
                "--initial-advertise-peer-urls has {second} but missing from --initial-cluster=m0="
            ),
        ),
        (
            "alone.test",
            &["--initial-cluster-state", "existing"],
            "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs".to_owned(),
        ),
    ] {
        for kind in PROGRAMS {
            let Some(mut member) = site.member(kind, 0, &dns, &["--discovery-srv", domain]) else {
                continue;
            };
            for flag in more.chunks(2) {
                member.set_flag(flag[0], flag[1]);
            }
            println!("{domain} {more:?} on {kind:?}");
            assert_refused(member, &sentence).await;
        }
    }
    for kind in PROGRAMS {
        if let Some(member) = site.member(kind, 0, &dns, &["--discovery-srv-name", "blue"]) {
            let sentence = "couldn't find local name \"m0\" in the initial cluster configuration";
            assert_refused(member, sentence).await;
        }
    }
}
