//! The nine rules of a watch stream (etcd's promise, and what it broke at one time or another), judged against the history that the
//! cluster tells in the end:
//!
//! 1. only keys of the filter;
//! 2. revisions never fall;
//! 3. no change comes twice;
//! 4. a revision comes whole, in one message or as fragments of one;
//! 5. after progress at R nothing up to R comes;
//! 6. a stream begins exactly where it was asked to;
//! 7. a creation has version 1, and nothing else has;
//! 8. nothing is missing up to the last thing said;
//! 9. `prev_kv` is the key as it was at the revision before.

use keystead_proto::etcdserverpb::watch_create_request::FilterType;
use keystead_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use keystead_proto::mvccpb::Event;
use keystead_proto::mvccpb::event::EventType;

use super::history::{Truth, covers};

/// One stream with one watcher, from its creation to whatever ended it.
#[derive(Clone, Debug)]
pub struct Stream {
    pub asked: WatchCreateRequest,
    pub messages: Vec<WatchResponse>,
}

/// How much one stream told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub events: u64,
    pub progress: u64,
    pub fragments: u64,
    /// All up to here was told.
    pub up_to: i64,
}

/// Fails with the first rule that is broken.
pub fn check(stream: &Stream, truth: &Truth) -> Result<Told, String> {
    let mut judge = Judge::new(stream, truth);
    for message in &stream.messages {
        judge
            .hear(message)
            .map_err(|wrong| format!("{wrong}; in {message:?}"))?;
    }
    Ok(judge.told)
}

struct Judge<'a> {
    asked: &'a WatchCreateRequest,
    truth: &'a Truth,
    /// The next revision whose events may come; 0 until the stream has said where it begins.
    next: i64,
    /// Events of a revision whose message is not whole yet.
    fragments: Vec<Event>,
    told: Told,
}

impl<'a> Judge<'a> {
    fn new(stream: &'a Stream, truth: &'a Truth) -> Judge<'a> {
        Judge {
            asked: &stream.asked,
            truth,
            next: stream.asked.start_revision,
            fragments: Vec::new(),
            told: Told::default(),
        }
    }

    fn hear(&mut self, message: &WatchResponse) -> Result<(), String> {
        let header = message.header.unwrap_or_default().revision;
        if message.created {
            if self.next == 0 {
                // "Now" is where the creation's header says it is.
                self.next = header + 1;
            }
            self.told.up_to = self.next - 1;
            return Ok(());
        }
        if message.canceled {
            // Nothing is compacted that a stream here still asks for.
            return Err(format!("canceled at {} without need", self.next));
        }
        if message.events.is_empty() {
            self.told.progress += 1;
            return self.hear_progress(header);
        }
        self.fragments.extend_from_slice(&message.events);
        if message.fragment {
            self.told.fragments += 1;
            return Ok(());
        }
        let events = std::mem::take(&mut self.fragments);
        let last = revision(events.last());
        if header < last {
            return Err(format!(
                "the header's revision is below the last event's, {last}"
            ));
        }
        for whole in events.chunk_by(|one, next| revision(Some(one)) == revision(Some(next))) {
            self.hear_revision(whole)?;
        }
        Ok(())
    }

    /// All up to `to` was told: what is between must have nothing for this watcher.
    fn hear_progress(&mut self, to: i64) -> Result<(), String> {
        if to > self.truth.last() {
            return Err(format!(
                "progress past the end of all, {}",
                self.truth.last()
            ));
        }
        self.nothing_due_before(to + 1)?;
        self.next = self.next.max(to + 1);
        self.told.up_to = self.told.up_to.max(to);
        Ok(())
    }

    fn hear_revision(&mut self, events: &[Event]) -> Result<(), String> {
        let revision = revision(events.first());
        if revision < self.next {
            return Err(format!("revision {revision} where {} is next", self.next));
        }
        if revision > self.truth.last() {
            return Err(format!("revision {revision} is past the end of all"));
        }
        self.nothing_due_before(revision)?;
        let due = self.due(revision);
        if due != events {
            return Err(format!("revision {revision} is {events:?}, due is {due:?}"));
        }
        self.told.events += events.len() as u64;
        self.next = revision + 1;
        self.told.up_to = revision;
        Ok(())
    }

    fn nothing_due_before(&self, end: i64) -> Result<(), String> {
        let from = self.next.max(self.truth.base() + 1);
        let missed = (from..end).find(|revision| !self.due(*revision).is_empty());
        match missed {
            Some(revision) => Err(format!(
                "revision {revision} is missing: {:?}",
                self.due(revision)
            )),
            None => Ok(()),
        }
    }

    /// What this watcher is to be told of a revision.
    fn due(&self, revision: i64) -> Vec<Event> {
        let left_out = |event: &Event| {
            let filter = match event.r#type() {
                EventType::Put => FilterType::Noput,
                EventType::Delete => FilterType::Nodelete,
            };
            self.asked.filters.contains(&filter.into())
        };
        let key = |event: &Event| {
            event
                .kv
                .as_ref()
                .map(|kv| kv.key.clone())
                .unwrap_or_default()
        };
        let change = self.truth.change(revision).iter();
        let mut due: Vec<Event> = change
            .filter(|event| covers(&self.asked.key, &self.asked.range_end, &key(event)))
            .filter(|event| !left_out(event))
            .cloned()
            .collect();
        for event in &mut due {
            let before = self.truth.content(revision - 1).get(&key(event));
            event.prev_kv = before.filter(|_| self.asked.prev_kv).cloned();
        }
        due
    }
}

