//! `del`: removes keys.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use keystead_client::Delete;

use crate::commands::get::key_range;
use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::go_text::quote;
use crate::output::answer::Answer;

/// So long whoever forgot that a second word is the end of a range may think it over.
const SECOND_THOUGHTS: Duration = Duration::from_secs(2);

/// Removes a key, or a range of keys
#[derive(Args)]
#[command(after_help = "Example: keystead del sessions/ --prefix")]
pub struct Del {
    /// The key, and the first one after the range
    #[arg(value_names = ["KEY", "RANGE_END"], num_args = 0..)]
    words: Vec<OsString>,
    /// Remove every key that begins so
    #[arg(long)]
    prefix: bool,
    /// Print the keys as they were
    #[arg(long)]
    prev_kv: bool,
    /// Remove every key from this one on
    #[arg(long)]
    from_key: bool,
    /// Remove a range without waiting for second thoughts
    #[arg(long)]
    range: bool,
}

impl Del {
    pub async fn run(self, context: Context) -> Result<()> {
        let delete = self.delete().await?;
        let result = context.client.delete_with(delete).await?;
        context.print(&Answer::Delete(&result))
    }

    /// What to remove. Waits a while where a range was named without `--range`.
    ///
    /// # Errors
    /// The arguments contradict each other.
    pub async fn delete(&self) -> Result<Delete> {
        let (key, end) = match &self.words[..] {
            [key] => (key, None),
            [key, end] => (key, Some(end)),
            _ => {
                return Err(Failure::arguments(
                    "del command needs one argument as key and an optional argument as range_end",
                ));
            }
        };
        let keys = key_range(key, end, self.prefix, self.from_key)?;
        if end.is_some() && !self.range {
            anstream::eprintln!(
                "Warning: Keys between {} and {} will be deleted. Please interrupt the command within next 2 seconds to cancel. \
                 You can provide `--range` flag to avoid the delay.",
                quote(&keys.key),
                quote(&keys.end)
            );
            tokio::time::sleep(SECOND_THOUGHTS).await;
        }
        Ok(Delete {
            keys,
            prev_kv: self.prev_kv,
        })
    }
}
