//! `watch`: tells every change of some keys, and runs a program for each where one is named. Interactively, the lines of the standard input
//! begin watches and ask how far they are.

use std::ffi::OsString;
use std::io::{BufRead, stdin};
use std::os::unix::ffi::OsStringExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser};
use keystead_client::bytes::Bytes;
use keystead_client::{
    self as client, Error, Event, EventKind, Header, KeyRange, Kind, Notice, Range, ResetCause,
    Watcher,
};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::command_line::as_etcdctl_reads;
use crate::context::{Context, bytes};
use crate::failure::{Exit, Failure, Result};
use crate::go_text::{quote, words};
use crate::output::Form;
use crate::output::answer::{Answer, Changes};

const ARGUMENTS: &str = "bad number of arguments";
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const RESTORED: &str =
    "the cluster was restored from a snapshot: what was told may never have happened";

/// Lines that wait to be done: whoever types them is slower.
const LINES_WAITING: usize = 64;
/// A stream is asked how far it is when it was silent for a while: so long the answer may take.
const PROGRESS: Duration = Duration::from_secs(15);
/// Between two looks at how far a watch is.
const LOOK: Duration = Duration::from_millis(20);

/// Tells every change of a key, or of a range of keys
#[derive(Args)]
#[command(after_help = "\
ETCDCTL_WATCH_KEY and ETCDCTL_WATCH_RANGE_END stand for the key and the end. The program is run for every change, one at a time, and finds it in
ETCD_WATCH_REVISION, ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and ETCD_WATCH_VALUE. With -i, lines as `watch KEY --prefix` begin
watches, and `progress` asks how far they are.

Example: keystead watch config/ --prefix --rev 1 -- sh -c 'echo $ETCD_WATCH_KEY'")]
pub struct Watch {
    /// The key, and the first one after the range
    #[arg(value_names = ["KEY", "RANGE_END"], num_args = 0..)]
    words: Vec<OsString>,
    /// What to run for every change
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<OsString>,
    /// Read what to watch from the standard input
    #[arg(long, short)]
    interactive: bool,
    /// Watch every key that begins so
    #[arg(long)]
    prefix: bool,
    /// The first revision to tell of; 0 for what comes
    #[arg(long, value_name = "REVISION", default_value_t = 0)]
    rev: i64,
    /// Tell the key as it was before, too
    #[arg(long)]
    prev_kv: bool,
    /// Tell now and then up to which revision nothing else has happened
    #[arg(long)]
    progress_notify: bool,
}

impl Watch {
    pub async fn run(self, context: Context) -> Result<()> {
        let variables = Variables::read()?;
        let context = Arc::new(context);
        if self.interactive {
            return converse(context, variables).await;
        }
        if self.program.is_empty() && std::env::args_os().any(|word| word == "--") {
            let sentence = format!("{ARGUMENTS} (found separator --, but no commands)");
            return Err(Failure::arguments(sentence));
        }
        let watch = self.watch(&variables)?;
        let began = context.client.watch(watch.clone()).await;
        match began {
            Ok(watcher) => follow(&context, &watch.keys, &watcher, &self.program).await?,
            Err(error) if error.kind == Kind::Unavailable => {
                return Err(Failure::from(error).exit(Exit::BadConnection));
            }
            Err(error) => ended(&error),
        }
        let sentence = "watch is canceled by the server";
        Err(Failure::new(Exit::Interrupted, sentence))
    }

    /// What to watch.
    ///
    /// # Errors
    /// The arguments and the variables contradict each other.
    fn watch(&self, variables: &Variables) -> Result<client::Watch> {
        let words: Vec<Bytes> = match &variables.key {
            Some(_) if !self.words.is_empty() => {
                let sentence = format!("{ARGUMENTS} (found conflicting environment key)");
                return Err(Failure::arguments(sentence));
            }
            Some(key) => [key].into_iter().chain(&variables.end).cloned().collect(),
            None => self.words.iter().map(|word| bytes(word)).collect(),
        };
        let keys = match &words[..] {
            [key] if self.prefix => KeyRange::prefix(key.clone()),
            [key] => KeyRange::key(key.clone()),
            [_, _] if self.prefix => {
                return Err(Failure::arguments(
                    "`range_end` and `--prefix` are mutually exclusive",
                ));
            }
            [key, end] => KeyRange::between(key.clone(), end.clone()),
            _ => return Err(Failure::arguments(ARGUMENTS)),
        };
        Ok(client::Watch {
            start_revision: self.rev.max(0),
            prev_kv: self.prev_kv,
            progress: self.progress_notify,
            ..client::Watch::new(keys)
        })
    }
}

