//! The limit on open files of the process. The node asks it how many connections may be open, so that thousands of them leave the log
//! and the store the files that they need: a log that can't open its next segment ends the member.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files kept for the member itself, as in etcd.
const OWN_FILES: u64 = 150;
/// Files that the runtime of a shard has open, and some more.
const SHARD_FILES: u64 = 8;

/// Raises the limit as far as the system lets it, as every Go program does, and gives the most connections that may be open.
///
/// # Errors
/// The limit is too low for a member.
pub fn most_connections(shards: usize) -> io::Result<usize> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit on open files could not be raised");
    }
    beside_our_own(getrlimit(Resource::Nofile).current, shards)
}

/// `limit` is the number of files; none is no limit.
fn beside_our_own(limit: Option<u64>, shards: usize) -> io::Result<usize> {
    let limit = limit.unwrap_or(u64::MAX);
    let own = OWN_FILES + SHARD_FILES * shards as u64;
    match limit.checked_sub(own) {
        None | Some(0) => Err(io::Error::other(format!(
            "the limit on open files is {limit}, and the member needs more than {own}; raise it with ulimit -n"
        ))),
        Some(connections) => Ok(usize::try_from(connections).unwrap_or(usize::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_the_member_its_own_files() {
        assert_eq!(beside_our_own(Some(1024), 2).expect("enough"), 858);
        assert!(beside_our_own(None, 2).expect("enough") > 1 << 30);
        assert!(beside_our_own(Some(166), 2).is_err());
    }
}
