//! The small tables: leases, alarms, members, auth. What they mean is the state machine's business.

/// One small table: sorted keys and values beside the history, changed by the same entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub u8);

impl Table {
    /// The longest key that a table takes; LMDB ends at 511 bytes. Whoever proposes a longer one is refused before.
    pub const MAX_KEY_BYTES: usize = 510;

    /// The stored key of an entry.
    pub(crate) fn stored_key(self, key: &[u8]) -> Vec<u8> {
        let mut stored = Vec::with_capacity(1 + key.len());
        stored.push(self.0);
        stored.extend_from_slice(key);
        stored
    }
}
