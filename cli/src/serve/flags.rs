//! The flags of `serve`: etcd's names, defaults and groups, and Keystead's own. A table, read by the argument reader, the help
//! and the environment alike. It only names things; what a value means is decided where the configuration is validated.

/// How a flag's value is written. See [`crate::value`] for what Go makes of each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Any text.
    Text,
    /// Texts with commas between; a list in the configuration file.
    List,
    /// `--flag`, `--flag=true` or `--flag=false`; Go's flag package takes no separate word here.
    Switch,
    /// A whole number from zero on.
    Unsigned,
    /// A whole number.
    Integer,
    /// A Go duration such as `100ms` or `1h30m`; nanoseconds in the configuration file.
    Duration,
    /// URLs with commas between.
    Urls,
    /// Nothing, or anything after `=`.
    Ignored,
}

/// One flag of `serve`.
pub struct Flag {
    /// The name without dashes; its variable is `ETCD_` and the name in capitals.
    pub name: &'static str,
    /// How its value is written.
    pub kind: Kind,
    /// What holds when it is not given, as shown in the help; empty where that is "nothing".
    pub default: &'static str,
    /// The heading it stands under in the help.
    pub group: &'static str,
    /// One line of help.
    pub help: &'static str,
    /// Other spellings that mean the same, of older and newer etcd releases.
    pub aliases: &'static [&'static str],
}

/// Names the file that stands for all other flags.
pub const CONFIG_FILE: &str = "config-file";

/// Says which etcd the member is to be taken for.
pub const REPORTED_VERSION: &str = "reported-version";
/// Older names of four feature gates.
pub const INITIAL_CORRUPT_CHECK: &str = "experimental-initial-corrupt-check";
pub const COMPACT_HASH_CHECK: &str = "experimental-compact-hash-check-enabled";
pub const LEASE_CHECKPOINT: &str = "experimental-enable-lease-checkpoint";
pub const LEASE_CHECKPOINT_PERSIST: &str = "experimental-enable-lease-checkpoint-persist";
/// Asks for the version, and for no start.
pub const VERSION: &str = "version";

/// Ties the member to whoever started it.
pub const STOP_WITH_STDIN: &str = "stop-with-stdin";

const MEMBER: &str = "Member";
const CLUSTERING: &str = "Clustering";
const AUTH: &str = "Auth";
const LOGGING: &str = "Logging";
const FEATURES: &str = "Features";
const KEYSTEAD: &str = "Keystead's own";

const fn flag(
    group: &'static str,
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag {
        name,
        kind,
        default,
        group,
        help,
        aliases: &[],
    }
}

const fn renamed(flag: Flag, aliases: &'static [&'static str]) -> Flag {
    Flag { aliases, ..flag }
}

