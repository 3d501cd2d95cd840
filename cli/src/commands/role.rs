//! `role`: what users may do.

use std::ffi::{OsStr, OsString};

use clap::{Args, Subcommand};
use keystead_client::{Access, KeyRange, Permission};

use crate::context::{Context, bytes};
use crate::failure::{Failure, Result};
use crate::output::answer::Answer;

/// What users may do
#[derive(Subcommand)]
#[command(after_help = "Example: keystead role grant-permission readers read config/ --prefix")]
pub enum Role {
    /// Adds a role, which permits nothing yet
    #[command(after_help = "Example: keystead role add readers")]
    Add {
        /// Its name
        #[arg(value_name = "ROLE", num_args = 0..)]
        words: Vec<String>,
    },
    /// Deletes a role
    #[command(after_help = "Example: keystead role delete readers")]
    Delete {
        /// Which one
        #[arg(value_name = "ROLE", num_args = 0..)]
        words: Vec<String>,
    },
    /// Tells what a role permits
    #[command(after_help = "Example: keystead role get readers")]
    Get {
        /// Which one
        #[arg(value_name = "ROLE", num_args = 0..)]
        words: Vec<String>,
    },
    /// Lists the roles
    #[command(after_help = "Example: keystead role list")]
    List {
        #[arg(hide = true, num_args = 0..)]
        words: Vec<String>,
    },
    /// Lets a role read, write, or both, a key or a range of keys
    #[command(after_help = "Example: keystead role grant-permission readers read config/ --prefix")]
    GrantPermission {
        /// The role, what it may do (read, write or readwrite), and to which keys
        #[arg(value_names = ["ROLE", "ACCESS", "KEY", "RANGE_END"], num_args = 0..)]
        words: Vec<OsString>,
        #[command(flatten)]
        wide: Wide,
    },
    /// Takes back what a role may do to the very key or range that was granted
    #[command(after_help = "Example: keystead role revoke-permission readers config/ --prefix")]
    RevokePermission {
        /// The role, and the keys
        #[arg(value_names = ["ROLE", "KEY", "RANGE_END"], num_args = 0..)]
        words: Vec<OsString>,
        #[command(flatten)]
        wide: Wide,
    },
}

/// More keys than those that are named.
#[derive(Args)]
pub struct Wide {
    /// Every key that begins so
    #[arg(long)]
    prefix: bool,
    /// Every key from this one on
    #[arg(long)]
    from_key: bool,
}

impl Role {
    pub async fn run(self, context: Context) -> Result<()> {
        let client = &context.client;
        let (header, said) = match self {
            Role::Get { words } => {
                let usage = "role get command requires role name as its argument";
                let name = only(&words, usage)?;
                let role = &client.role(name).await?;
                return context.print(&Answer::Role { name, role });
            }
            Role::List { words } => {
                let [] = &words[..] else {
                    return Err(Failure::arguments(
                        "role list command requires no arguments",
                    ));
                };
                return context.print(&Answer::Roles(&client.roles().await?));
            }
            Role::Add { words } => {
                let usage = "role add command requires role name as its argument";
                let name = only(&words, usage)?;
                (client.add_role(name).await?, format!("Role {name} created"))
            }
            Role::Delete { words } => {
                let usage = "role delete command requires role name as its argument";
                let name = only(&words, usage)?;
                (
                    client.delete_role(name).await?,
                    format!("Role {name} deleted"),
                )
            }
            Role::GrantPermission { words, wide } => {
                let [name, access, key, rest @ ..] = &words[..] else {
                    return Err(Failure::arguments(
                        "role grant command requires role name, permission type, and key [endkey] as its argument",
                    ));
                };
                let name = name.to_string_lossy().into_owned();
                let access = access_named(access)?;
                let keys = wide.keys(key, rest.first())?;
                let permission = Permission { access, keys };
                let header = client.grant_permission(&name, permission).await?;
                (header, format!("Role {name} updated"))
            }
            Role::RevokePermission { words, wide } => {
                let [name, key, rest @ ..] = &words[..] else {
                    return Err(Failure::arguments(
                        "role revoke-permission command requires role name and key [endkey] as its argument",
                    ));
                };
                let name = name.to_string_lossy().into_owned();
                let keys = wide.keys(key, rest.first())?;
                let header = client.revoke_permission(&name, keys.clone()).await?;
                let key = key.to_string_lossy();
                let range = match &keys.end[..] {
                    [] => format!("key {key}"),
                    [0] => format!("range [{key}, <open ended>"),
                    end => format!("range [{key}, {})", String::from_utf8_lossy(end)),
                };
                (
                    header,
                    format!("Permission of {range} is revoked from role {name}"),
                )
            }
        };
        context.print(&Answer::Done {
            said: &said,
            header: &header,
        })
    }
}

impl Wide {
    fn keys(&self, key: &OsStr, end: Option<&OsString>) -> Result<KeyRange> {
        let wide = self.prefix || self.from_key;
        let key = bytes(key);
        // A permission for every key begins with the first there can be.
        match end {
            _ if self.prefix && self.from_key => Err(Failure::arguments(
                "--from-key and --prefix flags are mutually exclusive",
            )),
            _ if key.is_empty() && wide => Ok(KeyRange::all()),
            _ if key.is_empty() => Ok(KeyRange::key(&b"\0"[..])),
            Some(_) if wide => {
                let flag = if self.prefix {
                    "--prefix"
                } else {
                    "--from-key"
                };
                let sentence = format!("unexpected endkey argument with {flag} flag");
                Err(Failure::arguments(sentence))
            }
            Some(end) => Ok(KeyRange::between(key, bytes(end))),
            None if self.prefix => Ok(KeyRange::prefix(key)),
            None if self.from_key => Ok(KeyRange::from_key(key)),
            None => Ok(KeyRange::key(key)),
        }
    }
}

fn only<'a>(words: &'a [String], usage: &str) -> Result<&'a str> {
    match words {
        [name] => Ok(name),
        _ => Err(Failure::arguments(usage)),
    }
}

fn access_named(word: &OsStr) -> Result<Access> {
    match word.to_string_lossy().to_ascii_uppercase().as_str() {
        "READ" => Ok(Access::Read),
        "WRITE" => Ok(Access::Write),
        "READWRITE" => Ok(Access::ReadWrite),
        _ => Err(Failure::arguments("invalid permission type")),
    }
}
