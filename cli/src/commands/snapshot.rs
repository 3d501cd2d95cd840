//! `snapshot`: saves all that a member has. What is done with the file is etcdutl's.

use std::time::Duration;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};

use crate::context::Context;
use crate::failure::{Exit, Failure, Result};

/// A member that sends nothing for so long is given up where no other time was named: its first part may need a while.
const PATIENCE: Duration = Duration::from_secs(60);

/// All that a member has, as one file
#[derive(Subcommand)]
#[command(after_help = "Example: keystead snapshot save backup.db")]
pub enum Snapshot {
    /// Saves a file that `etcdutl snapshot restore` takes
    #[command(
        after_help = "Example: keystead snapshot save /backup/$(date +%F).db && etcdutl snapshot status /backup/$(date +%F).db"
    )]
    Save {
        /// The file, which appears when all of it is on the disk
        #[arg(value_name = "FILE", num_args = 0..)]
        words: Vec<String>,
    },
}

impl Snapshot {
    pub async fn run(self, context: Context) -> Result<()> {
        let Snapshot::Save { words } = self;
        let [path] = &words[..] else {
            return Err(Failure::arguments(
                "snapshot save expects one argument <filename>",
            ));
        };
        let [_] = &context.endpoints[..] else {
            let asked = context.endpoints.join(" ");
            let sentence =
                format!("snapshot must be requested to one selected node, not multiple [{asked}]");
            return Err(Failure::new(Exit::Interrupted, sentence));
        };
        let bar = ProgressBar::no_length().with_style(style());
        let client = context
            .client
            .with_deadline(context.named_timeout.unwrap_or(PATIENCE));
        let saving = client.save_snapshot(path, |progress| {
            bar.set_length(progress.received_bytes + progress.remaining_bytes);
            bar.set_position(progress.received_bytes);
        });
        let limit = context.named_timeout.unwrap_or(Duration::MAX);
        let saved = match tokio::time::timeout(limit, saving).await {
            Ok(saved) => saved.map_err(|error| Failure::from(error).exit(Exit::Interrupted)),
            Err(_) => {
                let sentence = "the snapshot was not complete within --command-timeout";
                Err(Failure::new(Exit::Interrupted, sentence))
            }
        };
        bar.finish_and_clear();
        let saved = saved?;
        context.printer.line(&format!("Snapshot saved at {path}"))?;
        if saved.version.is_empty() {
            return Ok(());
        }
        context
            .printer
            .line(&format!("Server version {}", saved.version))
    }
}

fn style() -> ProgressStyle {
    let template =
        "{spinner} {bytes} of {total_bytes} {wide_bar:.cyan} {bytes_per_sec}, {eta} left";
    ProgressStyle::with_template(template).expect("the template is one")
}