fn revision(event: Option<&Event>) -> i64 {
    event
        .and_then(|event| event.kv.as_ref())
        .map_or(0, |kv| kv.mod_revision)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use keystead_proto::etcdserverpb::ResponseHeader;

    use super::super::history::{Content, Op, Request, effect};
    use super::*;

    const BASE: i64 = 10;

    /// Puts of a, b, a, then both removed at once: revisions 11 to 14.
    fn truth() -> Truth {
        let put = |key: &str, value: &str| Op::Put {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            lease: 0,
        };
        let all_gone = Op::Delete {
            key: "a".into(),
            range_end: "\0".into(),
        };
        let ops = [put("a", "1"), put("b", "1"), put("a", "2"), all_gone];
        let (mut content, mut events) = (Content::new(), Vec::new());
        for (op, revision) in ops.into_iter().zip(BASE + 1..) {
            for event in effect(&Request::Alone(op), &content, revision).events {
                let kv = event.kv.clone().expect("an event has a key");
                match event.r#type() {
                    EventType::Put => content.insert(kv.key.clone(), kv),
                    EventType::Delete => content.remove(&kv.key),
                };
                events.push(event);
            }
        }
        Truth::new(BASE, Content::new(), &events).expect("it is a history")
    }

    fn stream(truth: &Truth, asked: WatchCreateRequest) -> Stream {
        let start = asked.start_revision;
        let mut stream = Stream {
            asked,
            messages: vec![WatchResponse {
                header: header(BASE),
                created: true,
                ..Default::default()
            }],
        };
        for revision in start.max(BASE + 1)..=truth.last() {
            let events = Judge::new(&stream, truth).due(revision);
            if !events.is_empty() {
                stream.messages.push(message(revision, events));
            }
        }
        stream
    }

    fn header(revision: i64) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision,
            ..Default::default()
        })
    }

    fn message(revision: i64, events: Vec<Event>) -> WatchResponse {
        WatchResponse {
            header: header(revision),
            events,
            ..Default::default()
        }
    }

    fn everything() -> WatchCreateRequest {
        WatchCreateRequest {
            key: "a".into(),
            range_end: "\0".into(),
            start_revision: BASE + 1,
            prev_kv: true,
            ..Default::default()
        }
    }

    /// Refuses a right stream that was changed in one way.
    fn refuse(why: &str, change: fn(&mut Vec<WatchResponse>)) {
        let truth = truth();
        let mut stream = stream(&truth, everything());
        change(&mut stream.messages);
        let wrong = check(&stream, &truth).expect_err("a rule is broken");
        assert!(wrong.contains(why), "{wrong}");
    }

    #[test]
    fn streams_that_tell_what_was_asked_for_are_accepted() {
        let truth = truth();
        let everything = everything();
        let no_puts = WatchCreateRequest {
            filters: vec![FilterType::Noput.into()],
            ..everything.clone()
        };
        let one_key = WatchCreateRequest {
            range_end: Bytes::new(),
            prev_kv: false,
            ..everything.clone()
        };
        let from_now = WatchCreateRequest {
            start_revision: 0,
            ..everything.clone()
        };
        let late = WatchCreateRequest {
            start_revision: BASE + 3,
            ..everything.clone()
        };
        for (asked, events) in [
            (everything, 5),
            (no_puts, 2),
            (one_key, 3),
            (from_now, 5),
            (late, 3),
        ] {
            let mut stream = stream(&truth, asked);
            stream.messages.push(message(truth.last(), vec![]));
            let told = check(&stream, &truth).expect("it is right");
            assert_eq!((told.events, told.up_to), (events, truth.last()));
        }
    }

    #[test]
    fn fragments_of_one_revision_and_several_revisions_in_a_message_are_accepted() {
        let truth = truth();
        let mut stream = stream(&truth, everything());
        let mut last = stream.messages.pop().expect("a message");
        let second = last.events.pop().expect("two events");
        last.fragment = true;
        stream
            .messages
            .extend([last, message(BASE + 4, vec![second])]);
        let merged = stream.messages.remove(2).events;
        stream.messages[1].events.extend(merged);
        stream.messages[1].header = header(BASE + 2);
        let told = check(&stream, &truth).expect("it is right");
        assert_eq!((told.events, told.fragments), (5, 1));
    }

    #[test]
    fn a_gap_is_refused() {
        refuse("revision 12 is missing", |messages| {
            messages.remove(2);
        });
        refuse("revision 11 is missing", |messages| {
            messages.remove(1);
        });
    }

    #[test]
    fn events_out_of_order_or_twice_are_refused() {
        refuse("revision 12 is missing", |messages| messages.swap(2, 3));
        refuse("revision 12 where 13 is next", |messages| {
            messages.insert(3, messages[2].clone());
        });
        refuse("due is", |messages| {
            let twin = messages[1].events[0].clone();
            messages[1].events.push(twin);
        });
    }

    #[test]
    fn a_revision_in_two_messages_is_refused() {
        refuse("due is", |messages| {
            let second = messages[4].events.pop().expect("two events");
            messages.push(message(BASE + 4, vec![second]));
        });
    }

    #[test]
    fn progress_too_early_is_refused() {
        refuse("revision 12 is missing", |messages| {
            messages.insert(2, message(BASE + 2, vec![]));
        });
        refuse("progress past the end of all", |messages| {
            messages.push(message(BASE + 5, vec![]));
        });
    }

    #[test]
    fn events_of_other_keys_or_kinds_are_refused() {
        let truth = truth();
        let right = stream(&truth, everything());
        for asked in [
            WatchCreateRequest {
                range_end: Bytes::new(),
                ..everything()
            },
            WatchCreateRequest {
                filters: vec![FilterType::Nodelete.into()],
                ..everything()
            },
        ] {
            let wrong = Stream {
                asked,
                ..right.clone()
            };
            check(&wrong, &truth).expect_err("it tells too much");
        }
    }

    #[test]
    fn wrong_versions_previous_values_and_headers_are_refused() {
        refuse("due is", |messages| {
            messages[3].events[0].kv.as_mut().expect("a key").version = 1;
        });
        refuse("due is", |messages| messages[3].events[0].prev_kv = None);
        refuse("due is", |messages| {
            messages[1].events[0].prev_kv = messages[1].events[0].kv.clone();
        });
        refuse("below the last event's", |messages| {
            messages[4].header = header(BASE + 3);
        });
    }

    #[test]
    fn a_stream_that_is_canceled_without_need_is_refused() {
        refuse("canceled at 15 without need", |messages| {
            messages.push(WatchResponse {
                canceled: true,
                ..Default::default()
            });
        });
    }
}
