//! `alarm`: lists the alarms that keep the cluster from taking writes, and takes them back.

use std::ffi::OsString;

use clap::Subcommand;

use crate::context::Context;
use crate::failure::{Failure, Result};
use crate::output::answer::Answer;

/// What keeps the cluster from taking writes
#[derive(Subcommand)]
#[command(after_help = "Example: keystead alarm list")]
pub enum Alarm {
    /// Takes all alarms back
    #[command(after_help = "Example: keystead alarm disarm")]
    Disarm {
        #[arg(hide = true, num_args = 0..)]
        words: Vec<OsString>,
    },
    /// Lists the alarms that are raised
    #[command(after_help = "Example: keystead alarm list")]
    List {
        #[arg(hide = true, num_args = 0..)]
        words: Vec<OsString>,
    },
}

impl Alarm {
    pub async fn run(self, context: Context) -> Result<()> {
        let (name, Alarm::Disarm { words } | Alarm::List { words }) = (self.name(), &self);
        if !words.is_empty() {
            let sentence = format!("alarm {name} command accepts no arguments");
            return Err(Failure::arguments(sentence));
        }
        let raised = context.client.alarms().await?;
        let Alarm::Disarm { .. } = self else {
            return context.print(&Answer::Alarms {
                header: Some(&raised.header),
                alarms: &raised.alarms,
            });
        };
        let mut disarmed = Vec::new();
        for alarm in raised.alarms {
            disarmed.extend(context.client.disarm(alarm).await?.alarms);
        }
        context.print(&Answer::Alarms {
            header: None,
            alarms: &disarmed,
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Alarm::Disarm { .. } => "disarm",
            Alarm::List { .. } => "list",
        }
    }
}
