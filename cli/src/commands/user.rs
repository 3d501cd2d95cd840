//! `user`: who there is.

use std::io::stdin;

use clap::{Args, Subcommand};

use crate::context::{Context, ask_password};
use crate::failure::{Failure, Result};
use crate::output::answer::Answer;

/// Who there is, where everybody is asked who they are
#[derive(Subcommand)]
#[command(
    after_help = "Example: keystead user add alice && keystead user grant-role alice readers"
)]
pub enum User {
    /// Adds a user; the password is asked for where there is none
    #[command(after_help = "Example: keystead user add alice")]
    Add {
        /// NAME or NAME:PASSWORD
        #[arg(value_name = "NAME", num_args = 0..)]
        words: Vec<String>,
        #[command(flatten)]
        password: Password,
        /// The password, when the name may have a colon
        #[arg(
            long,
            value_name = "PASSWORD",
            default_value = "",
            hide_default_value = true
        )]
        new_user_password: String,
        /// Let only certificates with that common name speak for the user
        #[arg(long)]
        no_password: bool,
    },
    /// Deletes a user
    #[command(after_help = "Example: keystead user delete alice")]
    Delete {
        /// Which one
        #[arg(value_name = "NAME", num_args = 0..)]
        words: Vec<String>,
    },
    /// Tells the roles of a user
    #[command(after_help = "Example: keystead user get alice --detail")]
    Get {
        /// Which one
        #[arg(value_name = "NAME", num_args = 0..)]
        words: Vec<String>,
        /// Tell what the roles permit, too
        #[arg(long)]
        detail: bool,
    },
    /// Lists the users
    #[command(after_help = "Example: keystead user list")]
    List {
        #[arg(hide = true, num_args = 0..)]
        words: Vec<String>,
    },
    /// Gives a user another password
    #[command(after_help = "Example: keystead user passwd alice")]
    Passwd {
        /// Which one
        #[arg(value_name = "NAME", num_args = 0..)]
        words: Vec<String>,
        #[command(flatten)]
        password: Password,
    },
    /// Gives a user a role
    #[command(after_help = "Example: keystead user grant-role alice readers")]
    GrantRole {
        /// Who, and which
        #[arg(value_names = ["NAME", "ROLE"], num_args = 0..)]
        words: Vec<String>,
    },
    /// Takes a role from a user
    #[command(after_help = "Example: keystead user revoke-role alice readers")]
    RevokeRole {
        /// Who, and which
        #[arg(value_names = ["NAME", "ROLE"], num_args = 0..)]
        words: Vec<String>,
    },
}

/// Where a password comes from.
#[derive(Args)]
pub struct Password {
    /// Ask for the password at the terminal; set to false to read it from the standard input
    #[arg(long, default_value = "true")]
    interactive: bool,
}

impl User {
    pub async fn run(self, context: Context) -> Result<()> {
        let client = &context.client;
        let (header, said) = match self {
            User::Get { words, detail } => return get(&context, &words, detail).await,
            User::List { words } => {
                let [] = &words[..] else {
                    return Err(Failure::arguments(
                        "user list command requires no arguments",
                    ));
                };
                return context.print(&Answer::Users(&client.users().await?));
            }
            User::Add {
                words,
                password,
                new_user_password,
                no_password,
            } => {
                let usage = "user add command requires user name as its argument";
                let name = only(&words, usage)?;
                let (name, password) = match name.split_once(':') {
                    _ if no_password => (name, None),
                    _ if !new_user_password.is_empty() => (name, Some(new_user_password)),
                    Some(("", _)) => {
                        return Err(Failure::arguments("empty user name is not allowed"));
                    }
                    Some((name, password)) => (name, Some(password.to_owned())),
                    None => (name, Some(password.read(name)?)),
                };
                let header = match password {
                    Some(password) => client.add_user(name, password).await?,
                    None => client.add_user_without_password(name).await?,
                };
                (header, format!("User {name} created"))
            }
            User::Delete { words } => {
                let usage = "user delete command requires user name as its argument";
                let name = only(&words, usage)?;
                let header = client.delete_user(name).await?;
                (header, format!("User {name} deleted"))
            }
            User::Passwd { words, password } => {
                let usage = "user passwd command requires user name as its argument";
                let name = only(&words, usage)?;
                let header = client.change_password(name, password.read(name)?).await?;
                (header, "Password updated".to_owned())
            }
            User::GrantRole { words } => {
                let [name, role] = &words[..] else {
                    return Err(Failure::arguments(
                        "user grant command requires user name and role name as its argument",
                    ));
                };
                let header = client.grant_role(name, role).await?;
                (header, format!("Role {role} is granted to user {name}"))
            }
            User::RevokeRole { words } => {
                let [name, role] = &words[..] else {
                    return Err(Failure::arguments(
                        "user revoke-role requires user name and role name as its argument",
                    ));
                };
                let header = client.revoke_role(name, role).await?;
                (header, format!("Role {role} is revoked from user {name}"))
            }
        };
        context.print(&Answer::Done {
            said: &said,
            header: &header,
        })
    }
}

async fn get(context: &Context, words: &[String], detail: bool) -> Result<()> {
    let name = only(words, "user get command requires user name as its argument")?;
    let user = context.client.user(name).await?;
    if !detail {
        return context.print(&Answer::User { name, user: &user });
    }
    context.printer.line(&format!("User: {name}"))?;
    for name in &user.roles {
        context.printer.line("")?;
        let role = &context.client.role(name).await?;
        context.print(&Answer::Role { name, role })?;
    }
    Ok(())
}

fn only<'a>(words: &'a [String], usage: &str) -> Result<&'a str> {
    match words {
        [name] => Ok(name),
        _ => Err(Failure::arguments(usage)),
    }
}

impl Password {
    fn read(&self, name: &str) -> Result<String> {
        if !self.interactive {
            let mut line = String::new();
            stdin().read_line(&mut line)?;
            return Ok(line
                .split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned());
        }
        let ask = |prompt: String| {
            ask_password(&prompt).map_err(|failure| Failure::arguments(failure.sentence()))
        };
        let password = ask(format!("Password of {name}: "))?;
        if password.is_empty() {
            return Err(Failure::arguments("empty password"));
        }
        if ask(format!("Type password of {name} again for confirmation: "))? != password {
            return Err(Failure::arguments("given passwords are different"));
        }
        Ok(password)
    }
}