/// Every flag that changes what the member does.
pub const FLAGS: &[Flag] = &[
    flag(
        MEMBER,
        VERSION,
        Kind::Switch,
        "",
        "Prints the version and leaves",
    ),
    flag(
        MEMBER,
        CONFIG_FILE,
        Kind::Text,
        "",
        "YAML file with the configuration; other flags and variables are ignored then",
    ),
    flag(MEMBER, "name", Kind::Text, "default", "Name of this member"),
    flag(
        MEMBER,
        "data-dir",
        Kind::Text,
        "<name>.keystead",
        "Directory of the data",
    ),
    flag(
        MEMBER,
        "wal-dir",
        Kind::Text,
        "<data-dir>/wal",
        "Directory of the write-ahead log, where it has a disk of its own",
    ),
    flag(
        MEMBER,
        "listen-client-urls",
        Kind::Urls,
        "http://localhost:2379",
        "URLs to listen on for clients, comma-separated; unix://NAME is a socket file",
    ),
    flag(
        MEMBER,
        "listen-peer-urls",
        Kind::Urls,
        "http://localhost:2380",
        "URLs to listen on for members, comma-separated",
    ),
    flag(
        MEMBER,
        "heartbeat-interval",
        Kind::Unsigned,
        "100",
        "Milliseconds between heartbeats",
    ),
    flag(
        MEMBER,
        "election-timeout",
        Kind::Unsigned,
        "1000",
        "Milliseconds without a leader before an election",
    ),
    flag(
        MEMBER,
        "quota-backend-bytes",
        Kind::Integer,
        "0",
        "Bytes of data before the NOSPACE alarm: 0 is 2 GiB, negative is no limit",
    ),
    flag(
        MEMBER,
        "max-txn-ops",
        Kind::Unsigned,
        "128",
        "Most operations in one transaction",
    ),
    flag(
        MEMBER,
        "max-request-bytes",
        Kind::Unsigned,
        "1572864",
        "Largest request in bytes",
    ),
    flag(
        MEMBER,
        "max-concurrent-streams",
        Kind::Unsigned,
        "4294967295",
        "Most streams a client may have open on one connection",
    ),
    flag(
        MEMBER,
        "grpc-keepalive-interval",
        Kind::Duration,
        "2h",
        "Time between two pings of an idle connection",
    ),
    flag(
        MEMBER,
        "grpc-keepalive-timeout",
        Kind::Duration,
        "20s",
        "How long a ping may go unanswered before the connection is closed",
    ),
    flag(
        CLUSTERING,
        "initial-advertise-peer-urls",
        Kind::Urls,
        "http://localhost:2380",
        "Peer URLs told to the other members",
    ),
    flag(
        CLUSTERING,
        "initial-cluster",
        Kind::Text,
        "<name>=<initial-advertise-peer-urls>",
        "Members that form the cluster, name=url, comma-separated",
    ),
    flag(
        CLUSTERING,
        "discovery-srv",
        Kind::Text,
        "",
        "DNS domain whose SRV records name the members that form the cluster, in place of --initial-cluster",
    ),
    flag(
        CLUSTERING,
        "discovery-srv-name",
        Kind::Text,
        "",
        "The name behind etcd-server- in these records",
    ),
    flag(
        CLUSTERING,
        "initial-cluster-state",
        Kind::Text,
        "new",
        "new, or existing to join a running cluster",
    ),
    flag(
        CLUSTERING,
        "initial-cluster-token",
        Kind::Text,
        "etcd-cluster",
        "Tells clusters with equal URLs apart",
    ),
    flag(
        CLUSTERING,
        "strict-reconfig-check",
        Kind::Switch,
        "true",
        "Refuses changes of members that might cost the quorum",
    ),
    renamed(
        flag(
            CLUSTERING,
            "max-learners",
            Kind::Unsigned,
            "1",
            "Most learners at a time",
        ),
        &["experimental-max-learners"],
    ),
    flag(
        CLUSTERING,
        "force-new-cluster",
        Kind::Switch,
        "false",
        "Goes on alone with the data, for good: the other members are forgotten",
    ),
    flag(
        CLUSTERING,
        "advertise-client-urls",
        Kind::Urls,
        "http://localhost:2379",
        "Client URLs told to clients",
    ),
    flag(
        CLUSTERING,
        "auto-compaction-mode",
        Kind::Text,
        "periodic",
        "periodic or revision",
    ),
    flag(
        CLUSTERING,
        "auto-compaction-retention",
        Kind::Text,
        "0",
        "History to keep: hours or a duration when periodic, else revisions; 0 keeps all",
    ),
    flag(
        AUTH,
        "auth-token",
        Kind::Text,
        "simple",
        "simple, or jwt,sign-method=METHOD,priv-key=FILE,pub-key=FILE,ttl=5m: what stands for a password once it was given. \
         With the public key alone tokens are only verified",
    ),
    flag(
        AUTH,
        "auth-token-ttl",
        Kind::Unsigned,
        "300",
        "Seconds after its last use for which a simple token holds",
    ),
    flag(
        AUTH,
        "bcrypt-cost",
        Kind::Unsigned,
        "10",
        "What hashing a password costs: one more doubles it, from 4 to 31",
    ),
    flag(
        FEATURES,
        "feature-gates",
        Kind::Text,
        "",
        "etcd's switches for what is new, name=true|false, comma-separated: InitialCorruptCheck has a member compare its \
         data with the others' before it takes part, CompactHashCheck has the leader compare it after compactions, \
         LeaseCheckpoint has a new leader go on with what long leases have left",
    ),
    flag(
        LOGGING,
        "log-level",
        Kind::Text,
        "info",
        "debug, info, warn, error, panic or fatal",
    ),
    flag(
        LOGGING,
        "log-format",
        Kind::Text,
        "json, or console on a terminal",
        "json or console",
    ),
    flag(
        LOGGING,
        "log-outputs",
        Kind::List,
        "default",
        "default, stderr, stdout or file paths, comma-separated",
    ),
    renamed(
        flag(
            FEATURES,
            "watch-progress-notify-interval",
            Kind::Duration,
            "10m",
            "How often an idle watch that asked for it hears the revision",
        ),
        &["experimental-watch-progress-notify-interval"],
    ),
    renamed(
        flag(
            FEATURES,
            "compaction-batch-limit",
            Kind::Integer,
            "10000",
            "Revisions removed in one step of a compaction",
        ),
        &["experimental-compaction-batch-limit"],
    ),
    renamed(
        flag(
            FEATURES,
            "compaction-sleep-interval",
            Kind::Duration,
            "10ms",
            "Pause between two steps of a compaction",
        ),
        &["experimental-compaction-sleep-interval"],
    ),
    renamed(
        flag(
            FEATURES,
            "corrupt-check-time",
            Kind::Duration,
            "0s",
            "How often the leader compares what all members store; 0 is never",
        ),
        &["experimental-corrupt-check-time"],
    ),
    renamed(
        flag(
            FEATURES,
            "compact-hash-check-time",
            Kind::Duration,
            "1m",
            "How often the leader compares the hashes that compactions leave, with CompactHashCheck",
        ),
        &["experimental-compact-hash-check-time"],
    ),
    flag(
        FEATURES,
        INITIAL_CORRUPT_CHECK,
        Kind::Switch,
        "false",
        "The same as --feature-gates=InitialCorruptCheck=true",
    ),
    flag(
        FEATURES,
        COMPACT_HASH_CHECK,
        Kind::Switch,
        "false",
        "The same as --feature-gates=CompactHashCheck=true",
    ),
    flag(
        FEATURES,
        LEASE_CHECKPOINT,
        Kind::Switch,
        "false",
        "The same as --feature-gates=LeaseCheckpoint=true",
    ),
    flag(
        FEATURES,
        LEASE_CHECKPOINT_PERSIST,
        Kind::Switch,
        "false",
        "The same as --feature-gates=LeaseCheckpointPersist=true, which is always so, as in etcd 3.6",
    ),
    flag(
        KEYSTEAD,
        REPORTED_VERSION,
        Kind::Text,
        keystead_server::REPORTED_VERSION,
        "The etcd version that this member says it is",
    ),
    flag(
        KEYSTEAD,
        STOP_WITH_STDIN,
        Kind::Switch,
        "false",
        "Stops when its standard input ends, so that it does not outlive a program that holds the other end",
    ),
    flag(
        KEYSTEAD,
        "shards",
        Kind::Unsigned,
        "0",
        "Network threads: 0 is one for each core",
    ),
    flag(
        KEYSTEAD,
        "wal-segment-bytes",
        Kind::Unsigned,
        "67108864",
        "Size of one segment of the write-ahead log",
    ),
    flag(
        KEYSTEAD,
        "ring-bytes",
        Kind::Unsigned,
        "33554432",
        "Recent history kept in memory for watches and reads",
    ),
    flag(
        KEYSTEAD,
        "flush-interval",
        Kind::Duration,
        "1s",
        "Longest time before applied writes go to the store's file",
    ),
    flag(
        KEYSTEAD,
        "flush-bytes",
        Kind::Unsigned,
        "8388608",
        "Applied writes that go to the store's file at once",
    ),
    flag(
        KEYSTEAD,
        "unflushed-limit-bytes",
        Kind::Unsigned,
        "67108864",
        "Applied writes that may wait for the store's file; room for twice as much is set aside on the disk",
    ),
    flag(
        KEYSTEAD,
        "checkpoint-interval",
        Kind::Duration,
        "10m",
        "How often the index is saved for a fast start",
    ),
    flag(
        KEYSTEAD,
        "lease-checkpoint-interval",
        Kind::Duration,
        "5m",
        "How often what a lease has left is saved for the next leader, with LeaseCheckpoint, while it is more than that",
    ),
];

