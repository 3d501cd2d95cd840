//! `auth`: whether members ask everybody who they are.

use std::ffi::OsString;

use clap::Subcommand;
use keystead_client::Client;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::answer::Answer;

/// The user and the role that may do everything.
const ROOT: &str = "root";
/// etcd's word for a user `root` without the role.
const NO_ROOT_ROLE: &str = "root user does not have root role";

/// Whether everybody is asked for a user and a password
#[derive(Subcommand)]
#[command(after_help = "Example: keystead user add root:secret && keystead auth enable")]
pub enum Auth {
    /// Asks everybody from now on; there must be a user root, which gets the role root
    #[command(after_help = "Example: keystead user add root:secret && keystead auth enable")]
    Enable {
        #[arg(hide = true, num_args = 0..)]
        words: Vec<OsString>,
    },
    /// Asks nobody any more; users and roles stay
    #[command(after_help = "Example: keystead auth disable --user root:secret")]
    Disable {
        #[arg(hide = true, num_args = 0..)]
        words: Vec<OsString>,
    },
    /// Tells whether everybody is asked
    #[command(after_help = "Example: keystead auth status --user root:secret")]
    Status {
        #[arg(hide = true, num_args = 0..)]
        words: Vec<OsString>,
    },
}

impl Auth {
    pub async fn run(self, context: Context) -> Result<()> {
        let (Auth::Enable { words } | Auth::Disable { words } | Auth::Status { words }) = &self;
        if !words.is_empty() {
            return Err(Failure::arguments(format!(
                "auth {} command does not accept any arguments",
                self.name()
            )));
        }
        match self {
            Auth::Enable { .. } => {
                enable(&context.client).await?;
                context.printer.line("Authentication Enabled")
            }
            Auth::Disable { .. } => {
                context.client.disable_auth().await?;
                context.printer.line("Authentication Disabled")
            }
            Auth::Status { .. } => {
                let status = context.client.auth_status().await?;
                context.print(&Answer::AuthStatus(&status))
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Auth::Enable { .. } => "enable",
            Auth::Disable { .. } => "disable",
            Auth::Status { .. } => "status",
        }
    }
}

/// Gives the user `root` the role `root` first, where it lacks it.
async fn enable(client: &Client) -> Result<()> {
    match client.enable_auth().await {
        Err(error) if error.message.contains(NO_ROOT_ROLE) => {}
        done => return Ok(done.map(drop)?),
    }
    client.add_role(ROOT).await?;
    client.grant_role(ROOT, ROOT).await?;
    client.enable_auth().await?;
    Ok(())
}
