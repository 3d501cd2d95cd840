//! Turns what was given into a validated [`Config`]: every default, every cross-check and etcd's sentences for what can't be.
//! Pure but for resolving `localhost`; called by `serve` only.

use std::path::PathBuf;
use std::time::Duration;

use keystead_server::Config;
use keystead_server::config::{
    AutoCompaction, DEFAULT_QUOTA_BYTES, Discovery, Keepalive, ListenAddress, REPORTED_VERSION,
    Storage,
};

use crate::duration;
use crate::serve::gates::{self, Gates};
use crate::serve::given::{Given, Refusal};
use crate::serve::tokens;
use crate::serve::url::{self, Url};
use crate::serve::value;

const DEFAULT_CLIENT_URL: &str = "http://localhost:2379";
const DEFAULT_PEER_URL: &str = "http://localhost:2380";

/// etcd's ceiling for `--election-timeout`.
const MAX_ELECTION_MS: u64 = 50_000;
/// etcd's floor for `--watch-progress-notify-interval`: it raises what is below.
const MIN_PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Builds the configuration of a member whose data goes to `<name>.<suffix>` by default.
///
/// # Errors
/// A sentence that names the flag and what to do; nothing has been started.
pub fn build(given: &Given, suffix: &str) -> Result<Config, Refusal> {
    let name = given.get("name").unwrap_or("default").to_owned();
    let heartbeat_ms = number(given, "heartbeat-interval", 100)?;
    let election_ms = number(given, "election-timeout", 1000)?;
    let gates = gates::of(given)?;
    let told_only_where_it_listens =
        given.get("listen-client-urls").is_some() && given.get("advertise-client-urls").is_none();
    let config = Config {
        data_dir: given
            .text("data-dir")
            .map_or_else(|| PathBuf::from(format!("{name}.{suffix}")), PathBuf::from),
        wal_dir: given.text("wal-dir").map(PathBuf::from),
        listen_peer: listened(given, "listen-peer-urls", DEFAULT_PEER_URL)?,
        listen_client: listened(given, "listen-client-urls", DEFAULT_CLIENT_URL)?,
        advertise_peer_urls: advertised(given, "initial-advertise-peer-urls", DEFAULT_PEER_URL)?,
        advertise_client_urls: advertised(given, "advertise-client-urls", DEFAULT_CLIENT_URL)?,
        initial_cluster: initial_cluster(given),
        discovery: discovery(given)?,
        joins: given.read("initial-cluster-state", false, cluster_state)?,
        cluster_token: given
            .get("initial-cluster-token")
            .unwrap_or("etcd-cluster")
            .to_owned(),
        strict_reconfig_check: given.read("strict-reconfig-check", true, value::switch)?,
        max_learners: number(given, "max-learners", 1)?,
        initial_corrupt_check: gates.initial_corrupt_check,
        corrupt_check_interval: Some(time(given, "corrupt-check-time", Duration::ZERO)?)
            .filter(|interval| !interval.is_zero()),
        compact_hash_check_interval: compact_hash_check(given, gates)?,
        lease_checkpoint_interval: lease_checkpoint(given, gates)?,
        force_new_cluster: given.read("force-new-cluster", false, value::switch)?,
        heartbeat: Duration::from_millis(heartbeat_ms),
        election_timeout: Duration::from_millis(election_ms),
        quota_bytes: match given.read("quota-backend-bytes", 0, value::integer)? {
            0 => Some(DEFAULT_QUOTA_BYTES),
            bytes => Some(bytes).filter(|bytes: &i64| *bytes > 0),
        },
        max_txn_ops: number(given, "max-txn-ops", 128)?,
        max_request_bytes: number(given, "max-request-bytes", 1_572_864)?,
        max_concurrent_streams: number(given, "max-concurrent-streams", u32::MAX)?,
        watch_progress_interval: progress_interval(given)?,
        auto_compaction: auto_compaction(given)?,
        compaction_batch: match number(given, "compaction-batch-limit", 0)? {
            0 => Config::default().compaction_batch,
            revisions => revisions,
        },
        compaction_pause: time(
            given,
            "compaction-sleep-interval",
            Duration::from_millis(10),
        )?,
        reported_version: reported_version(given)?,
        keepalive: keepalive(given)?,
        tokens: tokens::of(given)?,
        bcrypt_cost: tokens::bcrypt_cost(given)?,
        shards: number(given, "shards", 0)?,
        storage: storage(given)?,
        name,
    };
    check_times(heartbeat_ms, election_ms)?;
    // A file says all there is to say, so that etcd takes its own default for what the file leaves out.
    if told_only_where_it_listens && given.file.is_none() {
        let sentence =
            "--advertise-client-urls is required when --listen-client-urls is set explicitly";
        return Err(Refusal::Invalid(sentence.to_owned()));
    }
    Ok(config)
}

