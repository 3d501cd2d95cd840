//! Members that are found by DNS: SRV records under etcd's names. Looked up again whenever a connection is to be made, so whoever moves
//! a cluster changes the records and nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::system_conf::read_system_conf;
use tokio::time::timeout;

use super::Failure;
use super::address::Address;
use super::rpc::Effect;
use crate::error::{Error, Result};
use crate::options::ConnectOptions;

/// An endpoint `srv://domain` or `srv://domain/name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Srv {
    /// As the user wrote it.
    name: String,
    domain: String,
    /// What tells several clusters of one domain apart, after a dash in the service's name.
    suffix: String,
}

/// The endpoints that those of `options` stand for by now: what DNS has in the place of each `srv://`, those with TLS first, and the others as they are.
/// A client looks them up by itself; this is for who asks members one by one.
///
/// # Errors
/// An endpoint cannot be read, or DNS has no records for one, or does not answer within the dial timeout.
pub async fn look_up_endpoints(options: &ConnectOptions) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in &options.endpoints {
        let Some(service) = Srv::parse(name)? else {
            found.push(name.clone());
            continue;
        };
        let asked = service.look_up(&options.nameservers, options.dial_timeout);
        let addresses = asked
            .await
            .map_err(|why| Error::new(Failure::Unreachable(why), Effect::Read, ""))?;
        found.extend(addresses.iter().map(ToString::to_string));
    }
    Ok(found)
}

/// etcd's names for what clients connect to, and how.
const SERVICES: [(&str, &str); 2] = [("etcd-client-ssl", "https"), ("etcd-client", "http")];
/// More are not taken: no cluster has as many members.
const MOST_TARGETS: usize = 64;

impl Srv {
    /// `None` for an endpoint of another kind.
    ///
    /// # Errors
    /// It is not what one of this kind looks like.
    pub(super) fn parse(name: &str) -> Result<Option<Srv>> {
        let Some(rest) = name.strip_prefix("srv://") else {
            return Ok(None);
        };
        let (domain, suffix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |part: &str| {
            let mut bytes = part.bytes();
            bytes.all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        };
        if domain.is_empty() || !plain(domain) || !plain(suffix) {
            let message = format!("endpoint {name:?}: it is srv://domain or srv://domain/name");
            return Err(Error::invalid(message));
        }
        Ok(Some(Srv {
            name: name.to_owned(),
            domain: domain.to_owned(),
            suffix: suffix.to_owned(),
        }))
    }

    /// The records to look up, and the scheme of what they name.
    fn queries(&self) -> [(String, &'static str); 2] {
        SERVICES.map(|(service, scheme)| {
            let dash = if self.suffix.is_empty() { "" } else { "-" };
            let (suffix, domain) = (&self.suffix, &self.domain);
            (format!("_{service}{dash}{suffix}._tcp.{domain}"), scheme)
        })
    }

    /// Where the members are by now: those with TLS first, as etcd has it.
    ///
    /// # Errors
    /// What went wrong with both names, for the user to read.
    pub(super) async fn look_up(
        &self,
        nameservers: &[SocketAddr],
        limit: Duration,
    ) -> Result<Vec<Address>, String> {
        let found = timeout(limit, self.resolve(nameservers)).await;
        let found = found.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")));
        found.map_err(|why| format!("{why} ({})", self.name))
    }

    async fn resolve(&self, nameservers: &[SocketAddr]) -> Result<Vec<Address>, String> {
        let (resolver, server) = resolver(nameservers).map_err(|error| error.to_string())?;
        let (mut found, mut wrong) = (Vec::new(), Vec::new());
        for (query, scheme) in self.queries() {
            match resolver.srv_lookup(query.as_str()).await {
                Ok(answer) => {
                    let targets = answer
                        .answers()
                        .iter()
                        .filter_map(|record| match &record.data {
                            RData::SRV(srv) => Some((srv.target.to_utf8(), srv.port)),
                            _ => None,
                        });
                    found.extend(addresses(targets, scheme));
                }
                Err(error) => wrong.push(format!("lookup {query}{server}: {}", why(&error))),
            }
        }
        found.truncate(MOST_TARGETS);
        if !found.is_empty() {
            return Ok(found);
        }
        if wrong.is_empty() {
            wrong.push("no record names a host".to_owned());
        }
        Err(format!("dns lookup errors: {}", wrong.join(" and ")))
    }
}

/// Asks these servers, or where there are none this system's, whose configuration is read each time: it changes under processes that live
/// long. And who is asked first, for the reader of an error.
fn resolver(nameservers: &[SocketAddr]) -> Result<(TokioResolver, String), NetError> {
    let (config, options) = if nameservers.is_empty() {
        read_system_conf()?
    } else {
        let servers = nameservers.iter().map(|address| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            for connection in &mut server.connections {
                connection.port = address.port();
            }
            server
        });
        let config = ResolverConfig::from_name_servers(servers.collect());
        (config, ResolverOpts::default())
    };
    let first = config.name_servers().first();
    let address = first.and_then(|it| Some(SocketAddr::new(it.ip, it.connections.first()?.port)));
    let server = address.map_or_else(String::new, |address| format!(" on {address}"));
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    Ok((builder.with_options(options).build()?, server))
}

/// In the words of Go's resolver, which etcd's users know.
fn why(error: &NetError) -> String {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none))
            if [ResponseCode::NXDomain, ResponseCode::NoError].contains(&none.response_code) =>
        {
            "no such host".to_owned()
        }
        NetError::Dns(DnsError::NoRecordsFound(_) | DnsError::ResponseCode(_)) => {
            "server misbehaving".to_owned()
        }
        NetError::Timeout => "i/o timeout".to_owned(),
        other => other.to_string(),
    }
}

fn addresses<'a>(
    targets: impl Iterator<Item = (String, u16)> + 'a,
    scheme: &'static str,
) -> impl Iterator<Item = Address> + 'a {
    targets.filter_map(move |(host, port)| {
        let host = host.trim_end_matches('.');
        Address::parse(&format!("{scheme}://{host}:{port}")).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcds_names_are_asked_for() -> Result<()> {
        for (name, first, second) in [
            (
                "srv://example.com",
                "_etcd-client-ssl._tcp.example.com",
                "_etcd-client._tcp.example.com",
            ),
            (
                "srv://example.com./blue",
                "_etcd-client-ssl-blue._tcp.example.com.",
                "_etcd-client-blue._tcp.example.com.",
            ),
        ] {
            let srv = Srv::parse(name)?.expect("it is one");
            let asked = srv.queries();
            assert_eq!(
                asked,
                [(first.to_owned(), "https"), (second.to_owned(), "http")]
            );
        }
        assert_eq!(Srv::parse("http://example.com")?, None);
        for name in [
            "srv://",
            "srv:///x",
            "srv://a b",
            "srv://a:1",
            "srv://a/b/c",
        ] {
            let error = Srv::parse(name).expect_err("it is none");
            assert!(error.message.contains(&format!("{name:?}")), "{error}");
        }
        Ok(())
    }
}
