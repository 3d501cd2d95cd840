//! The keys that a watch told of, each with the revision of its last write, so that it can tell what differs from a later state.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use keystead_proto::mvccpb::KeyValue;

use super::notice::{Event, EventKind, Notice};

/// At most so many keys; nothing at all once there were more.
pub(super) struct Tracked {
    keys: Option<BTreeMap<Bytes, i64>>,
    most: usize,
}

impl Tracked {
    /// Knows nothing until the first page of a state.
    pub(super) fn new(most: usize) -> Tracked {
        Tracked { keys: None, most }
    }

    /// What was handed out is known in full.
    pub(super) fn is_whole(&self) -> bool {
        self.keys.is_some()
    }

    /// `notice` is handed out.
    pub(super) fn note(&mut self, notice: &Notice) {
        match notice {
            Notice::Events { events, .. } => {
                for event in events {
                    match event.kind {
                        EventKind::Put => self.insert(&event.kv),
                        EventKind::Delete => self.remove(&event.kv.key),
                    }
                }
            }
            Notice::Reset { page, kvs, .. } => {
                if *page == 0 {
                    self.keys = Some(BTreeMap::new());
                }
                kvs.iter().for_each(|kv| self.insert(kv));
            }
            _ => {}
        }
    }

    /// What differs between what was handed out and `page`, which is the state from after `position` on, up to the page's last key, or
    /// to the end when it is the last. It counts as handed out from here on. `trusted` says that a key of the same revision
    /// is the same key, which after a restore it need not be.
    pub(super) fn diff(
        &mut self,
        position: &mut Bound<Bytes>,
        page: Vec<KeyValue>,
        revision: i64,
        last: bool,
        trusted: bool,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        for kv in page {
            let here = Bound::Excluded(kv.key.clone());
            self.forget(position, here.clone(), revision, &mut events);
            *position = here;
            let known = self.keys.as_ref().and_then(|keys| keys.get(&kv.key));
            if !trusted || known != Some(&kv.mod_revision) {
                self.insert(&kv);
                events.push(Event {
                    kind: EventKind::Put,
                    kv,
                    prev_kv: None,
                });
            }
        }
        if last {
            self.forget(position, Bound::Unbounded, revision, &mut events);
        }
        events
    }

    /// The keys between `from` and `to` are there no more.
    fn forget(
        &mut self,
        from: &Bound<Bytes>,
        to: Bound<Bytes>,
        revision: i64,
        events: &mut Vec<Event>,
    ) {
        let Some(keys) = &mut self.keys else { return };
        let between = keys.range((from.clone(), to));
        let gone: Vec<Bytes> = between.map(|(key, _)| key.clone()).collect();
        for key in gone {
            keys.remove(&key);
            let kv = KeyValue {
                key,
                mod_revision: revision,
                ..Default::default()
            };
            events.push(Event {
                kind: EventKind::Delete,
                kv,
                prev_kv: None,
            });
        }
    }

    fn insert(&mut self, kv: &KeyValue) {
        let Some(keys) = &mut self.keys else { return };
        if let Some(revision) = keys.get_mut(&kv.key) {
            *revision = kv.mod_revision;
            return;
        }
        if keys.len() >= self.most {
            self.keys = None;
            return;
        }
        // A copy: the key shares the memory of a whole message.
        keys.insert(Bytes::copy_from_slice(&kv.key), kv.mod_revision);
    }

    fn remove(&mut self, key: &Bytes) {
        if let Some(keys) = &mut self.keys {
            keys.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::notice::ResetCause;

    fn kv(key: &'static str, mod_revision: i64) -> KeyValue {
        KeyValue {
            key: key.into(),
            mod_revision,
            ..Default::default()
        }
    }

    fn tracked(most: usize, kvs: &[KeyValue]) -> Tracked {
        let mut tracked = Tracked::new(most);
        tracked.note(&Notice::Reset {
            cause: ResetCause::Begun,
            revision: 9,
            page: 0,
            kvs: kvs.to_vec(),
            last: true,
        });
        tracked
    }

    fn told(events: Vec<Event>) -> Vec<String> {
        let told = events.iter().map(|event| {
            let key = String::from_utf8_lossy(&event.kv.key);
            match event.kind {
                EventKind::Put => format!("+{key}@{}", event.kv.mod_revision),
                EventKind::Delete => format!("-{key}@{}", event.kv.mod_revision),
            }
        });
        told.collect()
    }

    #[test]
    fn a_difference_is_exact_however_the_state_is_cut_into_pages() {
        let known = [kv("b", 2), kv("c", 3), kv("d", 4), kv("f", 6), kv("h", 8)];
        let state = [kv("a", 20), kv("c", 3), kv("d", 21), kv("g", 22)];
        let expected = ["+a@20", "-b@30", "+d@21", "-f@30", "+g@22", "-h@30"];
        for size in 1..=state.len() + 1 {
            let mut tracked = tracked(100, &known);
            let mut position = Bound::Unbounded;
            let mut events = Vec::new();
            for page in state.chunks(size) {
                events.extend(tracked.diff(&mut position, page.to_vec(), 30, false, true));
            }
            events.extend(tracked.diff(&mut position, Vec::new(), 30, true, true));
            assert_eq!(told(events), expected, "pages of {size}");
            let again = tracked.diff(&mut Bound::Unbounded, state.to_vec(), 31, true, true);
            assert!(again.is_empty(), "it was handed out: {again:?}");
        }
    }

    #[test]
    fn after_a_restore_no_key_is_known_by_its_revision() {
        let mut tracked = tracked(100, &[kv("a", 2), kv("b", 3)]);
        let events = tracked.diff(&mut Bound::Unbounded, vec![kv("a", 2)], 5, true, false);
        assert_eq!(told(events), ["+a@2", "-b@5"]);
    }

    #[test]
    fn one_key_too_many_and_nothing_is_known() {
        let mut tracked = tracked(2, &[kv("a", 2), kv("b", 3)]);
        assert!(tracked.is_whole());
        tracked.insert(&kv("b", 4));
        assert!(tracked.is_whole());
        tracked.insert(&kv("c", 5));
        assert!(!tracked.is_whole());
    }
}
