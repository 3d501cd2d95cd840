//! Which watchers does a key concern: a hash of single keys beside an interval tree of ranges.
//!
//! One registry per shard for its watchers, one for its in-process waiters, and a passing one when
//! many watchers catch up together. It knows spans and slot numbers, nothing of revisions.

use std::collections::HashMap;

use bytes::Bytes;

use super::intervals::Intervals;
use super::span::Span;

/// Slots filed under spans. A slot is filed at most once.
pub(super) struct Registry {
    groups: Vec<Group>,
    free: Vec<u32>,
    keys: HashMap<Bytes, u32>,
    ranges: HashMap<Span, u32>,
    intervals: Intervals,
    places: Vec<Place>,
    len: usize,
}

struct Group {
    span: Span,
    slots: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Place {
    group: u32,
    position: u32,
}

impl Registry {
    pub(super) fn new() -> Self {
        Registry {
            groups: Vec::new(),
            free: Vec::new(),
            keys: HashMap::new(),
            ranges: HashMap::new(),
            intervals: Intervals::new(),
            places: Vec::new(),
            len: 0,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Files `slot` under `span`.
    pub(super) fn insert(&mut self, span: &Span, slot: u32) {
        let known = match span {
            Span::Key(key) => self.keys.get(key),
            range => self.ranges.get(range),
        };
        let group = known.copied().unwrap_or_else(|| self.add_group(span));
        let slots = &mut self.groups[group as usize].slots;
        let place = Place {
            group,
            position: slots.len() as u32,
        };
        slots.push(slot);
        if self.places.len() <= slot as usize {
            self.places.resize(slot as usize + 1, place);
        }
        self.places[slot as usize] = place;
        self.len += 1;
    }

    /// Takes a slot that is filed out again.
    pub(super) fn remove(&mut self, slot: u32) {
        let Place { group, position } = self.places[slot as usize];
        let slots = &mut self.groups[group as usize].slots;
        slots.swap_remove(position as usize);
        if let Some(moved) = slots.get(position as usize) {
            self.places[*moved as usize].position = position;
        }
        self.len -= 1;
        if slots.is_empty() {
            self.drop_group(group);
        }
    }

    /// The span under which `slot` is filed.
    pub(super) fn span(&self, slot: u32) -> &Span {
        &self.groups[self.places[slot as usize].group as usize].span
    }

    /// Calls `found` with every slot whose span holds `key`, each once.
    pub(super) fn stab(&self, key: &[u8], found: &mut impl FnMut(u32)) {
        let mut each = |group: u32| {
            self.groups[group as usize]
                .slots
                .iter()
                .for_each(|slot| found(*slot))
        };
        if !self.keys.is_empty()
            && let Some(group) = self.keys.get(key)
        {
            each(*group);
        }
        self.intervals.stab(key, &mut each);
    }

    fn add_group(&mut self, span: &Span) -> u32 {
        let new = Group {
            span: span.clone(),
            slots: Vec::new(),
        };
        let group = match self.free.pop() {
            Some(group) => {
                self.groups[group as usize] = new;
                group
            }
            None => {
                self.groups.push(new);
                (self.groups.len() - 1) as u32
            }
        };
        match span {
            Span::Key(key) => self.keys.insert(key.clone(), group),
            Span::Range { start, end } => {
                self.intervals.insert(start.clone(), end.clone(), group);
                self.ranges.insert(span.clone(), group)
            }
        };
        group
    }

    fn drop_group(&mut self, group: u32) {
        match &self.groups[group as usize].span {
            Span::Key(key) => self.keys.remove(key),
            range @ Span::Range { start, end } => {
                self.intervals.remove(start, end);
                self.ranges.remove(range)
            }
        };
        self.free.push(group);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn span() -> impl Strategy<Value = Span> {
        let key = proptest::collection::vec(0u8..4, 1..3);
        (key.clone(), key, 0..4u8).prop_map(|(key, end, kind)| {
            let end: &[u8] = match kind {
                0 => b"",
                1 => b"\0",
                _ => &end,
            };
            Span::parse(&key, end).unwrap_or_else(|_| Span::Key(key.into()))
        })
    }

    proptest! {
        #[test]
        fn a_key_finds_exactly_the_spans_that_hold_it(
            steps in proptest::collection::vec((span(), any::<bool>(), 0usize..64), 1..200),
        ) {
            let mut registry = Registry::new();
            let mut model: Vec<Option<Span>> = Vec::new();
            for (span, remove, pick) in steps {
                let filed: Vec<usize> = (0..model.len()).filter(|slot| model[*slot].is_some()).collect();
                if remove && !filed.is_empty() {
                    let slot = filed[pick % filed.len()];
                    prop_assert_eq!(Some(registry.span(slot as u32)), model[slot].as_ref());
                    registry.remove(slot as u32);
                    model[slot] = None;
                } else {
                    registry.insert(&span, model.len() as u32);
                    model.push(Some(span));
                }
                for key in [&[0u8][..], &[1], &[1, 2], &[2, 0], &[3, 3], &[3, 3, 3]] {
                    let mut found = HashSet::new();
                    registry.stab(key, &mut |slot| assert!(found.insert(slot as usize)));
                    let expected: HashSet<usize> = (0..model.len())
                        .filter(|slot| model[*slot].as_ref().is_some_and(|span| span.contains(key)))
                        .collect();
                    prop_assert_eq!(found, expected);
                }
            }
            prop_assert_eq!(registry.is_empty(), model.iter().all(Option::is_none));
        }
    }
}
