//! `move-leader`: has another member lead.

use clap::Args;

use crate::context::{Context, member_id};
use crate::failure::{Failure, Result};
use crate::output::answer::Answer;

/// Has another member lead; the leader's endpoint must be among those that are named
#[derive(Args)]
#[command(
    after_help = "Example: keystead move-leader 8e9e05c52164694d --endpoints http://10.0.0.1:2379,http://10.0.0.2:2379"
)]
pub struct MoveLeader {
    /// The member, by its id in hexadecimal
    #[arg(value_name = "MEMBER", num_args = 0..)]
    words: Vec<String>,
}

impl MoveLeader {
    pub async fn run(self, context: Context) -> Result<()> {
        let [target] = &self.words[..] else {
            return Err(Failure::arguments("move-leader command needs 1 argument"));
        };
        let to = member_id(target).map_err(Failure::arguments)?;
        for endpoint in &context.endpoints {
            let client = context.at(endpoint)?;
            let status = client.status().await?;
            let from = status.leader;
            if status.header.member_id == from {
                let header = client.move_leader(to).await?;
                return context.print(&Answer::LeaderMoved {
                    from,
                    to,
                    header: &header,
                });
            }
        }
        let asked = context.endpoints.join(" ");
        let sentence = format!("no leader endpoint given at [{asked}]");
        Err(Failure::arguments(sentence))
    }
}
