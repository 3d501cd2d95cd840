//! Is there one order of all operations in which every answer is right, and which nobody's clock contradicts? etcd's revisions say
//! where an answered operation stands: a write at its own revision, a read behind the revision that its answer names. So
//! no order is searched for: each answer is compared with the content at its place, and one pass in the order of time
//! proves that nothing that had ended before an operation began stands behind it. Only writes of unknown outcome have to be
//! found: values are unique, so the history itself tells which of them happened. What nobody asked for can only be the end of
//! a lease whose time was up; `leases` judges whether it was.
//!
//! Serializable reads may stand in the past, but never in the future.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use keystead_proto::mvccpb::event::EventType;

use super::history::{Answer, Effect, Ending, Op, Operation, Request, Truth, effect, end_of_lease};

/// What was proven of how much.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Proven {
    pub writes: u64,
    pub reads: u64,
    pub serializable_reads: u64,
    /// Operations of unknown outcome that happened.
    pub unknown_done: u64,
    /// Leases that ended without being revoked by anybody, and the revision of that.
    pub expired: Vec<(i64, i64)>,
    /// And those that did not, by their place in the history: they still may.
    pub open: Vec<usize>,
}

/// Fails with the first contradiction.
pub fn check(operations: &[Operation], truth: &Truth) -> Result<Proven, String> {
    let mut proven = Proven::default();
    let mut places = Places::new(operations.len());
    for (index, operation) in operations.iter().enumerate() {
        if let Ending::Answered(answer) = &operation.ending {
            let writes = check_answer(operation, answer, truth)
                .map_err(|wrong| format!("{wrong}: {operation:?}"))?;
            let serializable = matches!(operation.request, Request::Serializable(_));
            let counted = match (writes, serializable) {
                (true, _) => &mut proven.writes,
                (_, true) => &mut proven.serializable_reads,
                _ => &mut proven.reads,
            };
            *counted += 1;
            places.put(index, answer.revision, writes, operations)?;
        }
    }
    find_unknown(operations, truth, &mut places, &mut proven)?;
    check_times(operations, &places)?;
    Ok(proven)
}

/// Whether the operation wrote; fails when its answer is not what its place in the history gives.
fn check_answer(operation: &Operation, answer: &Answer, truth: &Truth) -> Result<bool, String> {
    let revision = answer.revision;
    if revision < truth.base() {
        return Err(format!("it stands at {revision}, before {}", truth.base()));
    }
    if revision > truth.last() {
        return Err(format!("the history ends at {}, without it", truth.last()));
    }
    let right =
        |effect: &Effect| (effect.succeeded, &effect.found) == (answer.succeeded, &answer.found);
    if matches!(operation.request, Request::Revoke(_)) && revision > truth.base() {
        // Its answer does not say whether there were keys.
        let ends = effect(&operation.request, truth.content(revision - 1), revision);
        if !ends.events.is_empty() && ends.events == truth.change(revision) {
            return Ok(true);
        }
    }
    let reads = effect(&operation.request, truth.content(revision), revision);
    if reads.events.is_empty() && right(&reads) {
        return Ok(false);
    }
    if revision == truth.base() {
        return Err("it was given a revision that was taken before".to_owned());
    }
    let writes = effect(&operation.request, truth.content(revision - 1), revision);
    if writes.events.is_empty() || !right(&writes) {
        let due = if writes.events.is_empty() {
            reads
        } else {
            writes
        };
        return Err(format!("at {revision} the answer is {due:?}"));
    }
    if writes.events != truth.change(revision) {
        let made = truth.change(revision);
        return Err(format!("revision {revision} is another write: {made:?}"));
    }
    Ok(true)
}

/// Where operations stand.
struct Places {
    /// By operation: its revision, and whether it made it.
    of: Vec<Option<(i64, bool)>>,
    /// Which operation made a revision.
    makers: BTreeMap<i64, usize>,
}

impl Places {
    fn new(operations: usize) -> Places {
        Places {
            of: vec![None; operations],
            makers: BTreeMap::new(),
        }
    }

    fn put(
        &mut self,
        index: usize,
        revision: i64,
        writes: bool,
        operations: &[Operation],
    ) -> Result<(), String> {
        self.of[index] = Some((revision, writes));
        if writes && let Some(other) = self.makers.insert(revision, index) {
            return Err(format!(
                "revision {revision} was given to two writes: {:?} and {:?}",
                operations[other], operations[index]
            ));
        }
        Ok(())
    }
}