/// A flag of etcd that is accepted and changes nothing here, and why that is right.
struct Moot {
    /// The name without dashes.
    pub name: &'static str,
    /// How its value is written.
    pub kind: Kind,
    /// Why Keystead needs no such setting; said in the log when the flag is given.
    pub why: &'static str,
}

const fn moot(name: &'static str, kind: Kind, why: &'static str) -> Moot {
    Moot { name, kind, why }
}

const NO_BBOLT: &str = "the store is not bbolt";
const NO_WAL_COUNT: &str = "the log is bounded by bytes and purged after every flush";
const ALWAYS_ON: &str = "always so here";
const LEGACY: &str = "etcd ignores it as well";
const BY_ELECTION: &str = "how long a member is waited for follows from the election timeout";
const NO_DOWNGRADE: &str = "there is no downgrade yet";
const NO_HTTP: &str = "there is no HTTP side yet";
const NO_TLS: &str = "there is no TLS yet";
const NO_TRACES: &str = "there are no traces yet";
const DISCOVERY: &str = "discovery but by DNS";
const NO_DISCOVERY: &str = "there is no discovery but by DNS";
const DEFRAG_STOPS_NOBODY: &str = "defragmentation stops nobody, so it needs no start-up slot";
const UNLOCKED: &str = "memory is not locked: the data is read through the page cache";
const NOT_TIMED: &str = "single slow requests are not logged";

