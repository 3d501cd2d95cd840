//! What happens to the keys of one queue from a revision on, over a stream of its own that is not opened again: whoever reads this
//! reads the keys themselves first, and again whenever it ends.

use keystead_proto::etcdserverpb::watch_create_request::FilterType;
use keystead_proto::etcdserverpb::watch_request::RequestUnion;
use keystead_proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use keystead_proto::mvccpb::Event;
use tonic::Code;

use crate::channel::{Receiver, Sender, rpc};
use crate::client::Client;
use crate::error::{Error, Kind, Result};
use crate::key_range::KeyRange;

/// The changes of some keys.
pub(crate) struct Changes {
    client: Client,
    /// Both halves keep the stream.
    _sender: Sender<WatchRequest>,
    receiver: Receiver<WatchResponse>,
}

/// What comes next.
pub(crate) enum Change {
    /// In the order of their revisions; none when the server had something else to say.
    Events(Vec<Event>),
    /// The history from the revision on is not there any more: the keys have to be read again.
    Compacted,
}

impl Changes {
    /// The changes of `keys` at `revision` and later, without the kinds that `filters` names.
    pub(crate) async fn open(
        client: &Client,
        keys: KeyRange,
        revision: i64,
        filters: &[FilterType],
    ) -> Result<Changes> {
        let options = client.call_options();
        let (mut sender, receiver) = client.channel().open(&rpc::WATCH, &options).await?;
        let keys = client.keys().range(keys);
        sender.send(&WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
                key: keys.key,
                range_end: keys.end,
                start_revision: revision,
                filters: filters.iter().map(|&filter| filter.into()).collect(),
                ..WatchCreateRequest::default()
            })),
        });
        Ok(Changes {
            client: client.clone(),
            _sender: sender,
            receiver,
        })
    }

    /// Waits for the next changes. Loses nothing when it is dropped.
    ///
    /// # Errors
    /// `PermissionDenied`: the watch was refused. Otherwise what ended the stream.
    pub(crate) async fn next(&mut self) -> Result<Change> {
        let Some(answer) = self.receiver.next().await? else {
            return Err(Error::garbled("the watch ended without a word"));
        };
        if answer.compact_revision > 0 {
            return Ok(Change::Compacted);
        }
        if answer.canceled {
            let reason = answer.cancel_reason;
            return Err(Error::local(
                Kind::PermissionDenied,
                Code::PermissionDenied,
                reason,
            ));
        }
        let mut events = answer.events;
        for kv in events.iter_mut().filter_map(|event| event.kv.as_mut()) {
            self.client.keys().strip(&mut kv.key);
        }
        Ok(Change::Events(events))
    }
}

/// Waits for the removal of one of `keys` at `revision` or later, or for the time to look again.
///
/// # Errors
/// Those of [`Changes`].
pub(crate) async fn until_deleted(client: &Client, keys: KeyRange, revision: i64) -> Result<()> {
    until(client, keys, revision, FilterType::Noput).await
}

/// The same for a write.
///
/// # Errors
/// Those of [`Changes`].
pub(crate) async fn until_written(client: &Client, keys: KeyRange, revision: i64) -> Result<()> {
    until(client, keys, revision, FilterType::Nodelete).await
}

async fn until(client: &Client, keys: KeyRange, revision: i64, not: FilterType) -> Result<()> {
    let mut changes = Changes::open(client, keys, revision, &[not]).await?;
    loop {
        match changes.next().await? {
            Change::Events(events) if events.is_empty() => {}
            Change::Events(_) | Change::Compacted => return Ok(()),
        }
    }
}
