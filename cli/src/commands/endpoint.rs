//! `endpoint`: asks members one by one how they are.

use clap::{Args, Subcommand};
use keystead_client::{Alarm, AlarmKind, Client, Kind};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::context::Context;
use crate::failure::{Exit, Failure, Result};
use crate::output::answer::{Answer, Health};

/// Asks the endpoints one by one how they are
#[derive(Args)]
#[command(after_help = "Example: keystead endpoint status --cluster -w table")]
pub struct Endpoint {
    /// Ask all members of the cluster
    #[arg(long, global = true)]
    cluster: bool,
    #[command(subcommand)]
    question: Question,
}

#[derive(Subcommand)]
enum Question {
    /// Whether it answers a read, and no alarm is raised
    #[command(after_help = "Example: keystead endpoint health --cluster")]
    Health,
    /// Its version, sizes and place in the cluster
    #[command(after_help = "Example: keystead endpoint status -w json")]
    Status,
    /// The hash of its keys and their history
    #[command(after_help = "Example: keystead endpoint hashkv --cluster --rev 1000")]
    Hashkv {
        /// Up to which revision; 0 for the newest
        #[arg(long, value_name = "REVISION", default_value_t = 0)]
        rev: i64,
    },
}

impl Endpoint {
    pub async fn run(self, context: Context) -> Result<()> {
        let endpoints = context.each_endpoint(self.cluster).await?;
        match self.question {
            Question::Health => health(&context, endpoints).await,
            Question::Status => status(&context, endpoints).await,
            Question::Hashkv { rev } => hash(&context, endpoints, rev).await,
        }
    }
}

/// Asks all at once, so that one that is dead holds up no other.
async fn health(context: &Context, endpoints: Vec<String>) -> Result<()> {
    let mut asked = JoinSet::new();
    for (at, endpoint) in endpoints.into_iter().enumerate() {
        let client = context.at(&endpoint)?;
        asked.spawn(async move { (at, ask_health(client, endpoint).await) });
    }
    let mut told = asked.join_all().await;
    told.sort_by_key(|(at, _)| *at);
    let told: Vec<Health> = told.into_iter().map(|(_, health)| health).collect();
    context.print(&Answer::Health(&told))?;
    if told.iter().any(|health| health.error.is_some()) {
        return Err(Failure::new(Exit::Error, "unhealthy cluster"));
    }
    Ok(())
}

async fn ask_health(client: Client, endpoint: String) -> Health {
    let began = Instant::now();
    let read = client.get("health").await;
    let took = began.elapsed();
    let error = match read {
        Err(error) if error.kind != Kind::PermissionDenied => Some(error.message),
        // Being refused went through a quorum, too.
        Ok(_) | Err(_) => match client.alarms().await {
            Ok(alarms) if alarms.alarms.is_empty() => None,
            Ok(alarms) => Some(active(&alarms.alarms)),
            Err(_) => Some("Unable to fetch the alarm list".to_owned()),
        },
    };
    Health {
        endpoint,
        took,
        error,
    }
}

fn active(alarms: &[Alarm]) -> String {
    let names = alarms.iter().map(|alarm| match alarm.kind {
        AlarmKind::NoSpace => "NOSPACE ",
        AlarmKind::Corrupt => "CORRUPT ",
        _ => "UNKNOWN ",
    });
    format!("Active Alarm(s): {}", names.collect::<String>())
}

async fn status(context: &Context, endpoints: Vec<String>) -> Result<()> {
    let mut told = Vec::new();
    let mut failed = false;
    for endpoint in endpoints {
        match context.at(&endpoint)?.status().await {
            Ok(status) => told.push((endpoint, status)),
            Err(error) => {
                failed = true;
                let why = error.message;
                anstream::eprintln!("Failed to get the status of endpoint {endpoint} ({why})");
            }
        }
    }
    context.print(&Answer::Statuses(&told))?;
    if failed { Err(Failure::told()) } else { Ok(()) }
}

async fn hash(context: &Context, endpoints: Vec<String>, revision: i64) -> Result<()> {
    let mut told = Vec::new();
    let mut failed = None;
    for endpoint in endpoints {
        match context.at(&endpoint)?.hash(revision).await {
            Ok(hash) => told.push((endpoint, hash)),
            Err(error) => {
                let why = &error.message;
                anstream::eprintln!("Failed to get the hash of endpoint {endpoint} ({why})");
                failed = Some(error);
            }
        }
    }
    context.print(&Answer::Hashes(&told))?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}
