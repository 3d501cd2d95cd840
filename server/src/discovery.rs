//! Founders that DNS names: etcd's `--discovery-srv`. Asked by the node when a new directory is to become a member's.
//!
//! Each SRV record under etcd's two names is a peer URL of a member of its own, save those that lead to where this member
//! says that it is reached: these are its own. Afterwards the directory says who the member is, and DNS is not asked again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::config::{Config, Discovery};

/// etcd's names for what members connect to, and how.
const SERVICES: [(&str, &str); 2] = [("etcd-server-ssl", "https"), ("etcd-server", "http")];
/// How long DNS may take for all that it is asked.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why DNS names no cluster of this member, in etcd's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// There are no records, or none can be used.
    #[error("error setting up initial cluster: {0}")]
    NotFound(String),
    /// No record leads to this member.
    #[error("error setting up initial cluster: cannot find local etcd member {0:?} in SRV records")]
    NotNamed(String),
}

/// A place that a record names: the address, where its name has one, and the URL.
#[derive(Clone, Debug)]
struct Target {
    address: Option<SocketAddr>,
    scheme: &'static str,
    authority: String,
}

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
    let (own, targets) = asked
        .unwrap_or_else(|_| Err(format!("DNS gives no answer within {PATIENCE:?}")))
        .map_err(DiscoveryError::NotFound)?;
    let named = named(&config.name, &own, targets).map_err(DiscoveryError::NotFound)?;
    for (name, urls) in &named {
        tracing::info!(name, ?urls, "got bootstrap from DNS for etcd-server");
    }
    if named.contains_key(&config.name) {
        Ok(named)
    } else {
        Err(DiscoveryError::NotNamed(config.name.clone()))
    }
}