/// Finds who made the revisions that nobody was told of. Whatever has a put is known by its value. A removal by an unknown
/// operation is given to the one that names the fewest keys, and began before; one that is open may happen at any time later.
fn find_unknown(
    operations: &[Operation],
    truth: &Truth,
    places: &mut Places,
    proven: &mut Proven,
) -> Result<(), String> {
    let unknown = |operation: &Operation| operation.ending == Ending::Unknown;
    let mut by_value: HashMap<&Bytes, usize> = HashMap::new();
    let mut removals: Vec<usize> = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        for value in values(&operation.request) {
            by_value.insert(value, index);
        }
        if unknown(operation) && is_removal(&operation.request) {
            removals.push(index);
        }
    }
    let floors = floors(operations, places);
    for revision in truth.base() + 1..=truth.last() {
        if places.makers.contains_key(&revision) {
            continue;
        }
        let change = truth.change(revision);
        let made_by = |index: usize| {
            let made = effect(
                &operations[index].request,
                truth.content(revision - 1),
                revision,
            );
            made.events == change
        };
        let put = change.iter().find(|event| event.r#type() == EventType::Put);
        let maker = match put.and_then(|event| event.kv.as_ref()) {
            Some(kv) => by_value.get(&kv.value).copied(),
            None => {
                let fits = |index: &&usize| floors[**index] < revision && made_by(**index);
                let fitting = removals.iter().filter(fits);
                fitting
                    .min_by_key(|index| is_wide(&operations[**index].request))
                    .copied()
            }
        };
        let Some(maker) = maker else {
            if let Some(lease) = ended_lease(truth, revision) {
                proven.expired.push((lease, revision));
                continue;
            }
            return Err(format!("nobody asked for revision {revision}: {change:?}"));
        };
        let operation = &operations[maker];
        if !unknown(operation) || !made_by(maker) || places.of[maker].is_some() {
            let place = places.of[maker];
            return Err(format!(
                "revision {revision}, {change:?}, can't be the work of {operation:?}, which stands at {place:?}"
            ));
        }
        removals.retain(|it| *it != maker);
        places.put(maker, revision, true, operations)?;
        proven.unknown_done += 1;
    }
    let still_open = |index: &usize| unknown(&operations[*index]) && places.of[*index].is_none();
    proven.open = (0..operations.len()).filter(still_open).collect();
    Ok(())
}

/// The lease whose end is all that a revision changed.
fn ended_lease(truth: &Truth, revision: i64) -> Option<i64> {
    let (before, change) = (truth.content(revision - 1), truth.change(revision));
    let lease = before.get(&change.first()?.kv.as_ref()?.key)?.lease;
    (lease != 0 && end_of_lease(lease, before, revision) == change).then_some(lease)
}

fn values(request: &Request) -> Vec<&Bytes> {
    let (then, otherwise) = match request {
        Request::Alone(op) => (std::slice::from_ref(op), &[][..]),
        Request::Serializable(_) | Request::Revoke(_) => (&[][..], &[][..]),
        Request::Txn {
            then, otherwise, ..
        } => (&then[..], &otherwise[..]),
    };
    let mut values = Vec::new();
    for op in then.iter().chain(otherwise) {
        if let Op::Put { value, .. } = op {
            values.push(value);
        }
    }
    values
}

fn is_removal(request: &Request) -> bool {
    matches!(
        request,
        Request::Alone(Op::Delete { .. }) | Request::Revoke(_)
    )
}

fn is_wide(request: &Request) -> bool {
    matches!(request, Request::Alone(Op::Delete { range_end, .. }) if !range_end.is_empty())
}

