//! The facts that every transaction of the flusher writes beside its rows: where the store stands on disk.
//!
//! One record, so that they can't disagree with each other (drawn in FORMAT.md).

use bytes::Bytes;

use crate::{Revision, StorageError};

/// The version of the stored format that this code writes and reads.
pub(crate) const FORMAT: u32 = 1;

const HEAD_BYTES: usize = 8;
const FACTS_BYTES: usize = 45;

/// Where the store stands on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Durable {
    /// The last revision whose rows are in the history.
    pub revision: i64,
    /// Nothing below this revision can be read.
    pub compacted: i64,
    /// Every row that a compaction at this revision names is gone.
    pub physically_compacted: i64,
    /// Where physical compaction goes on.
    pub walk: Revision,
    /// The position of the last flushed entry in the log.
    pub position: u64,
    /// What the caller sealed that entry with.
    pub applied: Option<Bytes>,
}

/// The durable facts can't be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DurableError {
    #[error("format {0}")]
    Newer(u32),
    #[error("the record is damaged")]
    Damaged,
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<DurableError> for StorageError {
    fn from(error: DurableError) -> Self {
        match error {
            DurableError::Storage(error) => error,
            other => Self::Lmdb(format!("the record of what is durable: {other}")),
        }
    }
}

impl Durable {
    /// An empty store's.
    pub(crate) fn fresh() -> Self {
        let (compacted, physically_compacted) = (-1, -1);
        Self {
            revision: 1,
            compacted,
            physically_compacted,
            walk: Revision::new(0, 0),
            position: 0,
            applied: None,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(
            HEAD_BYTES + FACTS_BYTES + self.applied.as_ref().map_or(0, Bytes::len),
        );
        out.extend_from_slice(&FORMAT.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        for number in [
            self.revision,
            self.compacted,
            self.physically_compacted,
            self.walk.main,
        ] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.walk.sub.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
        out.push(self.applied.is_some().into());
        out.extend_from_slice(self.applied.as_deref().unwrap_or_default());
        let crc = crc32c::crc32c(&out[HEAD_BYTES..]);
        out[4..HEAD_BYTES].copy_from_slice(&crc.to_be_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DurableError> {
        let mut rest = bytes;
        let format = u32::from_be_bytes(take(&mut rest)?);
        if format > FORMAT {
            return Err(DurableError::Newer(format));
        }
        let crc = u32::from_be_bytes(take(&mut rest)?);
        if format != FORMAT || crc32c::crc32c(rest) != crc {
            return Err(DurableError::Damaged);
        }
        let mut number = || Ok::<_, DurableError>(i64::from_be_bytes(take(&mut rest)?));
        let (revision, compacted, physically_compacted, main) =
            (number()?, number()?, number()?, number()?);
        let walk = Revision::new(main, u32::from_be_bytes(take(&mut rest)?));
        let position = u64::from_be_bytes(take(&mut rest)?);
        let [has_applied] = take(&mut rest)?;
        let applied = (has_applied != 0).then(|| Bytes::copy_from_slice(rest));
        Ok(Self {
            revision,
            compacted,
            physically_compacted,
            walk,
            position,
            applied,
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], DurableError> {
    let (head, after) = rest.split_first_chunk::<N>().ok_or(DurableError::Damaged)?;
    *rest = after;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Durable {
        let applied = Some(Bytes::from_static(b"blob"));
        Durable {
            revision: 9,
            compacted: 5,
            physically_compacted: 4,
            walk: Revision::new(4, 2),
            position: 77,
            applied,
        }
    }

    #[test]
    fn facts_come_back_as_they_were_stored() {
        for facts in [
            facts(),
            Durable::fresh(),
            Durable {
                applied: Some(Bytes::new()),
                ..facts()
            },
        ] {
            assert_eq!(Durable::decode(&facts.encode()).expect("decodes"), facts);
        }
    }

    #[test]
    fn damage_is_told_from_a_newer_format() {
        let mut bytes = facts().encode();
        bytes[20] ^= 1;
        assert!(matches!(
            Durable::decode(&bytes),
            Err(DurableError::Damaged)
        ));
        bytes[3] = 2;
        assert!(matches!(
            Durable::decode(&bytes),
            Err(DurableError::Newer(2))
        ));
        assert!(matches!(
            Durable::decode(&bytes[..3]),
            Err(DurableError::Damaged)
        ));
    }
}
