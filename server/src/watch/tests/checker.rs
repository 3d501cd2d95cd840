//! The rules of a watch, checked on everything that one stream was sent.
//!
//! Only keys of the span; revisions in order and none twice; a revision whole in one message or its
//! fragments; nothing missing between start and end; nothing at or below a promised revision after
//! the promise; previous versions as history has them; created first, cancelled last.

use std::collections::HashMap;

use keystead_mvcc::Row;
use keystead_proto::etcdserverpb::WatchResponse;
use keystead_proto::mvccpb::{Event, event::EventType};

use super::model::{Model, kv};
use crate::watch::{Create, History, Span};

/// The spec of a watcher that a test asked for, in the order of its requests.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) key: Vec<u8>,
    pub(super) range_end: Vec<u8>,
    pub(super) start_revision: i64,
    pub(super) no_put: bool,
    pub(super) no_delete: bool,
    pub(super) prev_kv: bool,
    pub(super) fragment: bool,
}

impl Asked {
    pub(super) fn create(&self) -> Create<'_> {
        Create {
            key: &self.key,
            range_end: &self.range_end,
            start_revision: self.start_revision,
            watch_id: 0,
            progress_notify: true,
            no_put: self.no_put,
            no_delete: self.no_delete,
            prev_kv: self.prev_kv,
            fragment: self.fragment,
        }
    }
}

/// One watcher as the client sees it.
struct Seen {
    asked: Asked,
    start: i64,
    /// What it must be sent, as far as the history goes.
    expected: Vec<Row>,
    /// How many of `expected` it was sent.
    sent: usize,
    promised: i64,
    /// The revision whose fragments are still coming.
    fragmented: bool,
    canceled: Option<i64>,
}

/// Checks a stream's whole life. `asked` are its accepted creates in order; a stream that is `open` has
/// been sent everything.
pub(super) fn check(model: &Model, asked: &[Asked], messages: &[WatchResponse], open: bool) {
    let mut watchers: HashMap<i64, Seen> = HashMap::new();
    let mut asked = asked.iter();
    for message in messages {
        let header = message.header.as_ref().map_or(0, |header| header.revision);
        if message.created {
            assert!(!message.canceled, "refused: {message:?}");
            let seen = begin(model, asked.next().expect("one answer per create"), header);
            assert!(
                watchers.insert(message.watch_id, seen).is_none(),
                "an id given twice"
            );
        } else if message.watch_id == -1 {
            assert!(
                message.events.is_empty() && !message.canceled,
                "{message:?}"
            );
            for seen in watchers.values_mut().filter(|seen| seen.canceled.is_none()) {
                seen.promise(header);
            }
        } else {
            let seen = watchers
                .get_mut(&message.watch_id)
                .expect("created before anything else");
            seen.take(model, message, header);
        }
    }
    assert!(asked.next().is_none() || !open, "every create is answered");
    for (id, seen) in &watchers {
        assert!(!seen.fragmented, "watcher {id} ends within a revision");
        let next = seen.expected.get(seen.sent).map(|row| row.revision.main);
        match (seen.canceled, next) {
            (None, Some(next)) if open => panic!("watcher {id} never got revision {next}"),
            (Some(compacted), _) => assert!(compacted == 0 || compacted <= model.compacted()),
            _ => {}
        }
    }
}

fn begin(model: &Model, asked: &Asked, revision: i64) -> Seen {
    let span = Span::parse(&asked.key, &asked.range_end)
        .expect("the programs ask for ranges that hold keys");
    let start = if asked.start_revision == 0 {
        revision + 1
    } else {
        asked.start_revision
    };
    let wanted = |row: &Row| {
        row.revision.main >= start
            && span.contains(kv(row).key)
            && !(if row.tombstone {
                asked.no_delete
            } else {
                asked.no_put
            })
    };
    Seen {
        asked: asked.clone(),
        start,
        expected: model.rows().into_iter().filter(wanted).collect(),
        sent: 0,
        promised: 0,
        fragmented: false,
        canceled: None,
    }
}

impl Seen {
    fn take(&mut self, model: &Model, message: &WatchResponse, header: i64) {
        assert_eq!(self.canceled, None, "nothing follows a cancel: {message:?}");
        if message.canceled {
            assert!(message.events.is_empty() && message.cancel_reason.is_empty());
            assert_eq!(
                header == 0,
                message.compact_revision != 0,
                "only compaction tells revision 0"
            );
            self.canceled = Some(message.compact_revision);
            return;
        }
        if message.events.is_empty() {
            return self.promise(header);
        }
        assert!(self.asked.fragment || !message.fragment);
        let before = self
            .sent
            .checked_sub(1)
            .map(|last| self.expected[last].revision.main);
        for event in &message.events {
            let row = self
                .expected
                .get(self.sent)
                .unwrap_or_else(|| panic!("more than there is: {event:?}"));
            assert!(
                row.revision.main > self.promised,
                "revision {} after progress {}",
                row.revision,
                self.promised
            );
            assert!(
                row.revision.main <= header,
                "the header tells {header} before {}",
                row.revision
            );
            same_event(model, row, event, self.asked.prev_kv);
            self.sent += 1;
        }
        let first = message.events[0]
            .kv
            .as_ref()
            .map_or(0, |kv| kv.mod_revision);
        assert!(
            self.fragmented || before != Some(first),
            "revision {first} is split"
        );
        self.fragmented = message.fragment;
    }

    fn promise(&mut self, revision: i64) {
        assert!(!self.fragmented, "progress between fragments");
        let asked = self.asked.start_revision;
        assert!(
            asked <= revision,
            "progress {revision} before the start {asked}"
        );
        assert!(revision >= self.promised, "progress falls");
        assert!(revision + 1 >= self.start);
        if let Some(next) = self.expected.get(self.sent) {
            assert!(
                next.revision.main > revision,
                "progress {revision} before revision {}",
                next.revision
            );
        }
        self.promised = revision;
    }
}

fn same_event(model: &Model, row: &Row, event: &Event, prev_kv: bool) {
    let sent = event.kv.as_ref().expect("an event has a kv");
    let stored = kv(row);
    assert_eq!(event.r#type() == EventType::Delete, row.tombstone);
    assert_eq!(
        (&sent.key[..], sent.mod_revision),
        (stored.key, row.revision.main)
    );
    assert_eq!(&sent.value[..], stored.value);
    assert_eq!(
        (sent.create_revision, sent.version),
        (stored.create_revision, stored.version)
    );
    assert_eq!(
        sent.version == 1,
        !row.tombstone && sent.create_revision == sent.mod_revision
    );
    let before = row.revision.main - 1;
    let earlier = model.value_at(stored.key, before).filter(|_| prev_kv);
    match (&event.prev_kv, earlier) {
        (Some(told), Some(earlier)) => {
            assert_eq!(
                (&told.value[..], told.mod_revision),
                (kv(&earlier).value, earlier.revision.main)
            );
        }
        (None, Some(_)) => assert!(
            before < model.compacted(),
            "no previous version at {}",
            row.revision
        ),
        (told, None) => assert!(told.is_none(), "a previous version from nowhere"),
    }
}
