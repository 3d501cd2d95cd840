//! The ids of members and clusters, derived as etcd derives them, so that the same flags give the same ids.

use sha1::{Digest, Sha1};

/// The id of a member that founds a cluster: of its sorted peer URLs and the cluster's token.
pub fn member_id(peer_urls: &[String], cluster_token: &str) -> u64 {
    let mut sorted: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    sorted.iter().for_each(|url| hash.update(url));
    hash.update(cluster_token);
    first_eight(hash)
}

/// The id of a member that is added to a running cluster: of its sorted peer URLs and the time in seconds.
pub fn added_member_id(peer_urls: &[String], unix_secs: u64) -> u64 {
    member_id(peer_urls, &unix_secs.to_string())
}

/// The id of a cluster: of the ids of the members that found it.
pub fn cluster_id(member_ids: &[u64]) -> u64 {
    let mut sorted = member_ids.to_vec();
    sorted.sort_unstable();
    let mut hash = Sha1::new();
    sorted.iter().for_each(|id| hash.update(id.to_be_bytes()));
    first_eight(hash)
}

fn first_eight(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    let (first, _) = digest
        .split_first_chunk::<8>()
        .expect("SHA-1 has twenty bytes");
    u64::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_member_has_the_ids_that_every_default_etcd_has() {
        let id = member_id(&["http://localhost:2380".into()], "etcd-cluster");
        assert_eq!(id, 0x8e9e_05c5_2164_694d);
        assert_eq!(cluster_id(&[id]), 0xcdf8_1819_4e3a_8c32);
    }

    #[test]
    fn the_order_of_urls_does_not_matter() {
        let (a, b) = ("http://a:1".to_owned(), "http://b:1".to_owned());
        assert_eq!(
            member_id(&[a.clone(), b.clone()], "t"),
            member_id(&[b, a], "t")
        );
    }
}
