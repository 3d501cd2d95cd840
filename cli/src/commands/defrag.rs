//! `defrag`: gives free space within the members' data back, one member after the other.

use std::time::Duration;

use clap::Args;
use indicatif::ProgressBar;
use tokio::time::Instant;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::go_text::duration;

/// The spinner's pace.
const TICK: Duration = Duration::from_millis(100);

/// Gives the free space within the endpoints' data back to their file systems
#[derive(Args)]
#[command(after_help = "Example: keystead defrag --cluster --command-timeout 60s")]
pub struct Defrag {
    /// Every member of the cluster
    #[arg(long)]
    cluster: bool,
}

impl Defrag {
    pub async fn run(self, context: Context) -> Result<()> {
        let mut failed = false;
        for endpoint in context.each_endpoint(self.cluster).await? {
            let client = context.at(&endpoint)?;
            let spinner =
                ProgressBar::new_spinner().with_message(format!("defragmenting {endpoint}"));
            spinner.enable_steady_tick(TICK);
            let began = Instant::now();
            let done = client.defragment().await;
            let took = duration(began.elapsed());
            spinner.finish_and_clear();
            match done {
                Ok(_) => {
                    let line =
                        format!("Finished defragmenting etcd member[{endpoint}]. took {took}");
                    context.printer.line(&line)?;
                }
                Err(error) => {
                    failed = true;
                    let why = error.message;
                    anstream::eprintln!(
                        "Failed to defragment etcd member[{endpoint}]. took {took}. ({why})"
                    );
                }
            }
        }
        if failed { Err(Failure::told()) } else { Ok(()) }
    }
}
