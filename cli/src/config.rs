//! Turns what was given into a validated [`Config`]: every default, every cross-check and etcd's sentences for what can't be.
//! Pure but for resolving `localhost`; called by `serve` only.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use keystead_server::Config;
use keystead_server::config::{
    AutoCompaction, DEFAULT_QUOTA_BYTES, Keepalive, REPORTED_VERSION, Storage,
};

use crate::args::Given;
use crate::duration;

const DEFAULT_CLIENT_URL: &str = "http://localhost:2379";
const DEFAULT_PEER_URL: &str = "http://localhost:2380";

/// etcd's ceiling for `--election-timeout`.
const MAX_ELECTION_MS: u64 = 50_000;

/// Builds the configuration of a member whose data goes to `<name>.<suffix>` by default.
///
/// # Errors
/// A sentence that names the flag and what to do; nothing has been started.
pub fn build(given: &Given, suffix: &str) -> Result<Config, String> {
    let name = given.get("name").unwrap_or("default").to_owned();
    let heartbeat_ms: u64 = number(given, "heartbeat-interval", 100)?;
    let election_ms: u64 = number(given, "election-timeout", 1000)?;
    check_times(heartbeat_ms, election_ms)?;
    if given.get("listen-client-urls").is_some() && given.get("advertise-client-urls").is_none() {
        return Err(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly"
                .to_owned(),
        );
    }
    let advertise_peer_urls = urls(given, "initial-advertise-peer-urls", DEFAULT_PEER_URL)?;
    check_cluster(given, &name, &advertise_peer_urls)?;
    Ok(Config {
        data_dir: given
            .get("data-dir")
            .map_or_else(|| PathBuf::from(format!("{name}.{suffix}")), PathBuf::from),
        wal_dir: given.get("wal-dir").map(PathBuf::from),
        listen_client: addresses(given, "listen-client-urls", DEFAULT_CLIENT_URL)?,
        listen_peer: addresses(given, "listen-peer-urls", DEFAULT_PEER_URL)?,
        advertise_client_urls: urls(given, "advertise-client-urls", DEFAULT_CLIENT_URL)?,
        advertise_peer_urls,
        cluster_token: given
            .get("initial-cluster-token")
            .unwrap_or("etcd-cluster")
            .to_owned(),
        heartbeat: Duration::from_millis(heartbeat_ms),
        election_timeout: Duration::from_millis(election_ms),
        quota_bytes: match number(given, "quota-backend-bytes", 0)? {
            0 => Some(DEFAULT_QUOTA_BYTES),
            bytes => Some(bytes).filter(|bytes: &i64| *bytes > 0),
        },
        max_txn_ops: number(given, "max-txn-ops", 128)?,
        max_request_bytes: number(given, "max-request-bytes", 1_572_864)?,
        max_concurrent_streams: number(given, "max-concurrent-streams", u32::MAX)?,
        watch_progress_interval: progress_interval(given)?,
        auto_compaction: auto_compaction(given)?,
        compaction_batch: number(given, "compaction-batch-limit", 10_000)?,
        compaction_pause: time(
            given,
            "compaction-sleep-interval",
            Duration::from_millis(10),
        )?,
        reported_version: reported_version(given)?,
        keepalive: Keepalive {
            interval: time(given, "grpc-keepalive-interval", Duration::from_secs(7200))?,
            timeout: time(given, "grpc-keepalive-timeout", Duration::from_secs(20))?,
        },
        shards: number(given, "shards", 0)?,
        storage: Storage {
            wal_segment_bytes: number(given, "wal-segment-bytes", 64 << 20)?,
            ring_bytes: number(given, "ring-bytes", 32 << 20)?,
            flush_interval: time(given, "flush-interval", Duration::from_secs(1))?,
            flush_bytes: number(given, "flush-bytes", 8 << 20)?,
            checkpoint_interval: time(given, "checkpoint-interval", Duration::from_secs(600))?,
        },
        name,
    })
}

fn check_times(heartbeat_ms: u64, election_ms: u64) -> Result<(), String> {
    if heartbeat_ms == 0 || election_ms == 0 {
        return Err(
            "--heartbeat-interval and --election-timeout must be >0 (set in milliseconds)"
                .to_owned(),
        );
    }
    if heartbeat_ms.saturating_mul(5) > election_ms {
        return Err(format!(
            "--election-timeout[{election_ms}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat_ms}ms]"
        ));
    }
    if election_ms > MAX_ELECTION_MS {
        return Err(format!(
            "--election-timeout[{election_ms}ms] is too long, and should be set less than {MAX_ELECTION_MS}ms"
        ));
    }
    Ok(())
}