/// The variables that stand for the key and the end of the range.
#[derive(Default)]
struct Variables {
    key: Option<Bytes>,
    end: Option<Bytes>,
}

impl Variables {
    fn read() -> Result<Variables> {
        let variable = |name| {
            let value = std::env::var_os(name).filter(|value| !value.is_empty());
            value.map(|value| bytes(&value))
        };
        let key = variable("ETCDCTL_WATCH_KEY");
        let end = variable("ETCDCTL_WATCH_RANGE_END");
        match &end {
            Some(end) if key.is_none() => {
                let end = quote(end);
                let sentence =
                    format!("ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={end}");
                Err(Failure::arguments(sentence))
            }
            _ => Ok(Variables { key, end }),
        }
    }
}

/// Prints what a watch tells until it ends.
async fn follow(
    context: &Context,
    keys: &KeyRange,
    watcher: &Watcher,
    program: &[OsString],
) -> Result<()> {
    let mut header = header(context, keys).await?;
    loop {
        let notice = match watcher.next().await {
            Ok(Some(notice)) => notice,
            Ok(None) => return Ok(()),
            Err(error) => {
                ended(&error);
                return Ok(());
            }
        };
        match notice {
            Notice::Events {
                revision, events, ..
            } => {
                header.revision = revision;
                let changes = Changes {
                    header,
                    events,
                    ..Changes::default()
                };
                context.print(&Answer::Watch(&changes))?;
                for event in changes.events.iter().filter(|_| !program.is_empty()) {
                    run(program, revision, event).await?;
                }
            }
            Notice::Progress { revision } => {
                header.revision = revision;
                told_progress(context, header)?;
            }
            Notice::Disconnected { error } => {
                let why = error.message;
                anstream::eprintln!("the watch is cut off ({why}); it goes on by itself");
            }
            Notice::Resumed { .. } => {
                // It may be another member now. That it does not say so is no reason to end.
                header = self::header(context, keys).await.unwrap_or(header);
            }
            Notice::Reset { cause, .. } | Notice::Diff { cause, .. } => {
                return gap(context, header, cause);
            }
            _ => {}
        }
    }
}

fn told_progress(context: &Context, header: Header) -> Result<()> {
    let line = format!("progress notify: {}", header.revision);
    context.printer.line(&line)?;
    let changes = Changes {
        header,
        ..Changes::default()
    };
    context.print(&Answer::Watch(&changes))
}

/// There is no history to go on with. A program that was told everything so far can't be told the rest: the watch ends, as etcdctl's does.
fn gap(context: &Context, header: Header, cause: ResetCause) -> Result<()> {
    let (why, compact_revision) = match cause {
        ResetCause::Compacted { revision } => (COMPACTED, revision),
        ResetCause::Restored | ResetCause::Begun => (RESTORED, 0),
    };
    anstream::eprintln!("watch was canceled ({why})");
    let changes = Changes {
        // etcd answers this without a revision of its store.
        header: Header {
            revision: 0,
            ..header
        },
        compact_revision,
        cancelled: true,
        ..Changes::default()
    };
    context.print(&Answer::Watch(&changes))
}

fn ended(error: &Error) {
    anstream::eprintln!("watch was canceled ({})", error.message);
}

/// Who is asked, for the forms that tell it. Whoever may watch the keys may read them.
async fn header(context: &Context, keys: &KeyRange) -> Result<Header> {
    if context.printer.form == Form::Simple {
        return Ok(Header::default());
    }
    let read = Range {
        limit: 1,
        keys_only: true,
        serializable: true,
        ..Range::new(keys.clone())
    };
    Ok(context.client.range(read).await?.header)
}

