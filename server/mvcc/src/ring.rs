//! The recent rows, in RAM: what was not flushed yet, and as much of what was as a bound allows.
//!
//! The writer appends whole revisions before it publishes them, a large one in pieces: who reads here stops at the
//! published revision. The flusher trims after a flush. A row that is not
//! durable is never dropped, whatever the bound says. Revisions follow each other without a gap.

use std::collections::VecDeque;

use crate::{Revision, Row};

/// Room for rows is added an eighth at a time and at least this many rows: a ring that doubled would hold its bound a
/// second time in room that nobody uses.
const ROWS_STEP: usize = 1024;

/// Recent rows by revision; a look-up costs two array accesses.
pub(crate) struct Ring {
    rows: VecDeque<Row>,
    /// For each revision held, how many rows were ever appended before it.
    starts: VecDeque<u64>,
    /// How many rows were dropped from the front.
    dropped: u64,
    /// The first revision held, or the next to come.
    first: i64,
    bytes: usize,
    bound_bytes: usize,
}

impl Ring {
    /// An empty ring whose first revision will be `next`.
    pub(crate) fn new(next: i64, bound_bytes: usize) -> Self {
        let (rows, starts) = (VecDeque::new(), VecDeque::new());
        Self {
            rows,
            starts,
            dropped: 0,
            first: next,
            bytes: 0,
            bound_bytes,
        }
    }

    /// The first revision held; rows before it are in LMDB.
    pub(crate) fn first(&self) -> i64 {
        self.first
    }

    /// Appends rows that continue the history.
    pub(crate) fn append(&mut self, rows: &[Row]) {
        for row in rows {
            let next = self.first + self.starts.len() as i64;
            debug_assert!(row.revision.main == next || row.revision.main + 1 == next);
            if row.revision.main == next {
                self.starts.push_back(self.dropped + self.rows.len() as u64);
            }
            self.bytes += row.cost();
            if self.rows.len() == self.rows.capacity() {
                self.rows
                    .reserve_exact((self.rows.len() / 8).max(ROWS_STEP));
            }
            self.rows.push_back(row.clone());
        }
    }

    /// The row of `revision`, if it is held.
    pub(crate) fn get(&self, revision: Revision) -> Option<&Row> {
        let start = self
            .starts
            .get(usize::try_from(revision.main - self.first).ok()?)?;
        let row = self
            .rows
            .get((start - self.dropped) as usize + revision.sub as usize)?;
        (row.revision == revision).then_some(row)
    }

    /// The rows of `from` and after, in order, as far as they are held.
    pub(crate) fn from(&self, from: Revision) -> impl Iterator<Item = &Row> {
        let skipped = usize::try_from(from.main - self.first).unwrap_or(0);
        let start = match self.starts.get(skipped) {
            Some(start) if from.main >= self.first => {
                (start - self.dropped) as usize + from.sub as usize
            }
            Some(_) => 0,
            None => self.rows.len(),
        };
        self.rows.range(start.min(self.rows.len())..)
    }

    /// Takes the oldest durable revisions out until the bound holds or about `max` rows are out. The caller drops them
    /// without the lock.
    pub(crate) fn trim(&mut self, durable: i64, max: usize) -> Vec<Row> {
        let mut out = Vec::new();
        while self.bytes > self.bound_bytes
            && self.first <= durable
            && !self.starts.is_empty()
            && out.len() < max
        {
            self.drop_first_revision(&mut out);
        }
        out
    }

    fn drop_first_revision(&mut self, out: &mut Vec<Row>) {
        self.starts.pop_front();
        let end = self
            .starts
            .front()
            .map_or(self.rows.len(), |start| (start - self.dropped) as usize);
        for row in self.rows.drain(..end) {
            self.bytes -= row.cost();
            out.push(row);
        }
        self.dropped += end as u64;
        self.first += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(main: i64, sub: u32) -> Row {
        let payload = vec![b'x'; 100].into();
        Row {
            revision: Revision { main, sub },
            previous: None,
            tombstone: false,
            payload,
        }
    }

    fn ring(bound_bytes: usize) -> Ring {
        let mut ring = Ring::new(2, bound_bytes);
        ring.append(&[row(2, 0), row(3, 0), row(3, 1), row(3, 2)]);
        ring.append(&[row(4, 0)]);
        ring
    }

    #[test]
    fn rows_are_found_by_revision_before_and_after_trims() {
        let mut ring = ring(0);
        for durable in 1..=4 {
            ring.trim(durable, 1);
            for (main, sub) in [(2, 0), (3, 0), (3, 1), (3, 2), (4, 0)] {
                let found = ring.get(Revision { main, sub }).is_some();
                assert_eq!(
                    found,
                    main > durable,
                    "{main}.{sub} after {durable} was durable"
                );
            }
            assert!(ring.get(Revision { main: 3, sub: 3 }).is_none());
            assert!(ring.get(Revision { main: 5, sub: 0 }).is_none());
        }
        assert_eq!(ring.bytes, 0);
    }

    #[test]
    fn what_is_not_durable_is_never_dropped() {
        let mut ring = ring(0);
        assert!(ring.trim(1, 9).is_empty());
        assert_eq!(ring.trim(2, 9).len(), 1);
        assert_eq!(ring.first(), 3);
    }

    #[test]
    fn a_ring_within_its_bound_keeps_durable_rows() {
        let mut ring = ring(1 << 20);
        assert!(ring.trim(4, 9).is_empty());
        assert_eq!(ring.from(Revision::new(3, 0)).count(), 4);
        assert_eq!(ring.from(Revision::new(0, 0)).count(), 5);
        assert_eq!(ring.from(Revision::new(9, 0)).count(), 0);
    }
}
