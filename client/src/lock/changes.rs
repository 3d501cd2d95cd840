//! Waits for news of some keys, over the watches that the client shares. It tells that it is time to look, not what has happened:
//! whoever waits reads the keys before and after.

use crate::client::Client;
use crate::error::{Kind, Result};
use crate::key_range::KeyRange;
use crate::watch::notice::Notice;
use crate::watch::{OnGap, Watch};

/// Waits for the removal of one of `keys` at `revision` or later, or for the time to look again.
///
/// # Errors
/// The watch was refused, or could not begin within the client's deadline.
pub(crate) async fn until_deleted(client: &Client, keys: KeyRange, revision: i64) -> Result<()> {
    let watch = Watch {
        no_put: true,
        ..from(keys, revision)
    };
    until(client, watch).await
}

/// The same for a write.
///
/// # Errors
/// Those of [`until_deleted`].
pub(crate) async fn until_written(client: &Client, keys: KeyRange, revision: i64) -> Result<()> {
    let watch = Watch {
        no_delete: true,
        ..from(keys, revision)
    };
    until(client, watch).await
}

fn from(keys: KeyRange, revision: i64) -> Watch {
    Watch {
        start_revision: revision,
        on_gap: OnGap::Fail,
        ..Watch::new(keys)
    }
}

async fn until(client: &Client, watch: Watch) -> Result<()> {
    match news(client, watch).await {
        // Its history is gone, or never happened: the keys as they are say the rest.
        Err(error) if matches!(error.kind, Kind::Compacted | Kind::FutureRevision) => Ok(()),
        other => other,
    }
}

async fn news(client: &Client, watch: Watch) -> Result<()> {
    let watcher = client.watch(watch).await?;
    while let Some(notice) = watcher.next().await? {
        if matches!(notice, Notice::Events { .. }) {
            break;
        }
    }
    Ok(())
}
