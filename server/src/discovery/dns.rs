//! What is asked of DNS: SRV records and addresses, of the servers and with the search list of this machine, as Go's resolver does.
//! What goes wrong is told in its words, which etcd's users know.

use std::net::SocketAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RData;
use hickory_resolver::system_conf::read_system_conf;

pub(super) struct Dns {
    resolver: TokioResolver,
    /// Who is asked first, for the reader of an error.
    server: String,
}

impl Dns {
    /// Asks these servers, or where there are none those of this machine.
    ///
    /// # Errors
    /// What this machine says of its servers cannot be read.
    pub(super) fn new(nameservers: &[SocketAddr]) -> Result<Self, String> {
        let (config, options) = if nameservers.is_empty() {
            read_system_conf().map_err(|error| format!("/etc/resolv.conf: {error}"))?
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
        let address =
            first.and_then(|it| Some(SocketAddr::new(it.ip, it.connections.first()?.port)));
        let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let resolver = builder.with_options(options).build();
        Ok(Self {
            resolver: resolver.map_err(|error| error.to_string())?,
            server: address.map_or_else(String::new, |address| format!(" on {address}")),
        })
    }

    /// Host and port of every record of a name, the first to be used first.
    ///
    /// # Errors
    /// There are none, or nobody says.
    pub(super) async fn srv(&self, name: &str) -> Result<Vec<(String, u16)>, String> {
        let answer = self.resolver.srv_lookup(name).await;
        let answer = answer.map_err(|error| self.failed(name, &error))?;
        let records = answer.answers().iter();
        let mut found: Vec<_> = records
            .filter_map(|record| match &record.data {
                RData::SRV(srv) => Some((srv.priority, srv.target.to_utf8(), srv.port)),
                _ => None,
            })
            .collect();
        found.sort();
        Ok(found
            .into_iter()
            .map(|(_, host, port)| (host, port))
            .collect())
    }

    /// The address of a host with a port; as in Go one of IPv4 where there is one.
    ///
    /// # Errors
    /// It has none, or nobody says.
    pub(super) async fn address(&self, authority: &str) -> Result<SocketAddr, String> {
        if let Ok(address) = authority.parse() {
            return Ok(address);
        }
        let no_port = || format!("address {authority}: missing port in address");
        let (host, port) = authority.rsplit_once(':').ok_or_else(no_port)?;
        let port = port.parse().map_err(|_| no_port())?;
        // A record may lead to an address, as etcd's may not.
        if let Ok(ip) = host.trim_end_matches('.').parse() {
            return Ok(SocketAddr::new(ip, port));
        }
        let found = self.resolver.lookup_ip(host).await;
        let found = found.map_err(|error| self.failed(host, &error))?;
        let addresses = || found.iter();
        let first = addresses().find(|it| it.is_ipv4()).or(addresses().next());
        let ip = first.ok_or_else(|| format!("lookup {host}{}: {NO_SUCH_HOST}", self.server))?;
        Ok(SocketAddr::new(ip, port))
    }

    fn failed(&self, name: &str, error: &NetError) -> String {
        format!("lookup {name}{}: {}", self.server, why(error))
    }
}

const NO_SUCH_HOST: &str = "no such host";

fn why(error: &NetError) -> String {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none))
            if [ResponseCode::NXDomain, ResponseCode::NoError].contains(&none.response_code) =>
        {
            NO_SUCH_HOST.to_owned()
        }
        NetError::Dns(DnsError::NoRecordsFound(_) | DnsError::ResponseCode(_)) => {
            "server misbehaving".to_owned()
        }
        NetError::Timeout => "i/o timeout".to_owned(),
        other => other.to_string(),
    }
}