/// One member only: its own entry must be the whole of `--initial-cluster`.
fn check_cluster(given: &Given, name: &str, advertised: &[String]) -> Result<(), String> {
    match given.get("initial-cluster-state").unwrap_or("new") {
        "new" => {}
        "existing" => return Err("--initial-cluster-state existing: this version runs single members and can't join a cluster".to_owned()),
        other => return Err(format!("unexpected clusterState {other:?} for --initial-cluster-state; use new")),
    }
    let Some(cluster) = given.get("initial-cluster") else {
        return Ok(());
    };
    let mut own = Vec::new();
    for entry in cluster.split(',') {
        let (member, url) = entry
            .split_once('=')
            .ok_or_else(|| format!("--initial-cluster: {entry:?} is not name=url"))?;
        if member.trim() != name {
            return Err(format!(
                "--initial-cluster names another member, {member:?}: this version runs single members"
            ));
        }
        own.push(url.trim().to_owned());
    }
    own.sort();
    let mut advertised = advertised.to_vec();
    advertised.sort();
    if own != advertised {
        return Err(format!(
            "--initial-cluster has {} but --initial-advertise-peer-urls has {} for {name}; make them equal",
            own.join(","),
            advertised.join(",")
        ));
    }
    Ok(())
}

fn progress_interval(given: &Given) -> Result<Duration, String> {
    let name = "watch-progress-notify-interval";
    let interval = time(given, name, Duration::from_secs(600))?;
    if interval < Duration::from_millis(100) {
        return Err(format!("--{name} must be at least 100ms"));
    }
    Ok(interval)
}

fn auto_compaction(given: &Given) -> Result<AutoCompaction, String> {
    let retention = given.get("auto-compaction-retention").unwrap_or("0");
    let unusable =
        |why: String| format!("error parsing auto-compaction-retention {retention:?}: {why}");
    match given.get("auto-compaction-mode").unwrap_or("periodic") {
        "periodic" => {
            let kept = match retention.parse::<u64>() {
                Ok(hours) => Duration::from_secs(hours.saturating_mul(3600)),
                Err(_) => duration::parse(retention).map_err(unusable)?,
            };
            Ok(if kept.is_zero() {
                AutoCompaction::Off
            } else {
                AutoCompaction::Periodic(kept)
            })
        }
        "revision" => match retention.parse::<i64>() {
            Ok(0) => Ok(AutoCompaction::Off),
            Ok(kept) if kept > 0 => Ok(AutoCompaction::Revision(kept)),
            _ => Err(unusable("not a number of revisions".to_owned())),
        },
        other => Err(format!(
            "unknown auto-compaction-mode {other:?}; use periodic or revision"
        )),
    }
}

/// The reported version must be a plain semantic version: kube-apiserver parses it.
fn reported_version(given: &Given) -> Result<String, String> {
    let version = given.get("reported-version").unwrap_or(REPORTED_VERSION);
    let numbers: Vec<_> = version.split('.').map(str::parse::<u32>).collect();
    if numbers.len() == 3 && numbers.iter().all(Result::is_ok) {
        Ok(version.to_owned())
    } else {
        Err(format!(
            "--reported-version {version:?} is not of the form 3.6.0"
        ))
    }
}

fn number<T: FromStr>(given: &Given, name: &str, default: T) -> Result<T, String> {
    match given.get(name) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| {
            format!("invalid value {text:?} for flag -{name}: not a number in its range")
        }),
    }
}

fn time(given: &Given, name: &str, default: Duration) -> Result<Duration, String> {
    match given.get(name) {
        None => Ok(default),
        Some(text) => duration::parse(text)
            .map_err(|why| format!("invalid value {text:?} for flag -{name}: {why}")),
    }
}

fn urls(given: &Given, name: &str, default: &str) -> Result<Vec<String>, String> {
    let text = given.get(name).unwrap_or(default);
    text.split(',')
        .map(|url| host_and_port(name, url.trim()).map(|_| url.trim().to_owned()))
        .collect()
}

