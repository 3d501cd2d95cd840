//! `member`: lists the members, and adds, removes, moves and promotes them.

use clap::Subcommand;

use crate::commands::get::serializable;
use crate::context::{Context, member_id};
use crate::failure::{Failure, Result};
use crate::output::answer::Answer;

/// The members of the cluster; ids are in hexadecimal
#[derive(Subcommand)]
#[command(after_help = "Example: keystead member list -w table")]
pub enum Member {
    /// Adds a member, which is to be started then
    #[command(
        after_help = "Example: keystead member add m4 --learner --peer-urls http://10.0.0.4:2380"
    )]
    Add {
        /// The name that it will have
        #[arg(value_name = "NAME", num_args = 0..)]
        words: Vec<String>,
        /// Where the others will reach it, divided by commas
        #[arg(
            long,
            value_name = "URL",
            default_value = "",
            hide_default_value = true
        )]
        peer_urls: String,
        /// Give it no vote until it is promoted
        #[arg(long)]
        learner: bool,
    },
    /// Removes a member
    #[command(after_help = "Example: keystead member remove 8e9e05c52164694d")]
    Remove {
        /// Which one
        #[arg(value_name = "MEMBER", num_args = 0..)]
        words: Vec<String>,
    },
    /// Says where the others reach a member from now on
    #[command(
        after_help = "Example: keystead member update 8e9e05c52164694d --peer-urls http://10.0.0.5:2380"
    )]
    Update {
        /// Which one
        #[arg(value_name = "MEMBER", num_args = 0..)]
        words: Vec<String>,
        /// Where the others will reach it, divided by commas
        #[arg(
            long,
            value_name = "URL",
            default_value = "",
            hide_default_value = true
        )]
        peer_urls: String,
    },
    /// Lists the members
    #[command(after_help = "Example: keystead member list -w table")]
    List {
        /// As a quorum has them (l), or as the member that is asked (s)
        #[arg(long, value_name = "l|s", default_value = "l")]
        consistency: String,
    },
    /// Gives a learner a vote
    #[command(after_help = "Example: keystead member promote 8e9e05c52164694d")]
    Promote {
        /// Which one
        #[arg(value_name = "MEMBER", num_args = 0..)]
        words: Vec<String>,
    },
}

impl Member {
    pub async fn run(self, context: Context) -> Result<()> {
        let client = &context.client;
        let (id, done, members) = match self {
            Member::Add {
                words,
                peer_urls,
                learner,
            } => return add(&context, &words, &peer_urls, learner).await,
            Member::List { consistency } => {
                let members = match serializable(&consistency)? {
                    true => client.members_of_one().await?,
                    false => client.members().await?,
                };
                return context.print(&Answer::Members(&members));
            }
            Member::Remove { words } => {
                let id = only(&words)?;
                (id, "removed from", client.remove_member(id).await?)
            }
            Member::Update { words, peer_urls } => {
                let id = only(&words)?;
                let peer_urls = urls(&peer_urls)?;
                (id, "updated in", client.update_member(id, peer_urls).await?)
            }
            Member::Promote { words } => {
                let id = only(&words)?;
                (id, "promoted in", client.promote_member(id).await?)
            }
        };
        context.print(&Answer::MemberChanged {
            id,
            done,
            members: &members,
        })
    }
}

async fn add(context: &Context, words: &[String], peer_urls: &str, learner: bool) -> Result<()> {
    let name = match words {
        [name] => name,
        [] => return Err(Failure::arguments("member name not provided")),
        words => {
            let urls = words
                .iter()
                .filter(|word| word.to_lowercase().starts_with("http"));
            let hints: String = urls
                .map(|url| format!(", did you mean --peer-urls={url}"))
                .collect();
            return Err(Failure::arguments(format!("too many arguments{hints}")));
        }
    };
    let added = context.client.add_member(urls(peer_urls)?, learner).await?;
    context.print(&Answer::MemberAdded {
        added: &added,
        name,
        peer_urls,
    })
}

fn only(words: &[String]) -> Result<u64> {
    let [id] = words else {
        return Err(Failure::arguments("member ID is not provided"));
    };
    member_id(id).map_err(|why| {
        Failure::arguments(format!("bad member ID arg ({why}), expecting ID in Hex"))
    })
}

fn urls(list: &str) -> Result<Vec<String>> {
    if list.is_empty() {
        return Err(Failure::arguments("member peer urls not provided"));
    }
    Ok(list.split(',').map(str::to_owned).collect())
}
