//! Waits until one key is removed. Whoever waits reads again afterwards: this says that it is time to, and no more.

use bytes::Bytes;
use keystead_proto::etcdserverpb::watch_create_request::FilterType;
use keystead_proto::etcdserverpb::watch_request::RequestUnion;
use keystead_proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use tonic::Code;

use crate::channel::rpc;
use crate::client::Client;
use crate::error::{Error, Kind, Result};

/// Waits for the removal of `key` at `revision` or later.
///
/// # Errors
/// The stream ended, or the watch was refused.
pub(super) async fn until_deleted(client: &Client, key: Bytes, revision: i64) -> Result<()> {
    let options = client.call_options();
    let opened = client.channel().open(&rpc::WATCH, &options);
    let (mut sender, mut receiver) = opened.await?;
    sender.send(&WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
            key: client.keys().key(key),
            start_revision: revision,
            filters: vec![FilterType::Noput.into()],
            ..WatchCreateRequest::default()
        })),
    });
    while let Some(answer) = receiver.next().await? {
        // The revision may have been compacted: then what happened since has to be read.
        if !answer.events.is_empty() || answer.compact_revision > 0 {
            return Ok(());
        }
        if answer.canceled {
            let reason = answer.cancel_reason;
            return Err(Error::local(
                Kind::PermissionDenied,
                Code::PermissionDenied,
                reason,
            ));
        }
    }
    Err(Error::garbled("the watch ended without a word"))
}