/// Listening needs addresses: a host must be an IP address or `localhost`, as etcd asks.
fn addresses(given: &Given, name: &str, default: &str) -> Result<Vec<SocketAddr>, String> {
    let text = given.get(name).unwrap_or(default);
    let address = |url: &str| {
        let (host, port) = host_and_port(name, url)?;
        let ip = match host {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            host => host.trim_matches(['[', ']']).parse().map_err(|_| {
                format!("expected IP in URL for binding ({url}): --{name} takes an IP address or localhost")
            })?,
        };
        Ok(SocketAddr::new(ip, port))
    };
    text.split(',').map(|url| address(url.trim())).collect()
}

fn host_and_port<'a>(name: &str, url: &'a str) -> Result<(&'a str, u16), String> {
    let refused = |why: &str| format!("--{name}: {url:?} {why}");
    let (scheme, rest) = url
        .split_once("://")
        .ok_or_else(|| refused("has no scheme; write http://host:port"))?;
    match scheme {
        "http" => {}
        "https" | "unixs" => {
            return Err(refused(
                "asks for TLS, which this version does not have yet",
            ));
        }
        _ => return Err(refused("has an unknown scheme; write http://host:port")),
    }
    let (host, port) = rest
        .rsplit_once(':')
        .ok_or_else(|| refused("has no port; write http://host:port"))?;
    let port = port
        .parse()
        .map_err(|_| refused("has a port that is not a number from 0 to 65535"))?;
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(words: &[&str]) -> Result<Config, String> {
        let words = words.iter().map(|word| (*word).to_owned());
        build(
            &crate::args::read("serve", words, std::iter::empty()).expect("known flags"),
            "keystead",
        )
    }

    #[test]
    fn no_arguments_make_etcds_defaults() {
        let config = built(&[]).expect("valid");
        assert_eq!(config.data_dir, PathBuf::from("default.keystead"));
        assert_eq!(
            config.listen_client,
            ["127.0.0.1:2379".parse().expect("an address")]
        );
        assert_eq!(config.advertise_peer_urls, ["http://localhost:2380"]);
        assert_eq!(config.quota_bytes, Some(DEFAULT_QUOTA_BYTES));
        assert_eq!(config.auto_compaction, AutoCompaction::Off);
    }

    #[test]
    fn retention_is_hours_a_duration_or_revisions() {
        let retention = |words: &[&str]| built(words).map(|config| config.auto_compaction);
        assert_eq!(
            retention(&["--auto-compaction-retention=1"]),
            Ok(AutoCompaction::Periodic(Duration::from_secs(3600)))
        );
        assert_eq!(
            retention(&["--auto-compaction-retention=30m"]),
            Ok(AutoCompaction::Periodic(Duration::from_secs(1800)))
        );
        assert_eq!(
            retention(&[
                "--auto-compaction-mode=revision",
                "--auto-compaction-retention=1000"
            ]),
            Ok(AutoCompaction::Revision(1000))
        );
    }

    #[test]
    fn a_refusal_names_the_flag() {
        for (words, part) in [
            (
                &["--listen-client-urls=http://127.0.0.1:1"][..],
                "--advertise-client-urls",
            ),
            (
                &["--listen-peer-urls=http://example.com:2380"],
                "listen-peer-urls",
            ),
            (&["--election-timeout=300"], "--election-timeout"),
            (&["--election-timeout=60000"], "--election-timeout"),
            (&["--max-txn-ops=many"], "max-txn-ops"),
            (
                &["--watch-progress-notify-interval=1ms"],
                "watch-progress-notify-interval",
            ),
            (
                &["--initial-cluster=a=http://localhost:2380"],
                "--initial-cluster",
            ),
            (
                &["--initial-cluster=default=http://localhost:9"],
                "--initial-advertise-peer-urls",
            ),
            (
                &["--initial-cluster-state=existing"],
                "--initial-cluster-state",
            ),
            (&["--auto-compaction-mode=never"], "auto-compaction-mode"),
            (&["--reported-version=latest"], "--reported-version"),
        ] {
            let sentence = built(words).expect_err("refused");
            assert!(sentence.contains(part), "{words:?}: {sentence}");
        }
    }

    #[test]
    fn a_negative_quota_is_no_quota() {
        assert_eq!(
            built(&["--quota-backend-bytes=-1"])
                .expect("valid")
                .quota_bytes,
            None
        );
        assert_eq!(
            built(&["--quota-backend-bytes=5"])
                .expect("valid")
                .quota_bytes,
            Some(5)
        );
    }
}
