//! Links that hold and lose all the same: messages come late, connections break midway through one, fall silent in one
//! direction, or hand out what came in small pieces.
//!
//! Members talk over TCP. There nothing comes twice, and nothing before what was sent before it on the same connection; a part
//! that is lost is sent again, and all behind it waits. So no message is duplicated here, and what overtakes another is on
//! another connection, of which members have several between them. What a member sends a second time by itself is seen by
//! what comes of it: each write is done once (`rules.rs`).

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use keystead_raft::simulation::{Ends, Fate, Wire};

use crate::world::World;

/// What is wrong with a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ill {
    /// Parts are lost and sent again: a connection stalls while others go on.
    Late,
    /// Connections break midway through a message.
    Cut,
    /// All that is sent on a connection is lost from some point on, and nobody is told.
    Silent,
    /// What comes is read a few bytes at a time.
    Pieces,
}

impl Ill {
    /// All of them.
    pub const ALL: [Ill; 4] = [Ill::Late, Ill::Cut, Ill::Silent, Ill::Pieces];
}

/// See the file's head.
pub struct Wires {
    world: World,
    dice: RefCell<fastrand::Rng>,
    rough: RefCell<Vec<Rough>>,
}

struct Rough {
    until: u64,
    between: Ends,
    ill: Ill,
}

impl Wires {
    /// All links are sound.
    pub fn of(world: &World) -> Rc<Self> {
        let seed = world.lock().plan.seed;
        Rc::new(Self {
            world: world.clone(),
            dice: RefCell::new(fastrand::Rng::with_seed(seed ^ 0x3173)),
            rough: RefCell::default(),
        })
    }

    /// Something is wrong with the link between two hosts.
    pub fn begin(&self, ill: Ill, between: Ends, until: u64) {
        let rough = Rough {
            until,
            between,
            ill,
        };
        self.rough.borrow_mut().push(rough);
    }

    /// Ends what is over.
    pub fn end(&self, now: u64) {
        self.rough.borrow_mut().retain(|rough| rough.until > now);
    }

    fn ills(&self, (a, b): Ends) -> Vec<Ill> {
        let rough = self.rough.borrow();
        let here = rough
            .iter()
            .filter(|it| it.between == (a, b) || it.between == (b, a));
        here.map(|it| it.ill).collect()
    }
}

impl Wire for Wires {
    fn fate(&self, ends: Ends, bytes: usize) -> Fate {
        for ill in self.ills(ends) {
            let mut dice = self.dice.borrow_mut();
            let chance = dice.u8(..100);
            let (count, fate): (fn(&mut _) -> &mut u64, _) = match ill {
                Ill::Late if chance < 12 => (
                    |it: &mut crate::coverage::Coverage| &mut it.messages_late,
                    Fate::Late(Duration::from_millis(dice.u64(20..400))),
                ),
                Ill::Cut if chance < 6 => {
                    (|it| &mut it.connections_cut, Fate::Cut(dice.usize(..bytes)))
                }
                Ill::Silent if chance < 3 => (|it| &mut it.connections_silent, Fate::Swallowed),
                _ => continue,
            };
            let mut facts = self.world.lock();
            *count(&mut facts.coverage) += 1;
            facts.note(|| format!("{fate:?} from {} to {}", ends.0, ends.1));
            return fate;
        }
        Fate::Sent
    }

    fn piece(&self, ends: Ends) -> usize {
        match self.ills(ends).contains(&Ill::Pieces) {
            true => self.dice.borrow_mut().usize(1..64),
            false => usize::MAX,
        }
    }
}