/// Who founds the cluster, if they are listed. As in etcd nobody does where records are named and no domain is that has them.
fn initial_cluster(given: &Given) -> Option<String> {
    let listed = given.get("initial-cluster").map(str::to_owned);
    let without_domain = given.file.is_none()
        && given.text("discovery-srv").is_none()
        && given.text("discovery-srv-name").is_some();
    listed.or_else(|| without_domain.then(String::new))
}

/// Where DNS names the members, if it is to.
fn discovery(given: &Given) -> Result<Option<Discovery>, Refusal> {
    let Some(domain) = given.text("discovery-srv") else {
        return Ok(None);
    };
    if given.text("initial-cluster").is_some() {
        let sentence = "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery\", \
                        \"discovery-endpoints\" or \"discovery-srv\"";
        return Err(sentence.to_owned().into());
    }
    Ok(Some(Discovery {
        domain: domain.to_owned(),
        service_name: given
            .get("discovery-srv-name")
            .unwrap_or_default()
            .to_owned(),
        nameservers: Vec::new(),
    }))
}

/// The interval must be one even where nothing is checked.
fn compact_hash_check(given: &Given, gates: Gates) -> Result<Option<Duration>, Refusal> {
    let interval = time(given, "compact-hash-check-time", Duration::from_secs(60))?;
    if interval.is_zero() {
        return Err("--compact-hash-check-time must be >0 (set to 0s)"
            .to_owned()
            .into());
    }
    Ok(gates.compact_hash_check.then_some(interval))
}

/// The interval must be one even where there are no checkpoints.
fn lease_checkpoint(given: &Given, gates: Gates) -> Result<Option<Duration>, Refusal> {
    let interval = time(given, "lease-checkpoint-interval", Duration::from_secs(300))?;
    if interval.is_zero() {
        return Err("--lease-checkpoint-interval must be >0 (set to 0s)"
            .to_owned()
            .into());
    }
    Ok(gates.lease_checkpoint.then_some(interval))
}

fn storage(given: &Given) -> Result<Storage, Refusal> {
    let storage = Storage {
        wal_segment_bytes: number(given, "wal-segment-bytes", 64 << 20)?,
        ring_bytes: number(given, "ring-bytes", 32 << 20)?,
        flush_interval: time(given, "flush-interval", Duration::from_secs(1))?,
        flush_bytes: number(given, "flush-bytes", 8 << 20)?,
        unflushed_limit_bytes: number(given, "unflushed-limit-bytes", 64 << 20)?,
        checkpoint_interval: time(given, "checkpoint-interval", Duration::from_secs(600))?,
    };
    if storage.unflushed_limit_bytes < storage.flush_bytes as u64 {
        return Err(Refusal::Invalid(format!(
            "--unflushed-limit-bytes[{}] should be at least --flush-bytes[{}]: a flush would never be due",
            storage.unflushed_limit_bytes, storage.flush_bytes
        )));
    }
    Ok(storage)
}

