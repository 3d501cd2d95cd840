//! The flags of `serve`: etcd's names, defaults and groups, and Keystead's own. A table, read by the argument reader, the help
//! and the environment alike. It only names things; what a value means is decided where the configuration is validated.

/// How a flag's value is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Any text.
    Text,
    /// `--flag`, `--flag=true` or `--flag=false`; Go's flag package takes no separate word here.
    Switch,
    /// A whole number.
    Number,
    /// A Go duration such as `100ms` or `1h30m`.
    Duration,
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

const MEMBER: &str = "Member";
const CLUSTERING: &str = "Clustering";
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
        Kind::Text,
        "http://localhost:2379",
        "URLs to listen on for clients, comma-separated",
    ),
    flag(
        MEMBER,
        "listen-peer-urls",
        Kind::Text,
        "http://localhost:2380",
        "URLs to listen on for members, comma-separated",
    ),
    flag(
        MEMBER,
        "heartbeat-interval",
        Kind::Number,
        "100",
        "Milliseconds between heartbeats",
    ),
    flag(
        MEMBER,
        "election-timeout",
        Kind::Number,
        "1000",
        "Milliseconds without a leader before an election",
    ),
    flag(
        MEMBER,
        "quota-backend-bytes",
        Kind::Number,
        "0",
        "Bytes of data before the NOSPACE alarm: 0 is 2 GiB, negative is no limit",
    ),
    flag(
        MEMBER,
        "max-txn-ops",
        Kind::Number,
        "128",
        "Most operations in one transaction",
    ),
    flag(
        MEMBER,
        "max-request-bytes",
        Kind::Number,
        "1572864",
        "Largest request in bytes",
    ),
    flag(
        MEMBER,
        "max-concurrent-streams",
        Kind::Number,
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
        Kind::Text,
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
        "advertise-client-urls",
        Kind::Text,
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
        Kind::Text,
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
            Kind::Number,
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
    flag(
        KEYSTEAD,
        "reported-version",
        Kind::Text,
        keystead_server::REPORTED_VERSION,
        "The etcd version that this member says it is",
    ),
    flag(
        KEYSTEAD,
        "shards",
        Kind::Number,
        "0",
        "Network threads: 0 is one for each core",
    ),
    flag(
        KEYSTEAD,
        "wal-segment-bytes",
        Kind::Number,
        "67108864",
        "Size of one segment of the write-ahead log",
    ),
    flag(
        KEYSTEAD,
        "ring-bytes",
        Kind::Number,
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
        Kind::Number,
        "8388608",
        "Applied writes that go to the store's file at once",
    ),
    flag(
        KEYSTEAD,
        "checkpoint-interval",
        Kind::Duration,
        "10m",
        "How often the index is saved for a fast start",
    ),
];

/// A flag of etcd that is accepted and changes nothing here, and why that is right.
pub struct Moot {
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

/// Flags of etcd that deployments pass and that change nothing here.
pub const MOOT: &[Moot] = &[
    moot("snapshot-count", Kind::Number, NO_WAL_COUNT),
    moot("snapshot-catchup-entries", Kind::Number, NO_WAL_COUNT),
    moot(
        "experimental-snapshot-catchup-entries",
        Kind::Number,
        NO_WAL_COUNT,
    ),
    moot("max-snapshots", Kind::Number, NO_WAL_COUNT),
    moot("max-wals", Kind::Number, NO_WAL_COUNT),
    moot("backend-bbolt-freelist-type", Kind::Text, NO_BBOLT),
    moot(
        "experimental-backend-bbolt-freelist-type",
        Kind::Text,
        NO_BBOLT,
    ),
    moot("backend-batch-interval", Kind::Duration, NO_BBOLT),
    moot("backend-batch-limit", Kind::Number, NO_BBOLT),
    moot(
        "bootstrap-defrag-threshold-megabytes",
        Kind::Number,
        "defragmentation stops nobody, so it needs no start-up slot",
    ),
    moot(
        "experimental-bootstrap-defrag-threshold-megabytes",
        Kind::Number,
        "defragmentation stops nobody, so it needs no start-up slot",
    ),
    moot(
        "experimental-txn-mode-write-with-shared-buffer",
        Kind::Switch,
        NO_BBOLT,
    ),
    moot("initial-election-tick-advance", Kind::Switch, ALWAYS_ON),
    moot(
        "grpc-keepalive-min-time",
        Kind::Duration,
        "clients may ping as often as they like",
    ),
    moot("logger", Kind::Text, "zap's form is the only one"),
    moot("pre-vote", Kind::Switch, ALWAYS_ON),
    moot("cluster-active-size", Kind::Text, LEGACY),
    moot("cluster-remove-delay", Kind::Text, LEGACY),
    moot("cluster-sync-interval", Kind::Text, LEGACY),
    moot("max-result-buffer", Kind::Text, LEGACY),
    moot("max-retry-attempts", Kind::Text, LEGACY),
    moot("peer-heartbeat-interval", Kind::Text, LEGACY),
    moot("peer-election-timeout", Kind::Text, LEGACY),
    moot("retry-interval", Kind::Text, LEGACY),
    moot("snapshot", Kind::Text, LEGACY),
];
