//! The URLs that flags take, read and refused as etcd does. What a URL is to be used for is checked where it is used.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use keystead_server::config::ListenAddress;

/// One URL: `http://host:port`, or `unix://` before the name of a socket file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    text: String,
    scheme: Scheme,
    /// All between `//` and the path.
    authority: String,
    path: String,
}

/// How a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// Plain TCP.
    Http,
    /// TLS over TCP.
    Https,
    /// A socket file.
    Unix,
    /// TLS over a socket file.
    Unixs,
}

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// Reads a comma-separated list; sorted and without repetitions, as etcd keeps it.
///
/// # Errors
/// etcd's reason why one of them is none.
pub fn list(text: &str) -> Result<Vec<Url>, String> {
    let mut urls = text
        .split(',')
        .map(|url| read(url.trim()))
        .collect::<Result<Vec<_>, _>>()?;
    urls.sort();
    urls.dedup();
    Ok(urls)
}

fn read(text: &str) -> Result<Url, String> {
    let unknown = || format!("URL scheme must be http, https, unix, or unixs: {text}");
    let (scheme, rest) = text.split_once(':').ok_or_else(unknown)?;
    let scheme = match scheme.to_ascii_lowercase().as_str() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        "unix" => Scheme::Unix,
        "unixs" => Scheme::Unixs,
        _ => return Err(unknown()),
    };
    let rest = rest.strip_prefix("//").unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if matches!(scheme, Scheme::Http | Scheme::Https) {
        let Some((_, port)) = port_of(authority) else {
            return Err(format!(
                "URL address does not have the form \"host:port\": {text}"
            ));
        };
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!(
                "parse {text:?}: invalid port \":{port}\" after host"
            ));
        }
        if !path.is_empty() {
            return Err(format!("URL must not contain a path: {text}"));
        }
    }
    Ok(Url {
        text: text.to_owned(),
        scheme,
        authority: authority.to_owned(),
        path: path.to_owned(),
    })
}

/// What is behind the last colon that is not in an IPv6 address.
fn port_of(authority: &str) -> Option<(&str, &str)> {
    let (host, port) = authority.rsplit_once(':')?;
    let bare = !host.contains([':', '[', ']']);
    let bracketed = host.starts_with('[') && host.ends_with(']');
    (bare || bracketed).then_some((host, port))
}

impl Url {
    /// Whether a connection begins with a TLS handshake.
    pub fn has_tls(&self) -> bool {
        matches!(self.scheme, Scheme::Https | Scheme::Unixs)
    }

    /// The address to listen on: an IP address or `localhost` with a port, or a socket file named by all that follows `//`.
    ///
    /// # Errors
    /// etcd's sentence.
    pub fn listen_address(&self) -> Result<ListenAddress, String> {
        if matches!(self.scheme, Scheme::Unix | Scheme::Unixs) {
            let file = format!("{}{}", self.authority, self.path);
            return if file.is_empty() {
                Err(format!("expected the name of a socket file ({self})"))
            } else {
                Ok(ListenAddress::Unix(PathBuf::from(file)))
            };
        }
        let unusable = || format!("expected IP in URL for binding ({self})");
        let (host, port) = port_of(&self.authority).ok_or_else(unusable)?;
        let ip = match host {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host
                .trim_matches(['[', ']'])
                .parse()
                .map_err(|_| unusable())?,
        };
        let port = port
            .parse()
            .map_err(|_| format!("listen tcp: address {port}: invalid port ({self})"))?;
        Ok(ListenAddress::Tcp(SocketAddr::new(ip, port)))
    }

    /// Refuses a URL that others could not be told.
    ///
    /// # Errors
    /// etcd's reason, to stand in parentheses behind `must be "host:port"`.
    pub fn check_advertised(&self) -> Result<(), String> {
        match port_of(&self.authority) {
            None if self.authority.is_empty() => Err("missing port in address".to_owned()),
            None => Err(format!(
                "address {}: missing port in address",
                self.authority
            )),
            Some(("", _)) => Err(format!("unexpected empty host ({self})")),
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Result<ListenAddress, String> {
        list(text)?.remove(0).listen_address()
    }

    #[test]
    fn ports_and_socket_files_are_named_as_etcd_names_them() {
        for (url, name) in [
            ("http://127.0.0.1:2379", "127.0.0.1:2379"),
            ("http://localhost:2379", "127.0.0.1:2379"),
            ("http://[::1]:2379", "[::1]:2379"),
            ("unix://localhost:2379", "localhost:2379"),
            ("unix://127.0.0.1:2379/x", "127.0.0.1:2379/x"),
            ("unix:///run/etcd.sock", "/run/etcd.sock"),
        ] {
            assert_eq!(address(url).expect("taken").to_string(), name, "{url}");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_in_etcds_words() {
        for (url, reason) in [
            (
                "localhost:2379",
                "URL scheme must be http, https, unix, or unixs: localhost:2379",
            ),
            (
                "ftp://localhost:21",
                "URL scheme must be http, https, unix, or unixs: ftp://localhost:21",
            ),
            (
                "http://127.0.0.1",
                "URL address does not have the form \"host:port\": http://127.0.0.1",
            ),
            (
                "http://::1:2379",
                "URL address does not have the form \"host:port\": http://::1:2379",
            ),
            (
                "http://127.0.0.1:x",
                "parse \"http://127.0.0.1:x\": invalid port \":x\" after host",
            ),
            (
                "http://localhost:2379/v2",
                "URL must not contain a path: http://localhost:2379/v2",
            ),
            (
                "http://example.com:80",
                "expected IP in URL for binding (http://example.com:80)",
            ),
            ("http://:80", "expected IP in URL for binding (http://:80)"),
        ] {
            assert_eq!(address(url), Err(reason.to_owned()), "{url}");
        }
    }

    #[test]
    fn a_list_is_sorted_and_has_nothing_twice() {
        let urls = list("http://b:2, http://a:1,http://b:2").expect("taken");
        let texts: Vec<_> = urls.iter().map(Url::to_string).collect();
        assert_eq!(texts, ["http://a:1", "http://b:2"]);
    }

    #[test]
    fn what_nobody_could_connect_to_is_not_advertised() {
        let reason = |text| list(text).expect("taken").remove(0).check_advertised();
        assert_eq!(reason("unix://localhost:2379"), Ok(()));
        assert_eq!(
            reason("unix:///run/etcd.sock"),
            Err("missing port in address".to_owned())
        );
        assert_eq!(
            reason("http://:2379"),
            Err("unexpected empty host (http://:2379)".to_owned())
        );
    }
}