/// Where this member says that it is reached, and what the records name.
async fn ask(
    config: &Config,
    discovery: &Discovery,
) -> Result<(Vec<(SocketAddr, String)>, Vec<Target>), String> {
    let resolver = resolver(&discovery.nameservers).map_err(|error| error.to_string())?;
    let mut own = Vec::new();
    for url in &config.advertise_peer_urls {
        let authority = url.split_once("://").map_or(url.as_str(), |(_, it)| it);
        let address = resolve(&resolver, authority).await;
        own.push((address.map_err(|why| format!("{url}: {why}"))?, url.clone()));
    }
    let (mut targets, mut wrong) = (Vec::new(), Vec::new());
    for (service, scheme) in SERVICES {
        let service = discovery.service(service);
        match look_up(&resolver, &service, &discovery.domain).await {
            Ok(found) => {
                for authority in found {
                    let address = resolve(&resolver, &authority).await;
                    targets.push(Target {
                        address: address.ok(),
                        scheme,
                        authority,
                    });
                }
            }
            Err(why) => wrong.push(format!(
                "error querying DNS SRV records for _{service} {why}"
            )),
        }
    }
    match targets.is_empty() {
        true => Err(wrong.join("; ")),
        false => Ok((own, targets)),
    }
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

/// `host:port` of every record of a service, the first to be used first.
async fn look_up(
    resolver: &TokioResolver,
    service: &str,
    domain: &str,
) -> Result<Vec<String>, NetError> {
    // With the dot no search list of this machine is tried.
    let query = format!("_{service}._tcp.{}.", domain.trim_end_matches('.'));
    let answer = resolver.srv_lookup(query).await?;
    let records = answer.answers().iter();
    let mut found: Vec<_> = records
        .filter_map(|record| match &record.data {
            RData::SRV(srv) => Some((srv.priority, srv.target.to_utf8(), srv.port)),
            _ => None,
        })
        .collect();
    found.sort();
    let authority =
        |(_, host, port): (u16, String, u16)| format!("{}:{port}", host.trim_end_matches('.'));
    Ok(found.into_iter().map(authority).collect())
}

async fn resolve(resolver: &TokioResolver, authority: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = authority.parse() {
        return Ok(address);
    }
    let no_port = || "it has no port".to_owned();
    let (host, port) = authority.rsplit_once(':').ok_or_else(no_port)?;
    let port = port.parse().map_err(|_| no_port())?;
    let found = resolver.lookup_ip(host).await;
    let found = found.map_err(|error| error.to_string())?;
    // As Go does, an address of IPv4 where there is one.
    let addresses = || found.iter();
    let first = addresses().find(|it| it.is_ipv4()).or(addresses().next());
    let ip = first.ok_or_else(|| format!("{host} has no address"))?;
    Ok(SocketAddr::new(ip, port))
}

fn resolver(nameservers: &[SocketAddr]) -> Result<TokioResolver, NetError> {
    if nameservers.is_empty() {
        return TokioResolver::builder_tokio()?.build();
    }
    let servers = nameservers.iter().map(|address| {
        let mut server = NameServerConfig::udp_and_tcp(address.ip());
        for connection in &mut server.connections {
            connection.port = address.port();
        }
        server
    });
    let config = ResolverConfig::from_name_servers(servers.collect());
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build()
}

/// Whose records these are. What has no address yet is left out, as in etcd: all founders must find the same ones, or they
/// found different clusters and refuse each other.
fn named(
    name: &str,
    own: &[(SocketAddr, String)],
    targets: Vec<Target>,
) -> Result<BTreeMap<String, Vec<String>>, String> {
    let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut others, mut wrong) = (0, String::new());
    for target in targets {
        let Target {
            address,
            scheme,
            authority,
        } = target;
        let Some(address) = address else {
            wrong = format!("{authority} has no address");
            continue;
        };
        let url = format!("{scheme}://{authority}");
        match own.iter().find(|(it, _)| *it == address) {
            Some((_, advertised)) if !advertised.starts_with(&format!("{scheme}://")) => {
                wrong = format!(
                    "bootstrap at {url} from DNS has scheme mismatch with expected peer {advertised}"
                );
            }
            Some(_) => named.entry(name.to_owned()).or_default().push(url),
            None => {
                named.entry(others.to_string()).or_default().push(url);
                others += 1;
            }
        }
    }
    named.values_mut().for_each(|urls| urls.sort_unstable());
    if named.is_empty() {
        return Err(wrong);
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(scheme: &'static str, host: &str, port: u16) -> Target {
        Target {
            address: (host != "nowhere").then(|| SocketAddr::from(([127, 0, 0, 1], port))),
            scheme,
            authority: format!("{host}:{port}"),
        }
    }

    #[test]
    fn records_that_lead_to_this_member_are_its_own_whatever_they_are_called() {
        let own = [(
            SocketAddr::from(([127, 0, 0, 1], 2)),
            "http://127.0.0.1:2".to_owned(),
        )];
        let found = |targets: Vec<Target>| {
            let named = named("me", &own, targets)?;
            let named = named
                .iter()
                .map(|(name, urls)| format!("{name}={}", urls.join("+")));
            Ok::<_, String>(named.collect::<Vec<_>>().join(" "))
        };
        let both = vec![target("http", "one.test", 1), target("http", "two.test", 2)];
        assert_eq!(
            found(both),
            Ok("0=http://one.test:1 me=http://two.test:2".to_owned())
        );
        let partly = vec![
            target("https", "two.test", 2),
            target("http", "two.test", 2),
            target("http", "nowhere", 3),
        ];
        assert_eq!(found(partly), Ok("me=http://two.test:2".to_owned()));
        let wrong = found(vec![target("https", "two.test", 2)]).expect_err("it is the only one");
        assert!(wrong.contains("scheme mismatch with expected peer http://127.0.0.1:2"));
        let nowhere = found(vec![target("http", "nowhere", 3)]).expect_err("it is the only one");
        assert_eq!(nowhere, "nowhere:3 has no address");
    }

    #[test]
    fn a_name_stands_behind_a_dash() {
        let discovery = |service_name: &str| Discovery {
            domain: "cluster.test".to_owned(),
            service_name: service_name.to_owned(),
            nameservers: Vec::new(),
        };
        assert_eq!(discovery("").service("etcd-server"), "etcd-server");
        assert_eq!(discovery("blue").service("etcd-server"), "etcd-server-blue");
    }
}
