//! Compaction as far as it is replicated: from which revision on history can be read. That the rows below go is the
//! store's business, later and at its own pace.

use keystead_mvcc::{ReadError, Writer};
use keystead_proto::etcdserverpb::{CompactionRequest, CompactionResponse};

use crate::Refusal;
use crate::apply::header;
use crate::fatal::Stop;

/// Compacts up to a revision, which stays readable. The store's own revision is allowed; what was compacted before is
/// not, so that of two equal requests the second is refused.
pub(crate) fn compact(
    writer: &mut Writer,
    request: &CompactionRequest,
) -> Result<CompactionResponse, Stop> {
    match writer.compact(request.revision) {
        Ok(()) => Ok(CompactionResponse {
            header: Some(header(writer.begin().commit())),
        }),
        Err(ReadError::Compacted) => Err(Refusal::Compacted.into()),
        Err(ReadError::Future) => Err(Refusal::FutureRevision.into()),
        Err(error) => Err(error.into()),
    }
}
