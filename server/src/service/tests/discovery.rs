//! Members that find each other by DNS, which is a server in this process.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use keystead_proto::etcdserverpb::{MemberListRequest, MemberListResponse};

use super::{config, start};
use crate::config::{Discovery, ListenAddress};
use crate::testing::Client;
use crate::{Config, Node, StartError};

const TYPE_SRV: u16 = 33;
const HEAD_BYTES: usize = 12;
const PEER_PORT: u16 = 2380;

/// A DNS server that knows SRV records: for a name, the addresses that they lead to, at the usual peer port.
struct Dns {
    address: SocketAddr,
    done: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl Dns {
    fn start(records: BTreeMap<&'static str, Vec<Ipv4Addr>>) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let limit = Some(Duration::from_millis(50));
        socket.set_read_timeout(limit).expect("it is not zero");
        let address = socket.local_addr().expect("it is bound");
        let done = Arc::new(AtomicBool::new(false));
        let stop = done.clone();
        let serving = thread::spawn(move || {
            let mut packet = [0; 1500];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut packet) {
                    let answer = answer(&packet[..length], &records);
                    socket.send_to(&answer, from).expect("a way back");
                }
            }
        });
        Self {
            address,
            done,
            serving: Some(serving),
        }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        let serving = self.serving.take().expect("it was started");
        serving.join().expect("it does not panic");
    }
}

/// The answer to a packet with one question (RFC 1035, section 4; SRV is RFC 2782).
fn answer(query: &[u8], records: &BTreeMap<&'static str, Vec<Ipv4Addr>>) -> Vec<u8> {
    let mut name = Vec::new();
    let mut at = HEAD_BYTES;
    while query[at] > 0 {
        let label = &query[at + 1..][..usize::from(query[at])];
        name.push(String::from_utf8_lossy(label).to_lowercase());
        at += 1 + label.len();
    }
    let question = &query[HEAD_BYTES..at + 5];
    let of_srv = question[question.len() - 4..][..2] == TYPE_SRV.to_be_bytes();
    let found = records.get(name.join(".").as_str()).filter(|_| of_srv);
    let mut packet = query[..2].to_vec();
    let put = |packet: &mut Vec<u8>, field: u16| packet.extend(field.to_be_bytes());
    // An answer with authority; without records there is no such name.
    put(&mut packet, if found.is_some() { 0x8580 } else { 0x8583 });
    put(&mut packet, 1);
    put(&mut packet, found.map_or(0, |found| found.len() as u16));
    packet.extend([0; 4]);
    packet.extend_from_slice(question);
    for address in found.into_iter().flatten() {
        let mut target = Vec::new();
        for label in address.to_string().split('.') {
            target.push(label.len() as u8);
            target.extend(label.bytes());
        }
        target.push(0);
        // The name is that of the question.
        put(&mut packet, 0xC000 | HEAD_BYTES as u16);
        let bytes = 6 + target.len() as u16;
        for field in [TYPE_SRV, 1, 0, 0, bytes, 0, 0, PEER_PORT] {
            put(&mut packet, field);
        }
        packet.extend(target);
    }
    packet
}

/// Addresses of this host that no other process uses: the tests of another one have another number.
fn addresses() -> [Ipv4Addr; 3] {
    let [.., high, low] = std::process::id().to_be_bytes();
    [1, 2, 3].map(|last| Ipv4Addr::new(127, 100 + high % 100, low, last))
}

/// A member at `address` that is told to find the others.
fn finding(dir: &tempfile::TempDir, name: &str, address: Ipv4Addr, dns: &Dns) -> Config {
    Config {
        name: name.to_owned(),
        listen_peer: vec![ListenAddress::Tcp((address, PEER_PORT).into())],
        advertise_peer_urls: vec![format!("http://{address}:{PEER_PORT}")],
        discovery: Some(Discovery {
            domain: "cluster.test".to_owned(),
            service_name: "blue".to_owned(),
            nameservers: vec![dns.address],
        }),
        ..config(dir)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_that_dns_names_form_a_cluster_and_ask_it_no_more() {
    let addresses = addresses();
    let dns = Dns::start(BTreeMap::from([(
        "_etcd-server-blue._tcp.cluster.test",
        addresses.to_vec(),
    )]));
    let dirs = [(); 3].map(|()| tempfile::tempdir().expect("a directory"));
    let started: Vec<_> = (0..3)
        .map(|member| {
            let name = format!("m{member}");
            let config = finding(&dirs[member], &name, addresses[member], &dns);
            thread::spawn(|| start(config))
        })
        .collect();
    let mut nodes: Vec<Node> = started
        .into_iter()
        .map(|it| it.join().expect("no panic").expect("it starts"))
        .collect();
    let ListenAddress::Tcp(asked) = nodes[1].client_addresses()[0] else {
        panic!("it listens on a port")
    };
    let client = Client::connect(asked).await;
    let request = MemberListRequest { linearizable: true };
    let list: MemberListResponse = client
        .unary("/etcdserverpb.Cluster/MemberList", &request)
        .await
        .expect("a list");
    let mut listed: Vec<_> = list
        .members
        .into_iter()
        .map(|it| (it.name, it.peer_urls.concat()))
        .collect();
    listed.sort();
    let expected = [0, 1, 2].map(|it| {
        (
            format!("m{it}"),
            format!("http://{}:{PEER_PORT}", addresses[it]),
        )
    });
    assert_eq!(listed, expected);
    // The member is known by its directory: without DNS it starts, too.
    let last = nodes.pop().expect("there are three");
    stop(last);
    let again = finding(&dirs[2], "m2", addresses[2], &dns);
    drop(dns);
    nodes.push(start(again).expect("it knows the others"));
    nodes.into_iter().for_each(stop);
}

fn stop(node: Node) {
    thread::spawn(|| node.shutdown())
        .join()
        .expect("it stops without a panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_dns_does_not_name_founds_nothing_and_says_why() {
    let [one, two, _] =
        addresses().map(|it| Ipv4Addr::new(127, 201, it.octets()[2], it.octets()[3]));
    let refused = |records| {
        let (dns, dir) = (
            Dns::start(records),
            tempfile::tempdir().expect("a directory"),
        );
        match start(finding(&dir, "me", one, &dns)) {
            Err(StartError::Founding(error)) => error.to_string(),
            Err(other) => panic!("refused for another reason: {other}"),
            Ok(_) => panic!("it founded a cluster"),
        }
    };
    assert_eq!(
        refused(BTreeMap::from([(
            "_etcd-server-blue._tcp.cluster.test",
            vec![two]
        )])),
        "error setting up initial cluster: cannot find local etcd member \"me\" in SRV records"
    );
    let mismatch = refused(BTreeMap::from([(
        "_etcd-server-ssl-blue._tcp.cluster.test",
        vec![one],
    )]));
    assert!(mismatch.contains("has scheme mismatch"), "{mismatch}");
    let nothing = refused(BTreeMap::from([(
        "_etcd-server._tcp.cluster.test",
        vec![one],
    )]));
    for service in ["_etcd-server-ssl-blue", "_etcd-server-blue"] {
        let sentence = format!("error querying DNS SRV records for {service} ");
        assert!(nothing.contains(&sentence), "{nothing}");
    }
}