/// Runs the program for one change. While it runs nothing more is told.
async fn run(program: &[OsString], revision: i64, event: &Event) -> Result<()> {
    let kind = match event.kind {
        EventKind::Put => "PUT",
        EventKind::Delete => "DELETE",
    };
    let mut command = Command::new(&program[0]);
    command
        .args(&program[1..])
        .env("ETCD_WATCH_REVISION", revision.to_string())
        .env("ETCD_WATCH_EVENT_TYPE", quote(kind.as_bytes()))
        .env("ETCD_WATCH_KEY", quote(&event.kv.key))
        .env("ETCD_WATCH_VALUE", quote(&event.kv.value))
        .stdin(Stdio::null());
    let ran = spawn_blocking(move || command.status()).await;
    let why = match ran.map_err(std::io::Error::other).flatten() {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    anstream::eprintln!("command {program:?} error ({why})");
    Err(Failure::told())
}

/// A line that begins a watch.
#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Line {
    #[command(flatten)]
    watch: Watch,
}

/// Does what the lines of the standard input say.
async fn converse(context: Arc<Context>, variables: Variables) -> Result<()> {
    let mut lines = input_lines();
    let mut running = Vec::new();
    while let Some(line) = lines.recv().await {
        let line = match line {
            Ok(line) if line.ends_with('\n') => line.trim_end_matches('\n').to_owned(),
            Ok(_) => break,
            Err(error) => {
                let sentence = format!("error reading watch request line: {error}");
                return Err(Failure::new(Exit::InvalidInput, sentence));
            }
        };
        let words = words(&line).unwrap_or_default();
        match words.split_first() {
            Some((first, rest)) if first == b"watch" => {
                match begin(&context, &variables, rest).await {
                    Ok(watcher) => running.push(watcher),
                    Err(why) => anstream::eprintln!("Invalid command {line} ({why})"),
                }
            }
            Some((first, [])) if first == b"progress" => {
                for (keys, watcher) in &running {
                    progress(&context, keys, watcher).await?;
                }
            }
            _ => anstream::eprintln!("Invalid command {line} (watch and progress supported)"),
        }
    }
    let sentence = "error reading watch request line: EOF";
    Err(Failure::new(Exit::InvalidInput, sentence))
}

/// The lines of the standard input, each with its end.
fn input_lines() -> mpsc::Receiver<std::io::Result<String>> {
    let (lines, read) = mpsc::channel(LINES_WAITING);
    // A thread that nobody waits for: one that is blocked reading can't be told to stop.
    thread::spawn(move || {
        loop {
            let mut line = String::new();
            let read = stdin().lock().read_line(&mut line);
            let last = !matches!(read, Ok(1..));
            if lines.blocking_send(read.map(|_| line)).is_err() || last {
                return;
            }
        }
    });
    read
}

/// Begins the watch of a line, and tells of it beside the others.
async fn begin(
    context: &Arc<Context>,
    variables: &Variables,
    words: &[Vec<u8>],
) -> Result<(KeyRange, Arc<Watcher>), String> {
    let words = words.iter().cloned().map(OsString::from_vec);
    let read = as_etcdctl_reads(Line::command()).try_get_matches_from(words);
    let read = read.and_then(|matches| Line::from_arg_matches(&matches));
    let Line { watch: line } = read.map_err(|error| error.kind().to_string())?;
    let watch = line
        .watch(variables)
        .map_err(|failure| failure.sentence().to_owned())?;
    let began = context.client.watch(watch.clone()).await;
    let watcher = Arc::new(began.map_err(|error| error.message)?);
    let keys = watch.keys;
    let running = (keys.clone(), watcher.clone());
    let context = context.clone();
    tokio::spawn(async move {
        if let Err(failure) = follow(&context, &keys, &watcher, &line.program).await {
            failure.report(&context.endpoints);
        }
    });
    Ok(running)
}

/// Tells how far a watch is once it is as far as the store was when this was asked.
async fn progress(context: &Context, keys: &KeyRange, watcher: &Watcher) -> Result<()> {
    let newest = context.client.range(Range {
        limit: 1,
        keys_only: true,
        ..Range::new(keys.clone())
    });
    let mut header = newest.await?.header;
    let deadline = Instant::now() + PROGRESS;
    while watcher.lag().revision < header.revision && Instant::now() < deadline {
        sleep(LOOK).await;
    }
    header.revision = watcher.lag().revision;
    told_progress(context, header)
}
