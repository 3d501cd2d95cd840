//! `lock`: holds a lock while a program runs, or until this one is told to end.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use clap::Args;
use keystead_client::{KeyRange, LockGuard, Range};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{Signal as Signals, SignalKind, signal};
use tokio::time::timeout;

use crate::context::{Context, bytes};
use crate::failure::{Exit, Failure, Result};
use crate::output::answer::Answer;

/// So long a program may take to end when it is asked to, before it is made to.
const GRACE: Duration = Duration::from_secs(5);

/// Holds a lock, by itself or while a program runs
#[derive(Args)]
#[command(after_help = "\
The program finds the key that stands for the lock in ETCD_LOCK_KEY, and in ETCD_LOCK_REV a number that is higher for every later holder. It is
ended when the lock is lost, and its exit code is this one's. Its options stand behind `--`.

Example: keystead lock locks/report -- make report")]
pub struct Lock {
    /// The lock, and what to run while it is held
    #[arg(value_names = ["NAME", "PROGRAM"], num_args = 0..)]
    words: Vec<OsString>,
    /// After so many seconds others may have the lock of a holder that died
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    ttl: u64,
}

impl Lock {
    pub async fn run(self, context: Context) -> Result<()> {
        let Some((name, program)) = self.words.split_first() else {
            return Err(Failure::arguments(
                "lock takes a lock name argument and an optional command to execute",
            ));
        };
        let mut ends = Ends::listen()?;
        let session = context
            .client
            .session(Duration::from_secs(self.ttl))
            .await?;
        let lock = context.client.lock(bytes(name)).with_session(&session);
        let guard = tokio::select! {
            taken = lock.lock() => taken?,
            () = ends.next() => {
                session.close().await?;
                return Err(Failure::new(Exit::Error, "interrupted while waiting for the lock"));
            }
        };
        let done = match program {
            [] => hold(&context, &guard, &mut ends).await,
            program => run(program, &guard, &mut ends).await,
        };
        let released = guard.unlock().await;
        let closed = session.close().await;
        done?;
        released?;
        Ok(closed?)
    }
}

/// The signals that end this program.
pub struct Ends {
    interrupt: Signals,
    terminate: Signals,
}

impl Ends {
    /// From here on they end nothing by themselves.
    ///
    /// # Errors
    /// The system has no room for another listener.
    pub fn listen() -> Result<Ends> {
        Ok(Ends {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Waits for one of them.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Tells that the lock is held, and holds it until a signal comes.
async fn hold(context: &Context, guard: &LockGuard, ends: &mut Ends) -> Result<()> {
    let own = Range::new(KeyRange::key(guard.key().clone()));
    let own = context.client.range(own).await?;
    if own.kvs.is_empty() {
        return Err(Failure::new(Exit::Error, "lock lost on init"));
    }
    context.print(&Answer::Range(&own))?;
    tokio::select! {
        () = ends.next() => Ok(()),
        loss = guard.lost() => {
            Err(Failure::new(Exit::Error, format!("session expired: {loss}")))
        }
    }
}

/// Runs the program, and ends it when the lock is lost.
async fn run(program: &[OsString], guard: &LockGuard, ends: &mut Ends) -> Result<()> {
    // Before the program starts, so that its end is not missed.
    let mut children = signal(SignalKind::child())?;
    let child = Command::new(&program[0])
        .args(&program[1..])
        .env("ETCD_LOCK_KEY", std::ffi::OsStr::from_bytes(guard.key()))
        .env("ETCD_LOCK_REV", guard.fencing_token().to_string())
        .stdin(Stdio::null())
        .spawn();
    let mut child = child.map_err(|error| {
        let name = program[0].to_string_lossy();
        Failure::new(Exit::Error, format!("exec: {name:?}: {error}"))
    })?;
    let status = loop {
        tokio::select! {
            status = ended(&mut child, &mut children) => break status?,
            // A terminal tells its whole foreground of an interrupt: the program decides what comes of it.
            _ = ends.interrupt.recv() => {}
            _ = ends.terminate.recv() => tell(&child, Signal::TERM),
            loss = guard.lost() => {
                tell(&child, Signal::TERM);
                if timeout(GRACE, ended(&mut child, &mut children)).await.is_err() {
                    tell(&child, Signal::KILL);
                    ended(&mut child, &mut children).await?;
                }
                let sentence = format!("the lock was lost, and the command was ended: {loss}");
                return Err(Failure::new(Exit::Error, sentence));
            }
        }
    };
    match status.code() {
        Some(0) => Ok(()),
        // Go's code for a program that a signal ended is -1.
        code => Err(Failure::new(
            Exit::Program(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255)),
            status.to_string().replace("exit status: ", "exit status "),
        )),
    }
}

/// Waits until the program has ended. Loses nothing when it is dropped.
async fn ended(child: &mut Child, children: &mut Signals) -> Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        children.recv().await;
    }
}

/// Sends a signal to a program that was not waited for yet, so that its number is its own still.
fn tell(child: &Child, signal: Signal) {
    if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It has ended by itself where this fails.
        let _ = kill_process(pid, signal);
    }
}
