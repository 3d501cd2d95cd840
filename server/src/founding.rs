//! What a member with a new data directory was told of its cluster: who founds it, and under which ids. Asked by the node. Afterwards the
//! directory says who the member is, and what it is told about the beginning is not looked at, as in etcd.

use std::collections::BTreeMap;

use keystead_proto::etcdserverpb::Member;
use keystead_raft::{Identity, Roster};

use crate::config::{Config, Discovery};
use crate::discovery::{self, DiscoveryError};
use crate::identity;

/// Why no cluster is founded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoundingError {
    /// It is to join one, and nobody says who is in it.
    #[error(
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs: does a member \
         of the cluster run at one of the addresses in --initial-cluster?"
    )]
    NobodyAnswers,
    /// It is to join one that has more or fewer members than it was told.
    #[error(
        "error validating peerURLs: member count is unequal: --initial-cluster has {listed}, and the cluster {existing}; add the \
         member first"
    )]
    MemberCount {
        /// Members in the list.
        listed: usize,
        /// Members of the cluster.
        existing: usize,
    },
    /// It is to join one whose members have other addresses than it was told.
    #[error("error validating peerURLs: unmatched member while checking PeerURLs ({0:?})")]
    Unmatched(Vec<String>),
    /// It was in the cluster before, and has lost what it knew.
    #[error(
        "member {0:x} has already been bootstrapped: a member that lost its data directory is removed and added anew, \
         with --initial-cluster-state=existing"
    )]
    Bootstrapped(u64),
    /// DNS does not name its cluster.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// The list of founders has something that is none.
    #[error("--initial-cluster: {0:?} is not name=url")]
    NotAMember(String),
    /// It is not among the founders.
    #[error("couldn't find local name {0:?} in the initial cluster configuration")]
    NotNamed(String),
    /// Two founders have one address.
    #[error("initial cluster {0} has duplicate url")]
    DuplicateUrl(String),
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
    /// DNS leads to this member at more or fewer addresses than it would tell.
    #[error("{}", other_records(.name, .found, .advertised))]
    OtherRecords {
        /// The member.
        name: String,
        /// Where the records lead to it.
        found: Vec<String>,
        /// What is advertised.
        advertised: Vec<String>,
    },
}

/// In etcd's words.
fn other_records(name: &str, found: &[String], advertised: &[String]) -> String {
    let missing = |from: &[String], other: &[String]| -> Vec<String> {
        let urls = from.iter().filter(|url| !other.contains(url));
        urls.cloned().collect()
    };
    let quoted = |urls: &[String]| {
        let urls: Vec<_> = urls.iter().map(|url| format!("{url:?}")).collect();
        format!("len([{}])", urls.join(" "))
    };
    let why = format!("{} != {}", quoted(advertised), quoted(found));
    let (listed, told) = (list(name, found), advertised.join(","));
    let (not_told, not_listed) = (missing(found, advertised), missing(advertised, found));
    if !not_told.is_empty() {
        let not_told = list(name, &not_told);
        format!(
            "--initial-cluster has {not_told} but missing from --initial-advertise-peer-urls={told} ({why})"
        )
    } else if !not_listed.is_empty() {
        let not_listed = not_listed.join(",");
        format!(
            "--initial-advertise-peer-urls has {not_listed} but missing from --initial-cluster={listed}"
        )
    } else {
        let told_as_list = list(name, advertised);
        format!("failed to resolve {told} to match --initial-cluster={told_as_list} ({why})")
    }
}

/// A member as `--initial-cluster` lists it.
fn list(name: &str, urls: &[String]) -> String {
    let urls: Vec<_> = urls.iter().map(|url| format!("{name}={url}")).collect();
    urls.join(",")
}

/// A cluster in its beginning, the same for all that found it; or one that has begun, and is joined.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Founding {
    /// Which of them this is.
    pub(crate) identity: Identity,
    /// All of them, by id; none where the cluster has begun.
    pub(crate) founders: Vec<Member>,
}

/// The cluster that the member founds, alone or with others.
///
/// # Errors
/// See [`FoundingError`].
pub(crate) fn found(config: &Config) -> Result<Founding, FoundingError> {
    if config.name.is_empty() {
        return Err(FoundingError::NotNamed(String::new()));
    }
    let named = listed(config)?;
    let founder = |(name, peer_urls): (&String, &Vec<String>)| Member {
        id: identity::member_id(peer_urls, &config.cluster_token),
        // DNS tells each founder other names for the others, and all must begin with the same.
        name: match &config.discovery {
            Some(_) => String::new(),
            None => name.clone(),
        },
        peer_urls: peer_urls.clone(),
        ..Member::default()
    };
    let mut founders: Vec<_> = named.iter().map(founder).collect();
    founders.sort_unstable_by_key(|founder| founder.id);
    let ids: Vec<_> = founders.iter().map(|founder| founder.id).collect();
    Ok(Founding {
        identity: Identity {
            cluster_id: identity::cluster_id(&ids),
            member_id: identity::member_id(&named[&config.name], &config.cluster_token),
        },
        founders,
    })
}

