//! `keystead serve`: flags to configuration to a running member, until a signal. The exit codes are etcd's.

pub mod args;
mod config;
mod file;
mod flags;
mod gates;
mod given;
mod logging;
mod tokens;
mod url;
pub mod value;

use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::thread;

use keystead_server::{Config, Node, StartError};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::version;
use args::Unusable;
use flags::{REPORTED_VERSION, STOP_WITH_STDIN};
use given::{Given, Refusal};

/// Runs a member with the words after the program's name; returns when it has stopped.
pub fn main(program: &'static str, words: impl Iterator<Item = String>) -> ExitCode {
    let environment = std::env::vars_os().map(|(name, value)| {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        (text(name), text(value))
    });
    let given = match args::read(program, words, environment) {
        Ok(given) => given,
        Err(Unusable::Help(help)) => {
            // Printing to a closed pipe is the only way this fails.
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
        Err(Unusable::Refused(refusal)) => return refuse(program, &refusal),
    };
    if given.version {
        print!("{}", version::text(given.get(REPORTED_VERSION)));
        return ExitCode::SUCCESS;
    }
    match prepare(program, &given) {
        Ok(start) => run(start),
        Err(refusal) => refuse(program, &refusal),
    }
}

/// What is to be run.
struct Start {
    config: Config,
    /// Whether the end of standard input is the member's, too.
    stops_with_stdin: bool,
}

/// The valid configuration, with the log as it says.
fn prepare(program: &str, given: &Given) -> Result<Start, Refusal> {
    let suffix = if program == "etcd" {
        "etcd"
    } else {
        "keystead"
    };
    let start = Start {
        config: config::build(given, suffix)?,
        stops_with_stdin: given.read(STOP_WITH_STDIN, false, value::switch)?,
    };
    let level = given.text("log-level").unwrap_or("info");
    let outputs = given.text("log-outputs").unwrap_or("default");
    logging::start(level, given.text("log-format"), outputs)?;
    keystead_server::abort_on_panic();
    if let Some(path) = &given.file {
        info!(
            path,
            "loaded server configuration, other configuration command line flags and environment variables will be \
             ignored if provided"
        );
    }
    given.warnings.iter().for_each(|warning| warn!("{warning}"));
    Ok(start)
}

/// Says why nothing was started, in a line for people or, where nobody looks, for the reader of the log.
fn refuse(program: &str, refusal: &Refusal) -> ExitCode {
    let (sentence, code) = match refusal {
        Refusal::Usage(sentence) => (sentence, 2),
        Refusal::Invalid(sentence) => (sentence, 1),
    };
    if io::stderr().is_terminal() {
        eprintln!("\x1b[31m{program}:\x1b[0m {sentence}");
    } else if code == 2 || logging::start("info", None, "default").is_err() {
        eprintln!("{sentence}");
    } else {
        warn!(error = sentence, "failed to verify flags");
    }
    if code == 2 {
        eprintln!("Run `{program} --help` for the flags.");
    }
    ExitCode::from(code)
}

/// Why a member that serves is stopped.
enum Ending {
    Signal(i32),
    /// Nobody holds the other end of its standard input any more.
    StdinEnded,
    /// It is none any more.
    Removed,
}

fn run(start: Start) -> ExitCode {
    // Before any thread starts, so that no signal finds the default handler in between.
    let mut signals = match Signals::new([SIGTERM, SIGINT]) {
        Ok(signals) => signals,
        Err(error) => {
            error!(%error, "can't listen for signals");
            return ExitCode::from(1);
        }
    };
    let name = start.config.name.clone();
    let (signalled, received) = channel();
    let removed = signalled.clone();
    let (stop, stopping) = watch::channel(false);
    if start.stops_with_stdin {
        let (stop, ended) = (stop.clone(), signalled.clone());
        thread::spawn(move || {
            // What comes is nobody's business, and an error is an end as well.
            io::copy(&mut io::stdin().lock(), &mut io::sink()).ok();
            stop.send_replace(true);
            ended.send(Ending::StdinEnded).ok();
        });
    }
    thread::spawn(move || {
        for signal in signals.forever() {
            // The first one is enough.
            stop.send_replace(true);
            signalled.send(Ending::Signal(signal)).ok();
        }
    });
    let node = match Node::start(start.config, stopping) {
        Ok(node) => node,
        Err(StartError::Interrupted) => {
            info!("stopped before it served");
            return match received.recv() {
                Ok(Ending::Signal(signal)) => leave(signal),
                Ok(Ending::StdinEnded) => ExitCode::SUCCESS,
                _ => ExitCode::from(1),
            };
        }
        Err(error) => {
            error!("{error}");
            // As in etcd: who starts again what failed would never be done with it.
            return match error {
                StartError::Removed => ExitCode::SUCCESS,
                _ => ExitCode::from(1),
            };
        }
    };
    let clients: Vec<_> = node
        .client_addresses()
        .iter()
        .map(ToString::to_string)
        .collect();
    info!(
        name,
        clients = clients.join(","),
        "ready to serve client requests"
    );
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        warn!(%error, "the service manager could not be told that the member is ready");
    }
    let was_removed = node.was_removed();
    thread::spawn(move || {
        // Ends with the member, too: nobody listens then.
        if was_removed.wait() {
            removed.send(Ending::Removed).ok();
        }
    });
    let ending = received.recv().unwrap_or(Ending::Removed);
    match ending {
        Ending::Signal(signal) => info!(signal, "received signal; shutting down"),
        Ending::StdinEnded => info!("standard input ended; shutting down"),
        Ending::Removed => error!(
            "the member has been permanently removed from the cluster: its data directory must not be used again"
        ),
    }
    node.shutdown();
    info!("stopped");
    match ending {
        Ending::Signal(signal) => leave(signal),
        Ending::StdinEnded | Ending::Removed => ExitCode::SUCCESS,
    }
}

/// Ends as etcd does: by the signal itself, so that the parent sees it; as process 1, where a signal has no default action, with 0.
fn leave(signal: i32) -> ExitCode {
    if std::process::id() != 1 && signal_hook::low_level::emulate_default_handler(signal).is_err() {
        return ExitCode::from(1);
    }
    ExitCode::SUCCESS
}
