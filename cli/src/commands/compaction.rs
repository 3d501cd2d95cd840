//! `compaction`: forgets history.

use clap::Args;
use keystead_client::Compact;

use crate::context::Context;
use crate::failure::{Exit, Failure, Result};

/// Forgets the history before a revision
#[derive(Args)]
#[command(after_help = "Example: keystead compaction 1000")]
pub struct Compaction {
    /// The revision
    #[arg(value_name = "REVISION", num_args = 0.., allow_negative_numbers = true)]
    words: Vec<String>,
    /// Wait until the history is gone from the store, too
    #[arg(long)]
    physical: bool,
}

impl Compaction {
    pub async fn run(self, context: Context) -> Result<()> {
        let [revision] = &self.words[..] else {
            return Err(Failure::arguments("compaction command needs 1 argument"));
        };
        let revision = revision
            .parse()
            .map_err(|why| Failure::new(Exit::Error, format!("{revision:?}: {why}")))?;
        let compact = Compact {
            revision,
            physical: self.physical,
        };
        context.client.compact(compact).await?;
        context
            .printer
            .line(&format!("compacted revision {revision}"))
    }
}