/// Flags of etcd that deployments pass and that change nothing here.
const MOOT: &[Moot] = &[
    moot("snapshot-count", Kind::Unsigned, NO_WAL_COUNT),
    moot("snapshot-catchup-entries", Kind::Unsigned, NO_WAL_COUNT),
    moot(
        "experimental-snapshot-catchup-entries",
        Kind::Unsigned,
        NO_WAL_COUNT,
    ),
    moot("max-snapshots", Kind::Unsigned, NO_WAL_COUNT),
    moot("max-wals", Kind::Unsigned, NO_WAL_COUNT),
    moot("backend-bbolt-freelist-type", Kind::Text, NO_BBOLT),
    moot(
        "experimental-backend-bbolt-freelist-type",
        Kind::Text,
        NO_BBOLT,
    ),
    moot("backend-batch-interval", Kind::Duration, NO_BBOLT),
    moot("backend-batch-limit", Kind::Integer, NO_BBOLT),
    moot(
        "bootstrap-defrag-threshold-megabytes",
        Kind::Unsigned,
        DEFRAG_STOPS_NOBODY,
    ),
    moot(
        "experimental-bootstrap-defrag-threshold-megabytes",
        Kind::Unsigned,
        DEFRAG_STOPS_NOBODY,
    ),
    moot(
        "experimental-stop-grpc-service-on-defrag",
        Kind::Switch,
        DEFRAG_STOPS_NOBODY,
    ),
    moot(
        "experimental-txn-mode-write-with-shared-buffer",
        Kind::Switch,
        NO_BBOLT,
    ),
    moot("memory-mlock", Kind::Switch, UNLOCKED),
    moot("experimental-memory-mlock", Kind::Switch, UNLOCKED),
    moot(
        "unsafe-no-fsync",
        Kind::Switch,
        "every write is synced all the same",
    ),
    moot("initial-election-tick-advance", Kind::Switch, ALWAYS_ON),
    moot("socket-reuse-address", Kind::Switch, ALWAYS_ON),
    moot(
        "grpc-keepalive-min-time",
        Kind::Duration,
        "clients may ping as often as they like",
    ),
    moot(
        "log-rotation-config-json",
        Kind::Text,
        "logs are not rotated here",
    ),
    moot("warning-apply-duration", Kind::Duration, NOT_TIMED),
    moot(
        "experimental-warning-apply-duration",
        Kind::Duration,
        NOT_TIMED,
    ),
    moot("warning-unary-request-duration", Kind::Duration, NOT_TIMED),
    moot(
        "experimental-warning-unary-request-duration",
        Kind::Duration,
        NOT_TIMED,
    ),
    moot("pre-vote", Kind::Switch, ALWAYS_ON),
    moot("raft-read-timeout", Kind::Duration, BY_ELECTION),
    moot("raft-write-timeout", Kind::Duration, BY_ELECTION),
    moot("downgrade-check-time", Kind::Duration, NO_DOWNGRADE),
    moot(
        "experimental-downgrade-check-time",
        Kind::Duration,
        NO_DOWNGRADE,
    ),
    moot("peer-skip-client-san-verification", Kind::Switch, NO_TLS),
    moot(
        "experimental-peer-skip-client-san-verification",
        Kind::Switch,
        NO_TLS,
    ),
    moot("self-signed-cert-validity", Kind::Unsigned, NO_TLS),
    moot("cipher-suites", Kind::List, NO_TLS),
    moot("tls-min-version", Kind::Text, NO_TLS),
    moot("tls-max-version", Kind::Text, NO_TLS),
    moot("enable-grpc-gateway", Kind::Switch, NO_HTTP),
    moot("cors", Kind::Text, NO_HTTP),
    moot("host-whitelist", Kind::Text, NO_HTTP),
    moot("distributed-tracing-address", Kind::Text, NO_TRACES),
    moot(
        "experimental-distributed-tracing-address",
        Kind::Text,
        NO_TRACES,
    ),
    moot("distributed-tracing-service-name", Kind::Text, NO_TRACES),
    moot(
        "experimental-distributed-tracing-service-name",
        Kind::Text,
        NO_TRACES,
    ),
    moot("distributed-tracing-instance-id", Kind::Text, NO_TRACES),
    moot(
        "experimental-distributed-tracing-instance-id",
        Kind::Text,
        NO_TRACES,
    ),
    moot(
        "distributed-tracing-sampling-rate",
        Kind::Integer,
        NO_TRACES,
    ),
    moot(
        "experimental-distributed-tracing-sampling-rate",
        Kind::Integer,
        NO_TRACES,
    ),
    moot("discovery-dial-timeout", Kind::Duration, NO_DISCOVERY),
    moot("discovery-request-timeout", Kind::Duration, NO_DISCOVERY),
    moot("discovery-keepalive-time", Kind::Duration, NO_DISCOVERY),
    moot("discovery-keepalive-timeout", Kind::Duration, NO_DISCOVERY),
    moot("discovery-insecure-transport", Kind::Switch, NO_DISCOVERY),
    moot(
        "discovery-insecure-skip-tls-verify",
        Kind::Switch,
        NO_DISCOVERY,
    ),
    moot("discovery-cert", Kind::Text, NO_DISCOVERY),
    moot("discovery-key", Kind::Text, NO_DISCOVERY),
    moot("discovery-cacert", Kind::Text, NO_DISCOVERY),
    moot("discovery-user", Kind::Text, NO_DISCOVERY),
    moot("discovery-password", Kind::Text, NO_DISCOVERY),
    moot("v2-deprecation", Kind::Text, LEGACY),
    moot("cluster-active-size", Kind::Ignored, LEGACY),
    moot("cluster-remove-delay", Kind::Ignored, LEGACY),
    moot("cluster-sync-interval", Kind::Ignored, LEGACY),
    moot("config", Kind::Ignored, LEGACY),
    moot("force", Kind::Ignored, LEGACY),
    moot("max-result-buffer", Kind::Ignored, LEGACY),
    moot("max-retry-attempts", Kind::Ignored, LEGACY),
    moot("peer-heartbeat-interval", Kind::Ignored, LEGACY),
    moot("peer-election-timeout", Kind::Ignored, LEGACY),
    moot("retry-interval", Kind::Ignored, LEGACY),
    moot("snapshot", Kind::Ignored, LEGACY),
    moot("v", Kind::Ignored, LEGACY),
    moot("vv", Kind::Ignored, LEGACY),
];

