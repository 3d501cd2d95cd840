//! What the client logs, for a language to hand to its own logging. It is kept here until a thread of the language takes it: the I/O
//! thread never waits for one.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::Once;
use std::time::SystemTime;

use keystead_client::locks::{Condvar, Mutex};
use tracing::field::{Field, Visit};
use tracing::metadata::LevelFilter;
use tracing::span::{Attributes, Id, Record as SpanRecord};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::fork::OnePerProcess;

/// So many records wait at most: connections that come and go make a few a second.
const MOST_WAITING: usize = 1000;

/// One thing that was logged.
#[derive(Clone, Debug)]
pub struct LogRecord {
    /// How bad it is.
    pub severity: Severity,
    /// When it happened.
    pub at: SystemTime,
    /// What happened, with its circumstances as `name=value`.
    pub message: String,
    /// The part of the library that it happened in.
    pub module: &'static str,
    /// How many records before it were lost because nobody took them.
    pub lost_before: u64,
}

/// How bad what was logged is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Of use to who looks for a fault.
    Debug,
    /// Worth knowing.
    Info,
    /// Something is not as it should be, and is dealt with.
    Warning,
    /// Something failed.
    Error,
}

/// Those of this process: a child begins with none.
static WAITING: OnePerProcess<Waiting> = OnePerProcess::new();

#[derive(Default)]
struct Waiting {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    records: VecDeque<LogRecord>,
    lost: u64,
    ended: bool,
}

/// Keeps what the client logs from now on, up to a thousand records, for [`next`]. Calling it again does nothing. A process that already
/// has another consumer of `tracing` keeps that, and nothing comes here.
pub fn keep() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        let _ = tracing::subscriber::set_global_default(Keeper);
    });
}

/// Waits for the next record; none after the last, once [`end`] was called.
pub fn next() -> Option<LogRecord> {
    WAITING.with(|waiting| {
        let nothing_yet = |queue: &mut Queue| queue.records.is_empty() && !queue.ended;
        let queue = waiting.queue.lock();
        let mut queue = waiting.changed.wait_while(queue, nothing_yet);
        queue.records.pop_front()
    })
}

/// Has nobody wait any more, for good: what was kept can still be taken.
pub fn end() {
    WAITING.with(|waiting| {
        waiting.queue.lock().ended = true;
        waiting.changed.notify_all();
    });
}

fn put(record: LogRecord) {
    WAITING.with(|waiting| {
        let mut queue = waiting.queue.lock();
        if queue.records.len() == MOST_WAITING {
            queue.lost += 1;
            return;
        }
        let lost_before = std::mem::take(&mut queue.lost);
        queue.records.push_back(LogRecord {
            lost_before,
            ..record
        });
        drop(queue);
        waiting.changed.notify_one();
    });
}

/// The consumer of the client's events. It has no spans, and costs nothing where there are no events.
struct Keeper;

impl Subscriber for Keeper {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target().starts_with("keystead");
        ours && metadata.is_event() && *metadata.level() <= Level::DEBUG
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn event(&self, event: &Event<'_>) {
        let mut message = Message::default();
        event.record(&mut message);
        let metadata = event.metadata();
        put(LogRecord {
            severity: match *metadata.level() {
                Level::ERROR => Severity::Error,
                Level::WARN => Severity::Warning,
                Level::INFO => Severity::Info,
                _ => Severity::Debug,
            },
            at: SystemTime::now(),
            message: message.text + &message.circumstances,
            module: metadata.target(),
            lost_before: 0,
        });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &SpanRecord<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// What an event says, and then its other fields.
#[derive(Default)]
struct Message {
    text: String,
    circumstances: String,
}

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing into a string does not fail.
        let _ = if field.name() == "message" {
            write!(self.text, "{value:?}")
        } else {
            write!(self.circumstances, " {}={value:?}", field.name())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_takes_is_bounded_and_what_is_lost_is_counted() {
        let record = |number: usize| LogRecord {
            severity: Severity::Debug,
            at: SystemTime::now(),
            message: number.to_string(),
            module: "test",
            lost_before: 0,
        };
        (0..MOST_WAITING + 3).for_each(|number| put(record(number)));
        let first = next().expect("it was put in");
        assert_eq!((first.message.as_str(), first.lost_before), ("0", 0));
        put(record(7000));
        end();
        let rest: Vec<LogRecord> = std::iter::from_fn(next).collect();
        assert_eq!(rest.len(), MOST_WAITING);
        let last = rest.last().expect("there are many");
        assert_eq!((last.message.as_str(), last.lost_before), ("7000", 3));
    }
}
