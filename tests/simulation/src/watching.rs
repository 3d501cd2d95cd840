//! What members say in their logs, of which some is counted and, where asked for, all is printed; and panics, each of which is wrong.

use std::cell::{Cell, RefCell};
use std::fmt::{Debug, Write as _};
use std::panic;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static SEEN: Cell<Seen> = const { Cell::new(Seen { tails_truncated: 0, snapshots_cut: 0, snapshots_resumed: 0 }) };
}

/// Begins to watch this thread.
pub fn begin(verbose: bool) {
    let watcher = Watcher { verbose };
    // One run a process.
    tracing::subscriber::set_global_default(watcher).ok();
    panic::set_hook(Box::new(|info| {
        PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
    }));
}

/// Panics since the last call.
pub fn take_panics() -> Vec<String> {
    PANICS.take()
}

/// What members said so far that is counted.
#[derive(Clone, Copy)]
pub struct Seen {
    /// Ends of logs that were given up to a leader.
    pub tails_truncated: u64,
    /// Snapshots that did not arrive whole.
    pub snapshots_cut: u64,
    /// Those that went on where an earlier one was cut.
    pub snapshots_resumed: u64,
}

/// What was counted in this run.
pub fn seen() -> Seen {
    SEEN.get()
}

struct Watcher {
    verbose: bool,
}

#[derive(Default)]
struct Words {
    message: String,
    fields: String,
    from: u64,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            // A string takes whatever is written.
            write!(self.fields, " {}={value:?}", field.name()).ok();
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        if field.name() == "from" {
            self.from = value as u64;
        }
        self.record_debug(field, &value);
    }
}

impl Subscriber for Watcher {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("keystead")
    }

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        let mut seen = SEEN.get();
        match words.message.as_str() {
            "gave up entries that the leader does not have" => seen.tails_truncated += 1,
            "a snapshot was cut; what came of it is kept" => seen.snapshots_cut += 1,
            "taking a snapshot" => seen.snapshots_resumed += u64::from(words.from > 0),
            _ => {}
        }
        SEEN.set(seen);
        if self.verbose {
            eprintln!("            {}{}", words.message, words.fields);
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