/// A flag of etcd for something that is not here. It is taken with the value that leaves it off, and refused with any other: who
/// asks for TLS must not get a member without.
struct Absent {
    /// The name without dashes.
    pub name: &'static str,
    /// How its value is written.
    pub kind: Kind,
    /// etcd's default, which asks for nothing.
    pub off: &'static str,
    /// What this version lacks.
    pub what: &'static str,
}

const fn absent(name: &'static str, kind: Kind, off: &'static str, what: &'static str) -> Absent {
    Absent {
        name,
        kind,
        off,
        what,
    }
}

/// Flags of etcd for what is not here yet.
const ABSENT: &[Absent] = &[
    absent("cert-file", Kind::Text, "", "TLS"),
    absent("key-file", Kind::Text, "", "TLS"),
    absent("client-cert-auth", Kind::Switch, "false", "TLS"),
    absent("client-cert-file", Kind::Text, "", "TLS"),
    absent("client-key-file", Kind::Text, "", "TLS"),
    absent("client-crl-file", Kind::Text, "", "TLS"),
    absent("client-cert-allowed-hostname", Kind::List, "", "TLS"),
    absent("trusted-ca-file", Kind::Text, "", "TLS"),
    absent("auto-tls", Kind::Switch, "false", "TLS"),
    absent("peer-cert-file", Kind::Text, "", "TLS"),
    absent("peer-key-file", Kind::Text, "", "TLS"),
    absent("peer-client-cert-auth", Kind::Switch, "false", "TLS"),
    absent("peer-client-cert-file", Kind::Text, "", "TLS"),
    absent("peer-client-key-file", Kind::Text, "", "TLS"),
    absent("peer-trusted-ca-file", Kind::Text, "", "TLS"),
    absent("peer-crl-file", Kind::Text, "", "TLS"),
    absent("peer-cert-allowed-cn", Kind::List, "", "TLS"),
    absent("peer-cert-allowed-hostname", Kind::List, "", "TLS"),
    absent("peer-auto-tls", Kind::Switch, "false", "TLS"),
    absent("listen-client-http-urls", Kind::Urls, "", "HTTP side"),
    absent("listen-metrics-urls", Kind::Urls, "", "HTTP side"),
    absent("metrics", Kind::Text, "basic", "metrics"),
    absent("enable-pprof", Kind::Switch, "false", "HTTP side"),
    absent(
        "enable-distributed-tracing",
        Kind::Switch,
        "false",
        "traces",
    ),
    absent(
        "experimental-enable-distributed-tracing",
        Kind::Switch,
        "false",
        "traces",
    ),
    absent("logger", Kind::Text, "zap", "log but zap's"),
    absent(
        "enable-log-rotation",
        Kind::Switch,
        "false",
        "rotation of its log",
    ),
    absent("socket-reuse-port", Kind::Switch, "false", "shared ports"),
    absent("discovery", Kind::Text, "", DISCOVERY),
    absent("discovery-token", Kind::Text, "", DISCOVERY),
    absent("discovery-endpoints", Kind::List, "", DISCOVERY),
    absent("discovery-proxy", Kind::Text, "", DISCOVERY),
    absent("discovery-fallback", Kind::Text, "exit", DISCOVERY),
];