/// By operation: the highest place of all that had ended before it began.
fn floors(operations: &[Operation], places: &Places) -> Vec<i64> {
    let mut begun: Vec<usize> = (0..operations.len()).collect();
    begun.sort_by_key(|index| operations[*index].called);
    let ended = |index: &usize| {
        let operation = &operations[*index];
        // A serializable read may stand in the past, but what it saw was there.
        matches!(operation.ending, Ending::Answered(_)) && places.of[*index].is_some()
    };
    let mut ended: Vec<usize> = (0..operations.len()).filter(ended).collect();
    ended.sort_by_key(|index| operations[*index].returned);
    let mut ended = ended.into_iter().peekable();
    let mut highest = 0;
    let mut floors = vec![0; operations.len()];
    for index in begun {
        let before = |other: &usize| operations[*other].returned < operations[index].called;
        while let Some(other) = ended.next_if(before) {
            highest = highest.max(places.of[other].map_or(0, |(revision, _)| revision));
        }
        floors[index] = highest;
    }
    floors
}

/// Nothing stands before what had ended when it began. Two reads may share a place, a write has its own.
fn check_times(operations: &[Operation], places: &Places) -> Result<(), String> {
    let floors = floors(operations, places);
    for (index, operation) in operations.iter().enumerate() {
        let Some((revision, writes)) = places.of[index] else {
            continue;
        };
        let serializable = matches!(operation.request, Request::Serializable(_));
        let floor = floors[index];
        if !serializable && (revision < floor || (writes && revision == floor)) {
            return Err(format!(
                "it began when {floor} had been seen, and stands at {revision}: {operation:?}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use keystead_proto::mvccpb::{Event, KeyValue};

    use super::super::history::Content;
    use super::*;

    const BASE: i64 = 10;

    /// Builds histories: what it is told of happens in that order, one revision each.
    struct Script {
        content: Content,
        events: Vec<Event>,
        operations: Vec<Operation>,
        revision: i64,
    }

    fn script() -> Script {
        Script {
            content: Content::new(),
            events: Vec::new(),
            operations: Vec::new(),
            revision: BASE,
        }
    }

    fn put(key: &str, value: &str) -> Request {
        Request::Alone(Op::Put {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            lease: 0,
        })
    }

    fn delete(key: &str, range_end: &str) -> Request {
        Request::Alone(Op::Delete {
            key: key.to_owned().into(),
            range_end: range_end.to_owned().into(),
        })
    }

    fn get(key: &str) -> Op {
        Op::Get {
            key: key.to_owned().into(),
            range_end: Bytes::new(),
        }
    }

    fn swap(key: &str, expected: i64, value: &str) -> Request {
        let Request::Alone(then) = put(key, value) else {
            unreachable!("a put is a lone one");
        };
        Request::Txn {
            key: key.to_owned().into(),
            expected,
            then: vec![then, get(key)],
            otherwise: vec![get(key)],
        }
    }

    impl Script {
        /// It happens now, and gives the right answer.
        fn happens(&mut self, request: &Request) -> Answer {
            let effect = effect(request, &self.content, self.revision + 1);
            for event in &effect.events {
                let kv = event.kv.clone().expect("an event has a key");
                match event.r#type() {
                    EventType::Put => self.content.insert(kv.key.clone(), kv),
                    EventType::Delete => self.content.remove(&kv.key),
                };
            }
            self.revision += i64::from(!effect.events.is_empty());
            self.events.extend(effect.events);
            Answer {
                revision: self.revision,
                succeeded: effect.succeeded,
                found: effect.found,
            }
        }

        fn told(&mut self, request: Request, times: (u64, u64), ending: Ending) {
            self.operations.push(Operation {
                client: self.operations.len(),
                member: 0,
                called: times.0,
                returned: times.1,
                request,
                ending,
            });
        }

        /// It happens, and its client is told so.
        fn done(&mut self, request: Request, times: (u64, u64)) -> Answer {
            let answer = self.happens(&request);
            self.told(request, times, Ending::Answered(answer.clone()));
            answer
        }

        fn judge(&self) -> Result<Proven, String> {
            let truth = Truth::new(BASE, Content::new(), &self.events).expect("it is a history");
            check(&self.operations, &truth)
        }

        fn refuse(&self, why: &str) {
            let wrong = self.judge().expect_err("the history is wrong");
            assert!(wrong.contains(why), "{wrong}");
        }
    }

    #[test]
    fn overlapping_operations_of_every_kind_are_accepted() {
        let mut s = script();
        let first = s.done(put("a", "1"), (1, 9)).revision;
        s.done(Request::Alone(get("a")), (2, 8));
        s.done(swap("a", first, "2"), (3, 9));
        s.done(swap("a", first, "3"), (4, 9));
        s.done(delete("b", ""), (10, 12));
        s.done(delete("a", "\0"), (11, 12));
        s.done(Request::Serializable(get("a")), (13, 14));
        let proven = s.judge().expect("it is linearizable");
        assert_eq!((proven.writes, proven.reads), (3, 3));
        assert_eq!(proven.serializable_reads, 1);
    }

    #[test]
    fn a_write_of_unknown_outcome_may_happen_late_or_never() {
        let mut s = script();
        s.told(put("a", "lost"), (1, 2), Ending::Unknown);
        s.told(delete("a", ""), (1, 2), Ending::Unknown);
        s.told(delete("a", "\0"), (1, 2), Ending::Unknown);
        s.told(put("b", "late"), (1, 2), Ending::Unknown);
        s.done(put("a", "1"), (3, 4));
        s.happens(&put("b", "late"));
        s.happens(&delete("a", ""));
        s.done(Request::Alone(get("a")), (5, 6));
        s.happens(&delete("b", "\0"));
        let proven = s.judge().expect("it is linearizable");
        assert_eq!((proven.unknown_done, proven.open), (3, vec![0]));
    }

    #[test]
    fn a_stale_read_is_refused() {
        let mut s = script();
        s.done(put("a", "1"), (1, 2));
        let stale = s.happens(&Request::Alone(get("a")));
        s.done(put("a", "2"), (3, 4));
        s.told(
            Request::Alone(get("a")),
            (5, 6),
            Ending::Answered(stale.clone()),
        );
        s.refuse("it began when 12 had been seen, and stands at 11");
        // A serializable read may be that old.
        s.operations.pop();
        s.told(
            Request::Serializable(get("a")),
            (5, 6),
            Ending::Answered(stale),
        );
        s.judge().expect("it is only old");
    }

    #[test]
    fn a_read_of_a_write_that_nobody_had_asked_for_yet_is_refused() {
        let mut s = script();
        s.happens(&put("a", "1"));
        s.done(Request::Serializable(get("a")), (1, 2));
        let early = Answer {
            revision: BASE + 1,
            succeeded: true,
            found: vec![vec![]],
        };
        s.told(put("a", "1"), (3, 4), Ending::Answered(early));
        s.refuse("it began when 11 had been seen, and stands at 11");
    }

    #[test]
    fn a_lost_write_is_refused() {
        let mut s = script();
        let told = Answer {
            revision: BASE + 1,
            succeeded: true,
            found: vec![vec![]],
        };
        s.told(put("a", "1"), (1, 2), Ending::Answered(told));
        s.refuse("the history ends at 10, without it");
        s.happens(&put("a", "2"));
        s.refuse("revision 11 is another write");
    }

    #[test]
    fn a_revision_given_to_two_writes_is_refused() {
        let mut s = script();
        let answer = s.done(put("a", "1"), (1, 2));
        s.told(put("a", "1"), (1, 2), Ending::Answered(answer));
        s.refuse("revision 11 was given to two writes");
    }

    #[test]
    fn writes_against_the_clock_are_refused() {
        let mut s = script();
        s.done(put("a", "2"), (3, 4));
        s.done(put("a", "1"), (1, 2));
        s.refuse("it began when 12 had been seen, and stands at 11");
    }

    #[test]
    fn a_write_that_happened_twice_is_refused() {
        let mut s = script();
        s.told(put("a", "1"), (1, 2), Ending::Unknown);
        s.happens(&put("a", "1"));
        s.happens(&put("a", "1"));
        s.refuse("revision 12");
    }

    #[test]
    fn a_refused_write_that_happened_is_refused() {
        let mut s = script();
        s.told(put("a", "1"), (1, 2), Ending::Refused);
        s.happens(&put("a", "1"));
        s.refuse("can't be the work of");
    }

    #[test]
    fn a_change_that_nobody_asked_for_is_refused() {
        let mut s = script();
        s.done(put("a", "1"), (1, 2));
        s.happens(&delete("a", ""));
        s.refuse("nobody asked for revision 12");
        // An unknown removal that began after it was seen can't be it.
        s.done(Request::Alone(get("a")), (3, 4));
        s.told(delete("a", ""), (5, 6), Ending::Unknown);
        s.refuse("nobody asked for revision 12");
    }

    fn put_leased(key: &str, lease: i64) -> Request {
        Request::Alone(Op::Put {
            key: key.to_owned().into(),
            value: format!("{key} of {lease}").into(),
            lease,
        })
    }

    #[test]
    fn the_end_of_a_lease_takes_all_its_keys_and_no_others() {
        let mut s = script();
        s.done(put_leased("a", 7), (1, 2));
        s.done(put_leased("b", 7), (3, 4));
        s.done(put_leased("c", 8), (5, 6));
        s.done(put_leased("d", 9), (5, 6));
        s.done(Request::Revoke(8), (7, 8));
        s.told(Request::Revoke(9), (7, 8), Ending::Unknown);
        s.happens(&Request::Revoke(7));
        s.happens(&Request::Revoke(9));
        // There is nothing left for it.
        s.done(Request::Revoke(7), (9, 10));
        let proven = s.judge().expect("it is linearizable");
        assert_eq!((proven.expired, proven.unknown_done), (vec![(7, 16)], 1));
    }

    #[test]
    fn the_end_of_a_lease_that_leaves_one_of_its_keys_is_refused() {
        let mut s = script();
        s.done(put_leased("a", 7), (1, 2));
        s.done(put_leased("b", 7), (3, 4));
        s.happens(&Request::Revoke(7));
        s.events.pop();
        s.refuse("nobody asked for revision 13");
    }

    #[test]
    fn a_swap_that_should_have_failed_is_refused() {
        let mut s = script();
        let first = s.done(put("a", "1"), (1, 2)).revision;
        s.done(put("a", "2"), (3, 4));
        let before = s.content.values().cloned().collect::<Vec<KeyValue>>();
        let after = s.happens(&put("a", "3")).revision;
        let now = s.content.values().cloned().collect();
        let told = Answer {
            revision: after,
            succeeded: true,
            found: vec![before, now],
        };
        s.told(swap("a", first, "3"), (5, 6), Ending::Answered(told));
        s.refuse("at 13 the answer is");
    }

    #[test]
    fn an_answer_with_another_content_is_refused() {
        let mut s = script();
        s.done(put("a", "1"), (1, 2));
        let mut wrong = s.happens(&Request::Alone(get("a")));
        wrong.found[0][0].version = 2;
        s.told(Request::Alone(get("a")), (3, 4), Ending::Answered(wrong));
        s.refuse("at 11 the answer is");
    }

    #[test]
    fn half_a_transaction_is_refused() {
        let mut s = script();
        let both = Request::Txn {
            key: "a".into(),
            expected: 0,
            then: ["a", "b"]
                .map(|key| Op::Put {
                    key: key.into(),
                    value: format!("{key}1").into(),
                    lease: 0,
                })
                .into(),
            otherwise: vec![],
        };
        let told = s.done(both.clone(), (1, 2));
        s.judge().expect("it is whole");
        s.events.pop();
        s.refuse("revision 11 is another write");
        s.operations.clear();
        s.told(both, (1, 2), Ending::Unknown);
        s.refuse("can't be the work of");
        assert_eq!(told.revision, BASE + 1);
    }

    #[test]
    fn what_is_no_history_is_refused() {
        let content = Content::new();
        let mut s = script();
        s.happens(&put("a", "1"));
        s.happens(&put("a", "2"));
        let [one, two] = [0, 1].map(|index| s.events[index].clone());
        let changed = |change: fn(&mut KeyValue)| {
            let mut event = two.clone();
            change(event.kv.as_mut().expect("an event has a key"));
            event
        };
        for (events, why) in [
            (vec![two.clone()], "revision 12 follows 10"),
            (vec![one.clone(), one.clone()], "changes b\"a\" twice"),
            (
                vec![one.clone(), changed(|kv| kv.mod_revision = 13)],
                "revision 13 follows 11",
            ),
            (vec![one.clone(), changed(|kv| kv.version = 1)], "is due"),
            (
                vec![one.clone(), changed(|kv| kv.create_revision = 12)],
                "is due",
            ),
        ] {
            let wrong = Truth::new(BASE, content.clone(), &events).err();
            assert!(
                wrong.as_ref().is_some_and(|it| it.contains(why)),
                "{wrong:?}"
            );
        }
    }
}
