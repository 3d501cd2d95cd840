//! A DNS server of this process, at an address of its own and the usual port, which is the only one that resolvers ask.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record};
use keystead_tests::resolving_by;
use tempfile::NamedTempFile;

const PORT: u16 = 53;
/// How long the end of a server takes to be seen.
const LOOK: Duration = Duration::from_millis(20);
/// All that a question without EDNS fits in.
const PACKET_BYTES: usize = 4096;

/// What is known of names, which are written without the last dot.
#[derive(Clone, Default)]
pub struct Zone {
    answers: BTreeMap<String, Vec<RData>>,
    refused: BTreeMap<String, ResponseCode>,
}

impl Zone {
    /// A name with an address.
    pub fn host(mut self, name: &str, address: Ipv4Addr) -> Zone {
        self.add(name, RData::A(A(address)));
        self
    }

    /// Records of a service, the first to be used first.
    pub fn srv<'a>(
        mut self,
        service: &str,
        targets: impl IntoIterator<Item = (&'a str, u16)>,
    ) -> Zone {
        for (priority, (host, port)) in (0..).zip(targets) {
            let record = SRV::new(priority, 0, port, absolute(host));
            self.add(service, RData::SRV(record));
        }
        self
    }

    /// Every question for this name is refused so.
    pub fn refuse(mut self, name: &str, code: ResponseCode) -> Zone {
        self.refused.insert(name.to_owned(), code);
        self
    }

    fn add(&mut self, name: &str, data: RData) {
        self.answers.entry(name.to_owned()).or_default().push(data);
    }

    /// The answer to a packet.
    fn answer(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let asked = Message::from_vec(packet).ok()?;
        let question = asked.queries.first()?.clone();
        let name = question.name.to_utf8().to_lowercase();
        let name = name.trim_end_matches('.');
        let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
        answer.metadata.recursion_available = true;
        answer.metadata.response_code = match (self.refused.get(name), self.answers.get(name)) {
            (Some(code), _) => *code,
            (None, Some(_)) => ResponseCode::NoError,
            (None, None) => ResponseCode::NXDomain,
        };
        for data in self.answers.get(name).into_iter().flatten() {
            if data.record_type() == question.query_type {
                let record = Record::from_rdata(question.name.clone(), 1, data.clone());
                answer.add_answer(record);
            }
        }
        answer.add_query(question);
        answer.to_vec().ok()
    }
}

fn absolute(name: &str) -> Name {
    Name::from_utf8(format!("{name}.")).expect("it is one")
}

/// A running server. Ends when dropped.
pub struct Dns {
    address: SocketAddr,
    resolv_conf: NamedTempFile,
    done: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl Dns {
    /// `None`, and says why, where this process may not answer at the usual port, or let others ask here alone.
    pub fn start(zone: Zone, search: &str) -> Option<Dns> {
        let address = SocketAddr::from((address_of_its_own(), PORT));
        let socket = match UdpSocket::bind(address) {
            Ok(socket) => socket,
            Err(error) => {
                println!("skipped: nothing can listen on {address}: {error}");
                return None;
            }
        };
        socket.set_read_timeout(Some(LOOK)).expect("it is not zero");
        let resolv_conf = NamedTempFile::new().expect("a temporary file");
        let content = format!("nameserver {}\nsearch {search}\n", address.ip());
        fs::write(&resolv_conf, content).expect("it can be written");
        if !can_be_mounted(resolv_conf.path()) {
            println!("skipped: nothing can be mounted in the place of /etc/resolv.conf");
            return None;
        }
        let done = Arc::new(AtomicBool::new(false));
        let stop = done.clone();
        let serving = thread::spawn(move || {
            let mut packet = [0; PACKET_BYTES];
            while !stop.load(Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut packet) else {
                    continue;
                };
                if let Some(answer) = zone.answer(&packet[..length]) {
                    // Who asked may have gone.
                    socket.send_to(&answer, from).ok();
                }
            }
        });
        Some(Dns {
            address,
            resolv_conf,
            done,
            serving: Some(serving),
        })
    }

    /// Where it is asked, as errors tell it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whoever reads this for `/etc/resolv.conf` asks here.
    pub fn resolv_conf(&self) -> &Path {
        self.resolv_conf.path()
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.done.store(true, Relaxed);
        let serving = self.serving.take().expect("it was started");
        serving.join().expect("it does not panic");
    }
}

/// No other process uses it, as its tests' has another number, and no other test of this one.
fn address_of_its_own() -> Ipv4Addr {
    static GIVEN: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    let last = 1 + GIVEN.fetch_add(1, Relaxed);
    Ipv4Addr::new(127, 100 + high % 100, low, last)
}

fn can_be_mounted(resolv_conf: &Path) -> bool {
    let words = resolving_by(resolv_conf);
    let mut command = Command::new(&words[0]);
    let output = command.args(&words[1..]).arg("true").output();
    output.is_ok_and(|it| it.status.success())
}
