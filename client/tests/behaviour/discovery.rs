//! Endpoints that are found: by DNS, which is a server in this process, and by asking the members.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use keystead_client::{Client, ConnectOptions, Kind, Outcome};
use keystead_proto::etcdserverpb::{
    Member as ListedMember, MemberListResponse, PutResponse, ResponseHeader,
};
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use crate::fake::{Act, Fake};
use crate::member::{Member, eventually, say};

/// The longest that a test waits for a client that finds its way.
const PATIENCE: Duration = Duration::from_secs(60);
const TYPE_SRV: u16 = 33;
const HEAD_BYTES: usize = 12;

/// A DNS server that knows SRV records: for a name, the ports of 127.0.0.1 that it stands for.
struct Dns {
    address: SocketAddr,
    records: Arc<Mutex<HashMap<String, Vec<u16>>>>,
    serving: AbortHandle,
}

impl Dns {
    async fn start() -> Dns {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let address = socket.local_addr().expect("it is bound");
        let records = Arc::new(Mutex::new(HashMap::<String, Vec<u16>>::new()));
        let known = records.clone();
        let serving = tokio::spawn(async move {
            let mut packet = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                let answer = {
                    let known = known.lock().expect("no test panics there");
                    answer(&packet[..length], &known)
                };
                socket.send_to(&answer, from).await.expect("a way back");
            }
        });
        Dns {
            address,
            records,
            serving: serving.abort_handle(),
        }
    }

    /// From now on `name` stands for these.
    fn set(&self, name: &str, members: &[&Fake]) {
        let ports = members.iter().map(|fake| fake.address().port()).collect();
        let mut records = self.records.lock().expect("no test panics there");
        records.insert(name.to_owned(), ports);
    }

    fn options(&self, endpoint: &str) -> ConnectOptions {
        ConnectOptions {
            nameservers: vec![self.address],
            ..ConnectOptions::new([endpoint])
        }
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The answer to a packet with one question (RFC 1035, section 4; SRV is RFC 2782).
fn answer(query: &[u8], records: &HashMap<String, Vec<u16>>) -> Vec<u8> {
    let mut name = Vec::new();
    let mut at = HEAD_BYTES;
    while query[at] > 0 {
        let label = &query[at + 1..][..usize::from(query[at])];
        name.push(String::from_utf8_lossy(label).to_lowercase());
        at += 1 + label.len();
    }
    let question = &query[HEAD_BYTES..at + 5];
    let of_srv = question[question.len() - 4..][..2] == TYPE_SRV.to_be_bytes();
    let ports = records.get(&name.join(".")).filter(|_| of_srv);
    let mut packet = query[..2].to_vec();
    // An answer with authority; without records there is no such name.
    packet.put_u16(if ports.is_some() { 0x8580 } else { 0x8583 });
    packet.put_u16(1);
    packet.put_u16(ports.map_or(0, |ports| ports.len() as u16));
    packet.put_u32(0);
    packet.extend_from_slice(question);
    for &port in ports.into_iter().flatten() {
        let target = b"\x03127\x010\x010\x011\0";
        // The name is that of the question.
        packet.put_u16(0xC000 | HEAD_BYTES as u16);
        for field in [TYPE_SRV, 1, 0, 0, 6 + target.len() as u16, 0, 0, port] {
            packet.put_u16(field);
        }
        packet.extend_from_slice(target);
    }
    packet
}

/// Writes until it succeeds: what breaks on the way may be told as unknown.
async fn put(client: &Client, key: &'static str) {
    eventually("a put", async || client.put(key, "v").await.ok()).await;
}

#[tokio::test]
async fn members_are_found_by_dns_and_found_again_where_they_moved() {
    let dns = Dns::start().await;
    let (first, second) = (Fake::start([]).await, Fake::start([]).await);
    dns.set("_etcd-client._tcp.cluster.test", &[&first]);
    let client = Client::connect(dns.options("srv://cluster.test")).await;
    let client = client.expect("it is found");
    put(&client, "a").await;
    assert_eq!(first.ran(), ["a"]);
    // The records move, and the old place is gone.
    dns.set("_etcd-client._tcp.cluster.test", &[&second]);
    first.stop();
    put(&client, "b").await;
    assert!(second.ran().contains(&Bytes::from("b")));
}

#[tokio::test]
async fn a_name_tells_clusters_of_one_domain_apart() {
    let dns = Dns::start().await;
    let (blue, green) = (Fake::start([]).await, Fake::start([]).await);
    dns.set("_etcd-client-blue._tcp.test", &[&blue]);
    dns.set("_etcd-client-green._tcp.test", &[&green]);
    let client = Client::lazy(dns.options("srv://test/green")).expect("it is one");
    put(&client, "k").await;
    assert_eq!((blue.requests(), green.requests()), (0, 1));
}

#[tokio::test]
async fn dns_that_fails_takes_no_member_away() {
    let dns = Dns::start().await;
    let member = Fake::start([Act::Answer, Act::DropAfter]).await;
    dns.set("_etcd-client._tcp.test", &[&member]);
    let options = ConnectOptions {
        dial_timeout: Duration::from_millis(500),
        ..dns.options("srv://test")
    };
    let client = Client::lazy(options).expect("it is one");
    put(&client, "a").await;
    drop(dns);
    let error = client.put("b", "v").await.expect_err("it breaks");
    assert_eq!(error.outcome, Outcome::Unknown);
    put(&client, "c").await;
    assert_eq!((member.connections(), member.ran().len()), (2, 3));
}

#[tokio::test]
async fn a_domain_without_records_is_told_by_its_name() {
    let dns = Dns::start().await;
    let connected = Client::connect(dns.options("srv://nowhere.test")).await;
    let error = connected.err().expect("there is nobody");
    assert_eq!(
        (error.kind, error.outcome),
        (Kind::Unavailable, Outcome::NotApplied)
    );
    assert!(error.message.contains("srv://nowhere.test"), "{error}");
}

/// What the members say of themselves; shared by all of them.
type Urls = Arc<Mutex<Vec<String>>>;

async fn member(urls: &Urls) -> Member {
    let urls = urls.clone();
    Member::start(move |call| match call.method.as_str() {
        "MemberList" => {
            let urls = urls.lock().expect("no test panics there").clone();
            say(&MemberListResponse {
                header: Some(ResponseHeader::default()),
                members: vec![ListedMember {
                    name: "m".to_owned(),
                    client_urls: urls,
                    ..Default::default()
                }],
            })
        }
        "Put" => say(&PutResponse::default()),
        method => unreachable!("nobody calls {method}"),
    })
    .await
}

fn say_from_now_on(urls: &Urls, said: &[String]) {
    *urls.lock().expect("no test panics there") = said.to_vec();
}

#[tokio::test]
async fn endpoints_are_those_that_the_members_tell_and_never_none() {
    let urls = Urls::default();
    let (first, second) = (member(&urls).await, member(&urls).await);
    let client = Client::lazy(ConnectOptions::new([first.url()])).expect("the URL is one");
    say_from_now_on(&urls, &[first.url(), second.url()]);
    let names = client.sync_endpoints().await.expect("an answer");
    assert_eq!(names, [first.url(), second.url()]);

    // The first one has gone: what is in use is left.
    say_from_now_on(&urls, &[second.url()]);
    let names = client.sync_endpoints().await.expect("an answer");
    assert_eq!(names, [second.url()]);
    client.put("k", "v").await.expect("the second one serves");
    assert_eq!(
        (first.calls("Put").len(), second.calls("Put").len()),
        (0, 1)
    );

    // Nothing at all is no answer.
    say_from_now_on(&urls, &[]);
    let names = client.sync_endpoints().await.expect("an answer");
    assert_eq!(names, [second.url()]);

    // A place that cannot be reached from here: the way back is the endpoint of the beginning.
    say_from_now_on(&urls, &["http://127.0.0.1:1".to_owned()]);
    client.sync_endpoints().await.expect("an answer");
    let patient = client.with_deadline(PATIENCE);
    patient.put("k", "v").await.expect("the first one serves");
    assert_eq!(first.calls("Put").len(), 1);
}

#[tokio::test]
async fn members_are_asked_by_themselves_until_the_client_goes() {
    let tasks = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let urls = Urls::default();
    let (first, second) = (member(&urls).await, member(&urls).await);
    say_from_now_on(&urls, &[second.url()]);
    let before = tasks();
    let client = Client::lazy(ConnectOptions {
        sync_interval: Some(Duration::from_millis(20)),
        ..ConnectOptions::new([first.url()])
    });
    let client = client.expect("the URL is one");
    eventually("a put to the second one", async || {
        client.put("k", "v").await.expect("either serves");
        (!second.calls("Put").is_empty()).then_some(())
    })
    .await;
    first.asked("MemberList", 1).await;
    second.asked("MemberList", 2).await;
    drop(client);
    eventually("every task to end", async || {
        (tasks() <= before).then_some(())
    })
    .await;
}