/// The peer URLs of the founders beside this one.
pub(crate) fn others(founding: &Founding) -> Vec<String> {
    let me = founding.identity.member_id;
    let others = founding.founders.iter().filter(|founder| founder.id != me);
    others
        .flat_map(|founder| founder.peer_urls.clone())
        .collect()
}

/// Whether the cluster that answers has not seen this member start before.
///
/// # Errors
/// [`FoundingError::Bootstrapped`].
pub(crate) fn is_new(founding: &Founding, roster: &Roster) -> Result<(), FoundingError> {
    let me = founding.identity.member_id;
    let mut members = roster.members.iter();
    match members.find(|member| member.id == me) {
        Some(member) if !member.client_urls.is_empty() => Err(FoundingError::Bootstrapped(me)),
        _ => Ok(()),
    }
}

/// The place of a member in a cluster that runs and to which it was added: the one whose peer URLs it has. `ask` gives
/// what a member at one of the others' peer URLs says, of one that agrees with the list and has a new member there if there
/// is one: who lags behind may still know the member that was removed from that place.
///
/// # Errors
/// See [`FoundingError`].
pub(crate) fn join(
    config: &Config,
    ask: impl FnOnce(&[String], &dyn Fn(&Roster) -> bool) -> Option<Roster>,
) -> Result<Founding, FoundingError> {
    let named = listed(config)?;
    let others = named.iter().filter(|(name, _)| **name != config.name);
    let others: Vec<_> = others.flat_map(|(_, urls)| urls.clone()).collect();
    let placed = |roster: &Roster| {
        let founding = Founding {
            identity: place(config, &named, roster)?,
            founders: Vec::new(),
        };
        is_new(&founding, roster)?;
        Ok(founding)
    };
    let agrees = |roster: &Roster| placed(roster).is_ok();
    let roster = ask(&others, &agrees).ok_or(FoundingError::NobodyAnswers)?;
    placed(&roster)
}

/// Who the member is by the roster, which must have the same members as the list.
fn place(
    config: &Config,
    named: &BTreeMap<String, Vec<String>>,
    roster: &Roster,
) -> Result<Identity, FoundingError> {
    if roster.members.len() != named.len() {
        return Err(FoundingError::MemberCount {
            listed: named.len(),
            existing: roster.members.len(),
        });
    }
    let id_of = |urls: &Vec<String>| {
        let mut members = roster.members.iter();
        let found = members.find(|member| {
            let mut theirs = member.peer_urls.clone();
            theirs.sort_unstable();
            theirs == *urls
        });
        let found = found.ok_or_else(|| FoundingError::Unmatched(urls.clone()));
        found.map(|member| member.id)
    };
    for urls in named.values() {
        id_of(urls)?;
    }
    Ok(Identity {
        cluster_id: roster.cluster_id,
        member_id: id_of(&named[&config.name])?,
    })
}

/// The peer URLs of each founder, sorted, by name; this one is among them.
fn listed(config: &Config) -> Result<BTreeMap<String, Vec<String>>, FoundingError> {
    let named = match &config.discovery {
        Some(discovery) => found_by_dns(config, discovery)?,
        None => named(config)?,
    };
    let mut urls: Vec<_> = named.values().flatten().collect();
    let count = urls.len();
    urls.sort_unstable();
    urls.dedup();
    if urls.len() < count {
        let list: Vec<_> = named.iter().map(|(name, urls)| list(name, urls)).collect();
        return Err(FoundingError::DuplicateUrl(list.join(",")));
    }
    Ok(named)
}

/// The same as DNS names them. A founder is reached at all that it advertises, and nowhere else; who joins is known already.
fn found_by_dns(
    config: &Config,
    discovery: &Discovery,
) -> Result<BTreeMap<String, Vec<String>>, FoundingError> {
    let named = discovery::find(config, discovery)?;
    let (found, advertised) = (&named[&config.name], &config.advertise_peer_urls);
    if !config.joins && found.len() != advertised.len() {
        return Err(FoundingError::OtherRecords {
            name: config.name.clone(),
            found: found.clone(),
            advertised: advertised.clone(),
        });
    }
    Ok(named)
}

