//! `keystead serve`: flags to configuration to a running member, until a signal. The exit codes are etcd's.

use std::io::IsTerminal;
use std::process::ExitCode;

use keystead_server::{Config, Node};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use crate::args::{self, Unusable};
use crate::{config, logging, version};

/// Runs a member with the words after the program's name; returns when it has stopped.
pub fn main(program: &'static str, words: impl Iterator<Item = String>) -> ExitCode {
    let given = match args::read(program, words, std::env::vars()) {
        Ok(given) => given,
        Err(Unusable::Usage(error)) => {
            let help = !error.use_stderr();
            // Printing to a closed pipe is the only way this fails.
            let _ = error.print();
            return if help {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(2)
            };
        }
        Err(Unusable::Value(sentence)) => return refuse(program, &sentence),
    };
    if given.version {
        print!("{}", version::text(given.get("reported-version")));
        return ExitCode::SUCCESS;
    }
    let suffix = if program == "etcd" {
        "etcd"
    } else {
        "keystead"
    };
    let config = match config::build(&given, suffix) {
        Ok(config) => config,
        Err(sentence) => return refuse(program, &sentence),
    };
    let level = given.get("log-level").unwrap_or("info");
    let outputs = given.get("log-outputs").unwrap_or("default");
    if let Err(sentence) = logging::start(level, given.get("log-format"), outputs) {
        return refuse(program, &sentence);
    }
    keystead_server::abort_on_panic();
    given.warnings.iter().for_each(|warning| warn!("{warning}"));
    run(config)
}

fn refuse(program: &str, sentence: &str) -> ExitCode {
    let (red, plain) = if std::io::stderr().is_terminal() {
        ("\x1b[31m", "\x1b[0m")
    } else {
        ("", "")
    };
    eprintln!("{red}{program}:{plain} {sentence}");
    ExitCode::from(1)
}

fn run(config: Config) -> ExitCode {
    // Before any thread starts, so that no signal finds the default handler in between.
    let mut signals = match Signals::new([SIGTERM, SIGINT]) {
        Ok(signals) => signals,
        Err(error) => {
            error!(%error, "can't listen for signals");
            return ExitCode::from(1);
        }
    };
    let name = config.name.clone();
    let node = match Node::start(config) {
        Ok(node) => node,
        Err(error) => {
            error!("{error}");
            return ExitCode::from(1);
        }
    };
    info!(name, clients = ?node.client_addresses(), "ready to serve client requests");
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        warn!(%error, "the service manager could not be told that the member is ready");
    }
    let Some(signal) = signals.forever().next() else {
        return ExitCode::from(1);
    };
    info!(signal, "received signal; shutting down");
    node.shutdown();
    info!("stopped");
    leave(signal)
}

/// Ends as etcd does: by the signal itself, so that the parent sees it; as process 1, where a signal has no default action, with 0.
fn leave(signal: i32) -> ExitCode {
    if std::process::id() != 1 && signal_hook::low_level::emulate_default_handler(signal).is_err() {
        return ExitCode::from(1);
    }
    ExitCode::SUCCESS
}
