//! `lease`: grants leases, renews them, ends them, and tells of them.

use std::time::Duration;

use clap::Subcommand;
use keystead_client::{Client, Grant, Kind};
use tokio::time::{Instant, sleep};

use crate::context::{Context, lease_id};
use crate::failure::{Exit, Failure, Result};
use crate::output::Form;
use crate::output::answer::Answer;

/// Between a renewal that failed and the next.
const RETRY: Duration = Duration::from_millis(500);

/// Time limits that keys are attached to; ids are in hexadecimal
#[derive(Subcommand)]
#[command(after_help = "Example: keystead lease grant 60")]
pub enum Lease {
    /// Grants a lease
    #[command(after_help = "Example: keystead lease grant 60")]
    Grant {
        /// How long it lives without being kept alive, in seconds
        #[arg(value_name = "TTL", num_args = 0.., allow_negative_numbers = true)]
        words: Vec<String>,
    },
    /// Ends a lease and removes its keys
    #[command(after_help = "Example: keystead lease revoke 32695410dcc0ca06")]
    Revoke {
        /// Which one
        #[arg(value_name = "LEASE", num_args = 0..)]
        words: Vec<String>,
    },
    /// Tells how long a lease still lives
    #[command(after_help = "Example: keystead lease timetolive 32695410dcc0ca06 --keys")]
    Timetolive {
        /// Which one
        #[arg(value_name = "LEASE", num_args = 0..)]
        words: Vec<String>,
        /// Tell its keys, too
        #[arg(long)]
        keys: bool,
    },
    /// Lists all leases
    #[command(after_help = "Example: keystead lease list")]
    List,
    /// Keeps a lease alive for as long as this runs
    #[command(after_help = "Example: keystead lease keep-alive 32695410dcc0ca06")]
    KeepAlive {
        /// Which one
        #[arg(value_name = "LEASE", num_args = 0..)]
        words: Vec<String>,
        /// Renew it once
        #[arg(long)]
        once: bool,
    },
}

impl Lease {
    pub async fn run(self, context: Context) -> Result<()> {
        match self {
            Lease::Grant { words } => grant(&context, &words).await,
            Lease::Revoke { words } => {
                let lease = only(&words, "lease revoke command needs 1 argument")?;
                let revoked = context.client.revoke(lease).await;
                let header = revoked.map_err(|error| {
                    Failure::from(error).said(|why| format!("failed to revoke lease ({why})"))
                })?;
                context.print(&Answer::Revoked {
                    lease,
                    header: &header,
                })
            }
            Lease::Timetolive { words, keys } => {
                let usage = "lease timetolive command needs lease ID as argument";
                let lease = only(&words, usage)?;
                let asked = match keys {
                    true => context.client.time_to_live_with_keys(lease).await,
                    false => context.client.time_to_live(lease).await,
                };
                context.print(&Answer::TimeToLive {
                    lease: &asked.map_err(unanswered)?,
                    keys,
                })
            }
            Lease::List => {
                let leases = context.client.leases_with_header().await;
                context.print(&Answer::Leases(&leases.map_err(unanswered)?))
            }
            Lease::KeepAlive { words, once } => {
                let usage = "lease keep-alive command needs lease ID as argument";
                let lease = only(&words, usage)?;
                match once {
                    true => renew(&context, &context.client, lease)
                        .await
                        .map(drop)
                        .map_err(unanswered_failure),
                    false => keep_alive(&context, lease).await,
                }
            }
        }
    }
}

async fn grant(context: &Context, words: &[String]) -> Result<()> {
    let [ttl] = words else {
        return Err(Failure::arguments("lease grant command needs TTL argument"));
    };
    let ttl: i64 = ttl
        .parse()
        .map_err(|why| Failure::arguments(format!("bad TTL ({ttl:?}: {why})")))?;
    // What is below the server's least TTL is raised to it.
    let ttl = Duration::from_secs(ttl.max(0).unsigned_abs());
    let granted = context.client.grant_with(Grant { ttl, lease: 0 }).await;
    let granted = granted.map_err(|error| {
        Failure::from(error).said(|why| format!("failed to grant lease ({why})"))
    })?;
    context.print(&Answer::Granted(&granted))
}

/// Renews a lease once, and tells of it.
async fn renew(context: &Context, client: &Client, lease: i64) -> Result<Duration, Renewal> {
    let renewed = client.keep_alive_with_header(lease).await;
    let renewed = renewed.map_err(Renewal::Refused)?;
    let answer = Answer::KeptAlive {
        lease,
        ttl: renewed.ttl,
        header: &renewed.header,
    };
    context.print(&answer).map_err(Renewal::Untold)?;
    Ok(renewed.ttl)
}

/// Why a renewal failed.
enum Renewal {
    /// The server did not, or could not be asked.
    Refused(keystead_client::Error),
    /// It worked, and nobody takes the news.
    Untold(Failure),
}

/// Renews a lease three times within its TTL until it is gone, or nobody could be asked for so long that it must be.
async fn keep_alive(context: &Context, lease: i64) -> Result<()> {
    let mut ends: Option<Instant> = None;
    loop {
        let sent = Instant::now();
        let patience = ends.map_or(context.timeout, |ends| ends - sent);
        let client = context.client.with_deadline(patience);
        match renew(context, &client, lease).await {
            Ok(ttl) => {
                ends = Some(sent + ttl);
                sleep(ttl / 3).await;
            }
            Err(Renewal::Untold(failure)) => return Err(failure),
            Err(Renewal::Refused(error)) if error.kind == Kind::LeaseNotFound => break,
            Err(Renewal::Refused(error)) => match ends {
                Some(ends) if error.kind != Kind::Unavailable || Instant::now() + RETRY > ends => {
                    break;
                }
                Some(_) => sleep(RETRY).await,
                None => return Err(unanswered(error)),
            },
        }
    }
    if context.printer.form == Form::Simple {
        let line = format!("lease {lease:016x} expired or revoked.");
        context.printer.line(&line)?;
    }
    Ok(())
}

fn only(words: &[String], usage: &str) -> Result<i64> {
    let [lease] = words else {
        return Err(Failure::arguments(usage));
    };
    lease_id(lease)
        .map_err(|why| Failure::arguments(format!("bad lease ID arg ({why}), expecting ID in Hex")))
}

fn unanswered(error: keystead_client::Error) -> Failure {
    Failure::from(error).exit(Exit::BadConnection)
}

fn unanswered_failure(renewal: Renewal) -> Failure {
    match renewal {
        Renewal::Refused(error) => unanswered(error),
        Renewal::Untold(failure) => failure,
    }
}
