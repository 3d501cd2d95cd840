//! Founders that DNS names: etcd's `--discovery-srv`. Asked when a new directory is to become a member's.
//!
//! Each SRV record under etcd's two names is a peer URL of a member of its own, save those that lead to where this member
//! says that it is reached: these are its own. Afterwards the directory says who the member is, and DNS is not asked again.

mod dns;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::config::{Config, Discovery};
use dns::Dns;

/// etcd's names for what members connect to, and how.
const SERVICES: [(&str, &str); 2] = [("etcd-server-ssl", "https"), ("etcd-server", "http")];
/// How long DNS may take for all that it is asked.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why DNS names no cluster of this member, in etcd's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// There are no records, or none can be used: why, a line for each name that was looked up.
    #[error("error setting up initial cluster: {0}")]
    NotFound(String),
    /// No record leads to this member.
    #[error("error setting up initial cluster: cannot find local etcd member {0:?} in SRV records")]
    NotNamed(String),
}

/// A peer URL of a founder, whose name is this member's own or a number.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Founder {
    name: String,
    url: String,
}

/// A place that a record names: the authority of its URL, and the address, where its name has one.
#[derive(Clone, Debug)]
struct Target {
    authority: String,
    address: Result<SocketAddr, String>,
}

/// Where this member says that it is reached: the address, and the URL.
type Own = [(SocketAddr, String)];

/// The peer URLs of all founders, sorted, by name: this one's by its own, the others' by numbers, for DNS tells no names.
/// Blocks until DNS has answered.
///
/// # Errors
/// See [`DiscoveryError`].
pub(crate) fn find(
    config: &Config,
    discovery: &Discovery,
) -> Result<BTreeMap<String, Vec<String>>, DiscoveryError> {
    let not_found = |error: &dyn std::fmt::Display| DiscoveryError::NotFound(error.to_string());
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| not_found(&error))?;
    let asked = runtime.block_on(async { timeout(PATIENCE, ask(config, discovery)).await });
    // A name that is still being looked up is not waited for.
    runtime.shutdown_background();
    let founders = asked
        .unwrap_or_else(|_| Err(format!("DNS gives no answer within {PATIENCE:?}")))
        .map_err(DiscoveryError::NotFound)?;
    let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Founder { name, url } in founders {
        tracing::info!(
            node = format!("{name}={url}"),
            "got bootstrap from DNS for etcd-server"
        );
        named.entry(name).or_default().push(url);
    }
    named.values_mut().for_each(|urls| urls.sort_unstable());
    if named.contains_key(&config.name) {
        Ok(named)
    } else {
        Err(DiscoveryError::NotNamed(config.name.clone()))
    }
}

/// What the records of both services name, in the order in which they are to be used. What only one of them lacks is not missed.
async fn ask(config: &Config, discovery: &Discovery) -> Result<Vec<Founder>, String> {
    let dns = Dns::new(&discovery.nameservers)?;
    let (mut founders, mut wrong) = (Vec::new(), Vec::new());
    for (service, scheme) in SERVICES {
        let service = discovery.service(service);
        match founders_of(&dns, config, &service, scheme, &discovery.domain).await {
            Ok(found) => founders.extend(found),
            Err(why) => wrong.push(why),
        }
    }
    let wrong = wrong.join("\n");
    if founders.is_empty() {
        return Err(wrong);
    }
    if !wrong.is_empty() {
        tracing::warn!(error = wrong, "failed to resolve during SRV discovery");
    }
    Ok(founders)
}

async fn founders_of(
    dns: &Dns,
    config: &Config,
    service: &str,
    scheme: &str,
    domain: &str,
) -> Result<Vec<Founder>, String> {
    let mut own = Vec::new();
    for url in &config.advertise_peer_urls {
        let authority = url.split_once("://").map_or(url.as_str(), |(_, it)| it);
        own.push((dns.address(authority).await?, url.clone()));
    }
    let found = async {
        let mut targets = Vec::new();
        for (host, port) in dns.srv(&format!("_{service}._tcp.{domain}")).await? {
            targets.push(Target {
                authority: format!("{}:{port}", host.trim_end_matches('.')),
                address: dns.address(&format!("{host}:{port}")).await,
            });
        }
        founders(&config.name, &own, service, scheme, targets)
    };
    let found = found.await;
    found.map_err(|why| format!("error querying DNS SRV records for _{service} {why}"))
}

