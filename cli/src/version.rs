//! What `--version` prints: first etcd's lines, which scripts parse, then our own.

use keystead_server::REPORTED_VERSION;

/// The lines, for the given reported version.
pub fn text(reported: Option<&str>) -> String {
    format!(
        "etcd Version: {}\nGit SHA: none\nGo Version: none\nGo OS/Arch: {}/{}\nkeystead Version: {}\n",
        reported.unwrap_or(REPORTED_VERSION),
        std::env::consts::OS,
        match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        },
        env!("CARGO_PKG_VERSION"),
    )
}

/// What `version` prints: as `etcdctl` its two lines, else those of `--version`.
pub fn of(program: &str) -> String {
    if program != "etcdctl" {
        return text(None);
    }
    let parts: Vec<&str> = REPORTED_VERSION.split('.').take(2).collect();
    let api = parts.join(".");
    format!("etcdctl version: {REPORTED_VERSION}\nAPI version: {api}\n")
}
