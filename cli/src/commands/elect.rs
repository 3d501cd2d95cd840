//! `elect`: stands in an election and leads until it is told to end, or tells who leads.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use keystead_client::{Election, Header, KeyRange, LeaderEvent, Range, RangeResult};

use crate::commands::lock::Ends;
use crate::context::{Context, bytes};
use crate::failure::{Exit, Failure, Result};
use crate::output::answer::Answer;

/// So long a leader that died is not replaced, as in etcdctl.
const TTL: Duration = Duration::from_secs(60);

/// Stands in an election, or tells who leads
#[derive(Args)]
#[command(after_help = "Example: keystead elect elections/scheduler 10.0.0.1:8080")]
pub struct Elect {
    /// The election, and what to proclaim when it is won
    #[arg(value_names = ["NAME", "PROPOSAL"], num_args = 0..)]
    words: Vec<OsString>,
    /// Tell who leads
    #[arg(long, short)]
    listen: bool,
}

impl Elect {
    pub async fn run(self, context: Context) -> Result<()> {
        match &self.words[..] {
            [name] if self.listen => observe(&context, &context.client.election(bytes(name))).await,
            [_] => Err(Failure::arguments("no proposal argument but -l not set")),
            [_, _] if self.listen => Err(Failure::arguments("proposal given but -l is set")),
            [name, proposal] => campaign(&context, name, proposal).await,
            _ => Err(Failure::arguments(
                "elect takes one election name argument and an optional proposal argument",
            )),
        }
    }
}

async fn campaign(context: &Context, name: &OsString, proposal: &OsString) -> Result<()> {
    let mut ends = Ends::listen()?;
    let session = context.client.session(TTL).await?;
    let election = context.client.election(bytes(name)).with_session(&session);
    let leadership = tokio::select! {
        won = election.campaign(bytes(proposal)) => won?,
        () = ends.next() => {
            session.close().await?;
            return Err(Failure::new(Exit::Error, "interrupted while waiting for the leadership"));
        }
    };
    let own = Range::new(KeyRange::key(leadership.key().clone()));
    let own = context.client.range(own).await?;
    context.print(&Answer::Range(&own))?;
    let done = tokio::select! {
        () = ends.next() => Ok(()),
        loss = leadership.lost() => {
            Err(Failure::new(Exit::Error, format!("elect: session expired: {loss}")))
        }
    };
    let resigned = leadership.resign().await;
    let closed = session.close().await;
    done?;
    resigned?;
    Ok(closed?)
}

async fn observe(context: &Context, election: &Election) -> Result<()> {
    let mut ends = Ends::listen()?;
    let mut observer = election.observe();
    loop {
        let event = tokio::select! {
            event = observer.next() => event?,
            () = ends.next() => return Ok(()),
        };
        if let LeaderEvent::Leader(kv) = event {
            let header = Header {
                revision: kv.mod_revision,
                ..Header::default()
            };
            let leader = RangeResult {
                header,
                kvs: vec![kv],
                ..RangeResult::default()
            };
            context.print(&Answer::Range(&leader))?;
        }
    }
}