/// What giving a flag does.
pub enum Meaning {
    /// Sets the option of this name.
    Sets(&'static str),
    /// Nothing, for this reason.
    ChangesNothing(&'static str),
    /// Asks for what this version lacks, unless its value is `off`.
    AsksFor {
        /// See [`Absent::off`].
        off: &'static str,
        /// See [`Absent::what`].
        what: &'static str,
    },
}

/// The flag of a name or an alias: the name as written, how its value is written, and what it does.
pub fn find(name: &str) -> Option<(&'static str, Kind, Meaning)> {
    every().find(|(known, ..)| *known == name)
}

/// Every name that can be given.
pub fn every() -> impl Iterator<Item = (&'static str, Kind, Meaning)> {
    let named = FLAGS.iter().flat_map(|flag| {
        let names = std::iter::once(&flag.name).chain(flag.aliases);
        names.map(|name| (*name, flag.kind, Meaning::Sets(flag.name)))
    });
    let moot = MOOT
        .iter()
        .map(|moot| (moot.name, moot.kind, Meaning::ChangesNothing(moot.why)));
    let absent = ABSENT.iter().map(|absent| {
        let Absent { off, what, .. } = *absent;
        (absent.name, absent.kind, Meaning::AsksFor { off, what })
    });
    named.chain(moot).chain(absent)
}
