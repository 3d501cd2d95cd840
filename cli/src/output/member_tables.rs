//! The columns of what is about members, which the simple form and the tables share.

use keystead_client::{Hash, Members, Status};

use super::answer::Health;
use crate::go_text::{duration, size};

/// Names of columns, and rows of as many cells.
pub(super) struct Table {
    pub(super) columns: &'static [&'static str],
    pub(super) rows: Vec<Vec<String>>,
}

pub(super) fn members(members: &Members) -> Table {
    let rows = members.members.iter().map(|member| {
        let started = if member.name.is_empty() {
            "unstarted"
        } else {
            "started"
        };
        vec![
            format!("{:x}", member.id),
            started.to_owned(),
            member.name.clone(),
            member.peer_urls.join(","),
            member.client_urls.join(","),
            member.is_learner.to_string(),
        ]
    });
    Table {
        columns: &[
            "ID",
            "Status",
            "Name",
            "Peer Addrs",
            "Client Addrs",
            "Is Learner",
        ],
        rows: rows.collect(),
    }
}

pub(super) fn health(endpoints: &[Health]) -> Table {
    let rows = endpoints.iter().map(|endpoint| {
        vec![
            endpoint.endpoint.clone(),
            endpoint.error.is_none().to_string(),
            duration(endpoint.took),
            endpoint.error.clone().unwrap_or_default(),
        ]
    });
    Table {
        columns: &["endpoint", "health", "took", "error"],
        rows: rows.collect(),
    }
}

pub(super) fn statuses(statuses: &[(String, Status)]) -> Table {
    let rows = statuses.iter().map(|(endpoint, status)| {
        let downgrade = status.downgrade.clone().unwrap_or_default();
        let bytes = |bytes: i64| size(bytes.max(0).unsigned_abs());
        vec![
            endpoint.clone(),
            format!("{:x}", status.header.member_id),
            status.version.clone(),
            status.storage_version.clone(),
            bytes(status.db_size_bytes),
            bytes(status.db_size_in_use_bytes),
            format!("{}%", percent_not_in_use(status)),
            bytes(status.db_size_quota_bytes),
            (status.leader == status.header.member_id).to_string(),
            status.is_learner.to_string(),
            status.raft_term.to_string(),
            status.raft_index.to_string(),
            status.raft_applied_index.to_string(),
            status.errors.join(", "),
            downgrade.target_version,
            downgrade.enabled.to_string(),
        ]
    });
    Table {
        columns: &[
            "endpoint",
            "ID",
            "version",
            "storage version",
            "db size",
            "in use",
            "percentage not in use",
            "quota",
            "is leader",
            "is learner",
            "raft term",
            "raft index",
            "raft applied index",
            "errors",
            "downgrade target version",
            "downgrade enabled",
        ],
        rows: rows.collect(),
    }
}

/// What a defragmentation would give back. A server that says it has nothing at all, which etcdctl divides by, has nothing to give.
fn percent_not_in_use(status: &Status) -> i64 {
    let in_use = status.db_size_in_use_bytes.saturating_mul(100);
    in_use
        .checked_div(status.db_size_bytes)
        .map_or(0, |percent| 100 - percent)
}

pub(super) fn hashes(hashes: &[(String, Hash)]) -> Table {
    let rows = hashes.iter().map(|(endpoint, hash)| {
        vec![
            endpoint.clone(),
            hash.hash.to_string(),
            hash.revision.to_string(),
        ]
    });
    Table {
        columns: &["endpoint", "hash", "hash_revision"],
        rows: rows.collect(),
    }
}