/// Whose records these are. What has no address yet is left out, as in etcd: all founders must find the same ones, or they
/// found different clusters and refuse each other. The others are counted by service: the first of each are one member, which is
/// reached by both schemes.
fn founders(
    name: &str,
    own: &Own,
    service: &str,
    scheme: &str,
    targets: Vec<Target>,
) -> Result<Vec<Founder>, String> {
    let (mut found, mut others, mut wrong) = (Vec::new(), 0, String::new());
    for Target { authority, address } in targets {
        let url = format!("{scheme}://{authority}");
        let address = match address {
            Ok(address) => address,
            Err(why) => {
                wrong = why;
                continue;
            }
        };
        let name = match own.iter().find(|(it, _)| *it == address) {
            Some((_, advertised)) if !advertised.starts_with(&format!("{scheme}://")) => {
                wrong = format!(
                    "bootstrap at {url} from DNS for {service} has scheme mismatch with expected peer {advertised}"
                );
                continue;
            }
            Some(_) => name.to_owned(),
            None => {
                others += 1;
                (others - 1).to_string()
            }
        };
        found.push(Founder { name, url });
    }
    if found.is_empty() {
        return Err(wrong);
    }
    Ok(found)
}

impl Discovery {
    /// The service under which these members are registered.
    fn service(&self, service: &str) -> String {
        match self.service_name.as_str() {
            "" => service.to_owned(),
            name => format!("{service}-{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "etcd-server";

    fn target(host: &str, port: u16) -> Target {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Target {
            authority: format!("{host}:{port}"),
            address: match host {
                "nowhere" => Err(format!("{host} is nowhere")),
                _ => Ok(address),
            },
        }
    }

    #[test]
    fn records_that_lead_to_this_member_are_its_own_whatever_they_are_called() {
        let own = [(
            SocketAddr::from(([127, 0, 0, 1], 2)),
            "http://127.0.0.1:2".to_owned(),
        )];
        let found = |scheme: &str, targets: Vec<Target>| {
            let founders = founders("me", &own, SERVICE, scheme, targets)?;
            let founders = founders.iter().map(|it| format!("{}={}", it.name, it.url));
            Ok::<_, String>(founders.collect::<Vec<_>>().join(" "))
        };
        let all = vec![target("one", 1), target("two", 2), target("three", 3)];
        assert_eq!(
            found("http", all.clone()),
            Ok("0=http://one:1 me=http://two:2 1=http://three:3".to_owned())
        );
        // Its own is not reached so, and all others are.
        assert_eq!(
            found("https", all),
            Ok("0=https://one:1 1=https://three:3".to_owned())
        );
        let partly = vec![target("two", 2), target("nowhere", 3)];
        assert_eq!(found("http", partly), Ok("me=http://two:2".to_owned()));
        let wrong = found("https", vec![target("two", 2)]);
        assert_eq!(
            wrong,
            Err(
                "bootstrap at https://two:2 from DNS for etcd-server has scheme mismatch with expected peer http://127.0.0.1:2"
                    .to_owned()
            )
        );
        let nowhere = found("http", vec![target("nowhere", 3)]);
        assert_eq!(nowhere, Err("nowhere is nowhere".to_owned()));
    }

    #[test]
    fn a_name_stands_behind_a_dash() {
        let discovery = |service_name: &str| Discovery {
            domain: "cluster.test".to_owned(),
            service_name: service_name.to_owned(),
            nameservers: Vec::new(),
        };
        assert_eq!(discovery("").service(SERVICE), "etcd-server");
        assert_eq!(discovery("blue").service(SERVICE), "etcd-server-blue");
    }
}