fn check_times(heartbeat_ms: u64, election_ms: u64) -> Result<(), String> {
    if heartbeat_ms == 0 {
        return Err("--heartbeat-interval must be >0 (set to 0ms)".to_owned());
    }
    if election_ms == 0 {
        return Err("--election-timeout must be >0 (set to 0ms)".to_owned());
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

/// Whether the member is to join a cluster.
fn cluster_state(text: &str) -> Result<bool, String> {
    match text {
        "new" => Ok(false),
        "existing" => Ok(true),
        _ => Err("invalid value".to_owned()),
    }
}

/// As etcd does: none is the default, and too short an interval is as short as it gets.
fn progress_interval(given: &Given) -> Result<Duration, Refusal> {
    let interval = time(given, "watch-progress-notify-interval", Duration::ZERO)?;
    Ok(if interval.is_zero() {
        Config::default().watch_progress_interval
    } else {
        interval.max(MIN_PROGRESS_INTERVAL)
    })
}

/// As in etcd, where either of the two is off, gRPC's own defaults hold for both.
fn keepalive(given: &Given) -> Result<Keepalive, Refusal> {
    let usual = Keepalive::default();
    let asked = Keepalive {
        interval: time(given, "grpc-keepalive-interval", usual.interval)?,
        timeout: time(given, "grpc-keepalive-timeout", usual.timeout)?,
    };
    let off = asked.interval.is_zero() || asked.timeout.is_zero();
    Ok(if off { usual } else { asked })
}

fn auto_compaction(given: &Given) -> Result<AutoCompaction, String> {
    let retention = given.get("auto-compaction-retention").unwrap_or("0");
    let unusable = |why: String| format!("error parsing CompactionRetention: {why}");
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
        "" => Err("undefined auto-compaction-mode".to_owned()),
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

fn number<T: TryFrom<u64>>(given: &Given, name: &str, default: T) -> Result<T, Refusal> {
    given.read(name, default, |text| {
        T::try_from(value::unsigned(text)?).map_err(|_| "value out of range".to_owned())
    })
}

fn time(given: &Given, name: &str, default: Duration) -> Result<Duration, Refusal> {
    given.read(name, default, value::duration)
}

fn urls(given: &Given, name: &str, default: &str) -> Result<Vec<Url>, Refusal> {
    let default = url::list(default)?;
    given.read(name, default, url::list)
}

/// Where to listen.
fn listened(given: &Given, name: &str, default: &str) -> Result<Vec<ListenAddress>, Refusal> {
    let mut addresses = Vec::new();
    for url in urls(given, name, default)? {
        if url.has_tls() {
            return Err(format!("--{name}={url}: this version has no TLS").into());
        }
        addresses.push(url.listen_address()?);
    }
    Ok(addresses)
}

/// What to tell others.
fn advertised(given: &Given, name: &str, default: &str) -> Result<Vec<String>, Refusal> {
    let urls = urls(given, name, default)?;
    let texts: Vec<String> = urls.iter().map(Url::to_string).collect();
    for url in urls {
        url.check_advertised().map_err(|why| {
            format!(
                "--{name} {:?} must be \"host:port\" ({why})",
                texts.join(",")
            )
        })?;
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(words: &[&str]) -> Result<Config, Refusal> {
        let words = words.iter().map(|word| (*word).to_owned());
        build(
            &crate::serve::args::read("serve", words, std::iter::empty()).expect("known flags"),
            "keystead",
        )
    }

    #[test]
    fn no_arguments_make_etcds_defaults() {
        let config = built(&[]).expect("valid");
        assert_eq!(config.data_dir, PathBuf::from("default.keystead"));
        assert_eq!(
            config.listen_client,
            [ListenAddress::Tcp(([127, 0, 0, 1], 2379).into())]
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
                "http://example.com:2380",
            ),
            (&["--election-timeout=300"], "--election-timeout"),
            (&["--election-timeout=60000"], "--election-timeout"),
            (&["--heartbeat-interval=0"], "--heartbeat-interval"),
            (&["--initial-cluster-state=old"], "-initial-cluster-state"),
            (&["--feature-gates=Nope=true"], "-feature-gates"),
            (&["--listen-peer-urls=https://localhost:1"], "TLS"),
            (
                &["--advertise-client-urls=http://:2379"],
                "--advertise-client-urls",
            ),
            (&["--compaction-batch-limit=-1"], "compaction-batch-limit"),
            (&["--max-concurrent-streams=4294967296"], "out of range"),
            (&["--auto-compaction-mode=never"], "auto-compaction-mode"),
            (&["--reported-version=latest"], "--reported-version"),
            (&["--unflushed-limit-bytes=1000"], "--unflushed-limit-bytes"),
            (
                &["--discovery-srv=a.test", "--initial-cluster=m1=http://a:1"],
                "multiple discovery or bootstrap flags are set",
            ),
            (
                &["--compact-hash-check-time=0s"],
                "--compact-hash-check-time must be >0",
            ),
            (
                &["--lease-checkpoint-interval=0s"],
                "--lease-checkpoint-interval must be >0",
            ),
            (
                &["--feature-gates=LeaseCheckpointPersist=true"],
                "LeaseCheckpointPersist requires",
            ),
            (
                &[
                    "--experimental-initial-corrupt-check",
                    "--feature-gates=InitialCorruptCheck=false",
                ],
                "cannot specify both flags: --experimental-initial-corrupt-check=true and \
                 --feature-gates=InitialCorruptCheck=false at the same time",
            ),
        ] {
            let (Refusal::Usage(sentence) | Refusal::Invalid(sentence)) =
                built(words).expect_err("refused");
            assert!(sentence.contains(part), "{words:?}: {sentence}");
        }
    }

    #[test]
    fn corruption_checks_are_off_unless_asked_for_in_either_spelling() {
        let checks = |words: &[&str]| {
            let config = built(words).expect("valid");
            let times = [
                config.corrupt_check_interval,
                config.compact_hash_check_interval,
            ];
            (
                config.initial_corrupt_check,
                times.map(|it| it.map(|it| it.as_secs())),
            )
        };
        for (words, expected) in [
            (&["--compact-hash-check-time=5s"][..], (false, [None, None])),
            (
                &["--feature-gates=InitialCorruptCheck=true,CompactHashCheck=true"],
                (true, [None, Some(60)]),
            ),
            (
                &[
                    "--experimental-initial-corrupt-check",
                    "--experimental-compact-hash-check-enabled=true",
                    "--experimental-compact-hash-check-time=5s",
                    "--experimental-corrupt-check-time=7s",
                ],
                (true, [Some(7), Some(5)]),
            ),
            (&["--corrupt-check-time=7s"], (false, [Some(7), None])),
        ] {
            assert_eq!(checks(words), expected, "{words:?}");
        }
    }

    #[test]
    fn leases_have_checkpoints_where_a_gate_asks_for_them_in_either_spelling() {
        let interval = |words: &[&str]| {
            let config = built(words).expect("valid");
            config.lease_checkpoint_interval.map(|it| it.as_secs())
        };
        for (words, expected) in [
            (&["--lease-checkpoint-interval=7s"][..], None),
            (&["--feature-gates=LeaseCheckpoint=true"], Some(300)),
            (&["--feature-gates=AllAlpha=true"], Some(300)),
            (
                &["--feature-gates=LeaseCheckpoint=false,AllAlpha=true,LeaseCheckpointPersist=0"],
                None,
            ),
            (
                &[
                    "--experimental-enable-lease-checkpoint",
                    "--experimental-enable-lease-checkpoint-persist",
                    "--lease-checkpoint-interval=7s",
                ],
                Some(7),
            ),
        ] {
            assert_eq!(interval(words), expected, "{words:?}");
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

    #[test]
    fn what_is_off_or_too_short_is_what_etcd_makes_of_it() {
        let usual = Config::default();
        for words in [
            &["--grpc-keepalive-interval=0"][..],
            &[
                "--grpc-keepalive-timeout=0s",
                "--grpc-keepalive-interval=1s",
            ],
        ] {
            let keepalive = built(words).expect("valid").keepalive;
            assert_eq!(keepalive.interval, usual.keepalive.interval, "{words:?}");
            assert_eq!(keepalive.timeout, usual.keepalive.timeout, "{words:?}");
        }
        let interval = |text| {
            let word = format!("--watch-progress-notify-interval={text}");
            built(&[word.as_str()])
                .expect("valid")
                .watch_progress_interval
        };
        assert_eq!(interval("0"), usual.watch_progress_interval);
        assert_eq!(interval("1ms"), Duration::from_millis(100));
        let batch = built(&["--compaction-batch-limit=0"]).expect("valid");
        assert_eq!(batch.compaction_batch, usual.compaction_batch);
    }

    #[test]
    fn a_socket_file_is_listened_on_and_advertised_as_its_url() {
        let config = built(&[
            "--listen-client-urls=unix://localhost:2379,http://127.0.0.1:1",
            "--advertise-client-urls=unix://localhost:2379",
        ])
        .expect("valid");
        let listened = config.listen_client.iter().map(ToString::to_string);
        assert_eq!(Vec::from_iter(listened), ["127.0.0.1:1", "localhost:2379"]);
        assert_eq!(config.advertise_client_urls, ["unix://localhost:2379"]);
    }
}
