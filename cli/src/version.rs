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
