//! What a member with a new data directory must have been told of its cluster: that it is alone in it. Asked by the node. Afterwards the
//! directory says who the member is, and what it is told about the beginning is not looked at, as in etcd.

use crate::config::Config;

/// Why no cluster is founded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoundingError {
    /// It is to join one.
    #[error(
        "--initial-cluster-state=existing: this version runs single members and can't join a cluster; use new"
    )]
    Joins,
    /// The list of founders has something that is none.
    #[error("--initial-cluster: {0:?} is not name=url")]
    NotAMember(String),
    /// It is not among the founders.
    #[error("couldn't find local name {0:?} in the initial cluster configuration")]
    NotNamed(String),
    /// There are others.
    #[error("--initial-cluster names {0:?} too: this version runs single members")]
    Others(String),
    /// The list has other addresses than it would tell.
    #[error(
        "--initial-cluster has {listed} but missing from --initial-advertise-peer-urls={advertised}; make them equal"
    )]
    OtherUrls {
        /// What the list has, with names.
        listed: String,
        /// What is advertised.
        advertised: String,
    },
}

/// Whether the member may found a cluster of its own.
///
/// # Errors
/// See [`FoundingError`].
pub(crate) fn check(config: &Config) -> Result<(), FoundingError> {
    if config.joins {
        return Err(FoundingError::Joins);
    }
    if config.name.is_empty() {
        return Err(FoundingError::NotNamed(String::new()));
    }
    let Some(list) = &config.initial_cluster else {
        return Ok(());
    };
    let (mut own, mut others) = (Vec::new(), Vec::new());
    let entries = list.split(',').map(str::trim);
    for entry in entries.filter(|entry| !entry.is_empty()) {
        let (name, url) = entry
            .split_once('=')
            .ok_or_else(|| FoundingError::NotAMember(entry.to_owned()))?;
        if name == config.name {
            own.push(url);
        } else {
            others.push(name);
        }
    }
    if own.is_empty() {
        return Err(FoundingError::NotNamed(config.name.clone()));
    }
    if let Some(other) = others.first() {
        return Err(FoundingError::Others((*other).to_owned()));
    }
    own.sort_unstable();
    own.dedup();
    if own == config.advertise_peer_urls {
        return Ok(());
    }
    let listed: Vec<_> = own
        .iter()
        .map(|url| format!("{}={url}", config.name))
        .collect();
    Err(FoundingError::OtherUrls {
        listed: listed.join(","),
        advertised: config.advertise_peer_urls.join(","),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(list: &str) -> Result<(), FoundingError> {
        check(&Config {
            initial_cluster: Some(list.to_owned()),
            ..Config::default()
        })
    }

    #[test]
    fn a_member_founds_a_cluster_of_itself_alone() {
        assert_eq!(check(&Config::default()), Ok(()));
        assert_eq!(checked("default=http://localhost:2380"), Ok(()));
        for (list, error) in [
            ("http://localhost:2380", "is not name=url"),
            ("", "couldn't find local name"),
            ("default=http://127.0.0.1:2380", "make them equal"),
            ("m1=http://localhost:2380", "couldn't find local name"),
            (
                "default=http://localhost:2380,m1=http://localhost:3380",
                "names \"m1\" too",
            ),
            (
                "default=http://localhost:9",
                "default=http://localhost:9 but missing",
            ),
        ] {
            let refused = checked(list).expect_err("refused").to_string();
            assert!(refused.contains(error), "{list}: {refused}");
        }
        let joins = Config {
            joins: true,
            ..Config::default()
        };
        assert_eq!(check(&joins), Err(FoundingError::Joins));
    }
}
