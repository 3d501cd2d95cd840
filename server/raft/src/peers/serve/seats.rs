//! Places for the connections that others dialled. There is always one more: a stranger, who has not said who it is, makes way
//! for the next, and a member's connection for that member's next one of its kind. So neither strangers that say nothing
//! nor connections whose other end is long gone without a word keep a member out.

use std::collections::VecDeque;
use std::sync::Arc;

use keystead_proto::peer::Line;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Strangers at a time. A member says who it is with its first packet.
const STRANGERS: usize = 256;
/// Connections of members at a time: of each a few.
const MEMBERS: usize = 256;
/// Those of one member that a question each is asked on, or a snapshot sent: they end by themselves, or their member is gone.
const PASSING: usize = 8;

/// All places.
#[derive(Default)]
pub(super) struct Seats(Mutex<Taken>);

#[derive(Default)]
struct Taken {
    last_number: u64,
    /// Strangers in the order of their coming, and members in that of their greeting.
    places: VecDeque<Place>,
}

struct Place {
    number: u64,
    /// None while it is a stranger's.
    of: Option<(u64, Line)>,
    leave: Arc<Notify>,
}

/// The place of one connection, free again when this is dropped.
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    leave: Arc<Notify>,
}

impl Seats {
    /// A place for somebody who connected just now.
    pub(super) fn take(self: &Arc<Self>) -> Seat {
        let leave = Arc::new(Notify::new());
        let mut taken = self.0.lock();
        taken.last_number += 1;
        let number = taken.last_number;
        taken.places.push_back(Place {
            number,
            of: None,
            leave: leave.clone(),
        });
        taken.keep(STRANGERS, |place| place.of.is_none());
        Seat {
            seats: self.clone(),
            number,
            leave,
        }
    }
}

impl Taken {
    /// Has the first of those that are `meant` leave, until there are no more than so many.
    fn keep(&mut self, most: usize, meant: impl Fn(&Place) -> bool) {
        let count = self.places.iter().filter(|place| meant(place)).count();
        let mut excess = count.saturating_sub(most);
        self.places.retain(|place| {
            let leaves = excess > 0 && meant(place);
            if leaves {
                excess -= 1;
                place.leave.notify_one();
            }
            !leaves
        });
    }
}

impl Seat {
    /// It is that of a member from now on.
    pub(super) fn greeted(&self, from: u64, line: Line) {
        let mut taken = self.seats.0.lock();
        let mut places = taken.places.iter();
        let found = places.position(|place| place.number == self.number);
        // Without a place it has been told to leave.
        let Some(mut place) = found.and_then(|found| taken.places.remove(found)) else {
            return;
        };
        let of = Some((from, line));
        place.of = of;
        taken.places.push_back(place);
        let most = match line {
            Line::Calls | Line::Log => 1,
            _ => PASSING,
        };
        taken.keep(most, |place| place.of == of);
        taken.keep(MEMBERS, |place| place.of.is_some());
    }

    /// Returns when it must make way.
    pub(super) async fn must_leave(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock();
        taken.places.retain(|place| place.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    fn leaves(seat: &Seat) -> bool {
        seat.must_leave().now_or_never().is_some()
    }

    #[test]
    fn strangers_that_say_nothing_make_way_for_others_and_members_do_not_for_them() {
        let seats = Arc::new(Seats::default());
        let member = seats.take();
        member.greeted(1, Line::Calls);
        let strangers: Vec<_> = (0..STRANGERS).map(|_| seats.take()).collect();
        assert!(!strangers.iter().any(leaves));
        let late = seats.take();
        assert!(leaves(&strangers[0]));
        assert!(!leaves(&strangers[1]));
        // Too late.
        strangers[0].greeted(2, Line::Calls);
        late.greeted(2, Line::Calls);
        let next = seats.take();
        assert!(
            ![&member, &late, &next, &strangers[1]]
                .into_iter()
                .any(leaves)
        );
        drop(strangers);
        assert_eq!(seats.0.lock().places.len(), 3);
    }

    #[test]
    fn a_members_connection_makes_way_for_its_next_of_the_same_kind() {
        let seats = Arc::new(Seats::default());
        let of = |from, line| {
            let seat = seats.take();
            seat.greeted(from, line);
            seat
        };
        let before = of(1, Line::Log);
        let others = [of(2, Line::Log), of(1, Line::Calls), of(1, Line::Snapshot)];
        let again = of(1, Line::Log);
        assert!(leaves(&before));
        drop(before);
        let passing: Vec<_> = (0..PASSING).map(|_| of(1, Line::Hash)).collect();
        assert!(!others.iter().chain([&again]).chain(&passing).any(leaves));
        let _one_more = of(1, Line::Hash);
        assert!(leaves(&passing[0]));
    }

    #[test]
    fn there_are_no_more_connections_than_places() {
        let seats = Arc::new(Seats::default());
        let all: Vec<_> = (0..2 * MEMBERS as u64)
            .map(|from| {
                let seat = seats.take();
                seat.greeted(from, Line::Calls);
                seat
            })
            .collect();
        assert_eq!(seats.0.lock().places.len(), MEMBERS);
        assert_eq!(all.iter().filter(|seat| leaves(seat)).count(), MEMBERS);
    }
}