/// The same as the configuration lists them.
fn named(config: &Config) -> Result<BTreeMap<String, Vec<String>>, FoundingError> {
    let mut named: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let Some(list) = &config.initial_cluster else {
        named.insert(config.name.clone(), config.advertise_peer_urls.clone());
        return Ok(named);
    };
    let entries = list.split(',').map(str::trim);
    for entry in entries.filter(|entry| !entry.is_empty()) {
        let (name, url) = entry
            .split_once('=')
            .ok_or_else(|| FoundingError::NotAMember(entry.to_owned()))?;
        named
            .entry(name.to_owned())
            .or_default()
            .push(url.to_owned());
    }
    named.values_mut().for_each(|urls| urls.sort_unstable());
    let Some(own) = named.get(&config.name) else {
        return Err(FoundingError::NotNamed(config.name.clone()));
    };
    if *own != config.advertise_peer_urls {
        return Err(FoundingError::OtherUrls {
            listed: self::list(&config.name, own),
            advertised: config.advertise_peer_urls.join(","),
        });
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn founded(list: &str) -> Result<Founding, FoundingError> {
        found(&Config {
            initial_cluster: Some(list.to_owned()),
            ..Config::default()
        })
    }

    #[test]
    fn a_list_of_founders_must_have_the_member_as_it_is_known_to_others() {
        let alone = found(&Config::default()).expect("founded");
        assert_eq!(alone.founders.len(), 1);
        assert_eq!(founded("default=http://localhost:2380"), Ok(alone));
        for (list, error) in [
            ("http://localhost:2380", "is not name=url"),
            ("", "couldn't find local name"),
            ("default=http://127.0.0.1:2380", "make them equal"),
            ("m1=http://localhost:2380", "couldn't find local name"),
            (
                "default=http://localhost:2380,m1=http://localhost:2380",
                "has duplicate url",
            ),
            (
                "default=http://localhost:9",
                "default=http://localhost:9 but missing",
            ),
        ] {
            let refused = founded(list).expect_err("refused").to_string();
            assert!(refused.contains(error), "{list}: {refused}");
        }
    }

    fn roster(members: &[(u64, &str, &str)]) -> Roster {
        let member = |(id, peer_url, client_url): &(u64, &str, &str)| Member {
            id: *id,
            peer_urls: vec![(*peer_url).to_owned()],
            client_urls: Vec::from_iter((!client_url.is_empty()).then(|| (*client_url).to_owned())),
            ..Member::default()
        };
        Roster {
            cluster_id: 0xc1,
            members: members.iter().map(member).collect(),
        }
    }

    #[test]
    fn a_member_joins_under_the_id_that_it_was_added_with() {
        let (ours, theirs) = ("http://localhost:2380", "http://one:2380");
        let config = Config {
            initial_cluster: Some(format!("default={ours},m1={theirs}")),
            ..Config::default()
        };
        let joined = |answers: &[&Roster]| {
            join(&config, |others, agrees| {
                assert_eq!(others, [theirs]);
                let fitting = answers.iter().find(|roster| agrees(roster));
                fitting.or(answers.first()).copied().cloned()
            })
        };
        let both = roster(&[(7, theirs, "http://one:2379"), (9, ours, "")]);
        let not_added = roster(&[(7, theirs, "")]);
        let elsewhere = roster(&[(7, theirs, ""), (9, "http://other:1", "")]);
        let predecessor = roster(&[(7, theirs, ""), (8, ours, "http://localhost:2379")]);
        for behind in [None, Some(&not_added), Some(&elsewhere), Some(&predecessor)] {
            let answers = Vec::from_iter(behind.into_iter().chain([&both]));
            let place = joined(&answers).expect("joined");
            assert_eq!(
                (place.identity.cluster_id, place.identity.member_id),
                (0xc1, 9)
            );
            assert_eq!(place.founders, []);
        }
        for (answers, error) in [
            (&[][..], "could not retrieve cluster information"),
            (&[&not_added], "member count is unequal"),
            (&[&elsewhere], "unmatched member while checking PeerURLs"),
            (&[&predecessor], "member 8 has already been bootstrapped"),
        ] {
            let refused = joined(answers).expect_err("refused").to_string();
            assert!(refused.contains(error), "{refused}");
        }
    }

    #[test]
    fn a_founder_that_was_there_before_does_not_found_again() {
        let founding =
            founded("default=http://localhost:2380,m1=http://one:2380").expect("founded");
        assert_eq!(others(&founding), ["http://one:2380"]);
        let me = founding.identity.member_id;
        let first = roster(&[
            (me, "http://localhost:2380", ""),
            (7, "http://one:2380", ""),
        ]);
        assert_eq!(is_new(&founding, &first), Ok(()));
        let again = roster(&[(me, "http://localhost:2380", "http://localhost:2379")]);
        assert_eq!(
            is_new(&founding, &again),
            Err(FoundingError::Bootstrapped(me))
        );
    }

    /// As etcd 3.6 derives them from the same flags.
    #[test]
    fn founders_have_etcds_ids_in_whatever_order_they_are_listed() {
        let three = "infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,default=http://localhost:2380";
        let founding = founded(three).expect("founded");
        let ids: Vec<_> = founding.founders.iter().map(|founder| founder.id).collect();
        assert!(ids.is_sorted());
        assert_eq!(founding.identity.member_id, 0x8e9e_05c5_2164_694d);
        let mut turned: Vec<_> = three.split(',').collect();
        turned.reverse();
        assert_eq!(founded(&turned.join(",")), Ok(founding));
    }
}
