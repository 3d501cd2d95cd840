//! What the member does when its disk or the store's map is full: it gives the ballast and the map's reserve to what is
//! waiting, and raises the alarm NOSPACE, so that from then on only what frees space is taken. Owned by the flusher.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use keystead_mvcc as mvcc;
use keystead_proto::etcdserverpb::alarm_request::AlarmAction;
use keystead_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType};
use keystead_proto::internal::{Record, RecordKind};
use keystead_state::{Outcome, Reader};
use prost::Message as _;

use crate::ballast::Ballast;
use crate::queue::Queue;
use crate::sink::ReplySink;

/// This member's alarm NOSPACE.
#[derive(Clone)]
pub(crate) struct Alarm {
    /// Whether it is raised.
    pub(crate) stands: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Asks for it.
    pub(crate) propose: Arc<dyn Fn() + Send + Sync>,
}

/// See the file's head.
pub(crate) struct Space {
    ballast: Ballast,
    alarm: Alarm,
    /// Something failed for want of space, and nothing went through since.
    short: bool,
    /// There was too little space, and there is none to spare yet.
    scarce: bool,
    /// The alarm is to be raised, and was not seen to stand.
    owes_alarm: bool,
    /// With less than this to spare the alarm stands: what may wait for a flush needs it.
    least_bytes: u64,
}

impl Space {
    pub(crate) fn new(mut ballast: Ballast, least_bytes: u64, alarm: Alarm) -> Self {
        ballast.restore();
        Self {
            ballast,
            alarm,
            short: false,
            scarce: false,
            owes_alarm: false,
            least_bytes,
        }
    }

    /// There was no space for something. Says whether there is some now that was not there before: it may be tried again
    /// at once.
    pub(crate) fn ran_out(&mut self, flusher: &mut mvcc::Flusher) -> bool {
        let ballast = self.ballast.release();
        let reserve = flusher.open_reserve();
        self.scarce = true;
        if !std::mem::replace(&mut self.short, true) {
            tracing::error!(
                ballast,
                "no space is left on the disk or in the store: raising NOSPACE; free space, or delete keys, compact and \
                 defragment, then disarm the alarm"
            );
        }
        self.owes_alarm = true;
        self.raise_alarm();
        ballast || reserve
    }

    /// There was space.
    pub(crate) fn went_through(&mut self, flusher: &mvcc::Flusher) {
        if std::mem::take(&mut self.short) {
            tracing::warn!("what waited for space was written");
        }
        self.tend(flusher);
    }

    /// Nothing was tried.
    pub(crate) fn tend(&mut self, flusher: &mvcc::Flusher) {
        // What is short may be a disk of the log's own: the ballast waits, or it would come and go.
        let to_spare = !self.short && self.ballast.restore() && !flusher.reserve_is_open();
        // The alarm may be of before the last start.
        self.scarce = !to_spare && (self.scarce || (self.alarm.stands)());
        // An alarm that is disarmed too early would be missed by the next who finds no space, and nothing is set aside.
        self.owes_alarm |= self.scarce && self.spare_bytes(flusher) < self.least_bytes;
        self.raise_alarm();
    }

    /// What the store may still write: pages that are free in its file, and what it may grow by.
    fn spare_bytes(&self, flusher: &mvcc::Flusher) -> u64 {
        let on_disk = self.ballast.room().saturating_add(flusher.free_in_file());
        on_disk.min(flusher.free_in_map())
    }

    /// Whether nothing should take space that can do without.
    pub(crate) fn is_scarce(&self) -> bool {
        self.scarce
    }

    /// The alarm may have been turned away, by the lack of a leader for one: it is asked for until it stands.
    fn raise_alarm(&mut self) {
        self.owes_alarm = self.owes_alarm && !(self.alarm.stands)();
        if self.owes_alarm {
            (self.alarm.propose)();
        }
    }
}

/// The alarm of the member `member_id`: asked for through the log, one proposal at a time, past the bound of unflushed
/// bytes, since what it refuses is what fills them.
pub(crate) fn alarm(reader: Reader, queue: Arc<Queue>, member_id: u64) -> Alarm {
    let alarm = AlarmType::Nospace.into();
    let standing = AlarmMember { member_id, alarm };
    let request = AlarmRequest {
        action: AlarmAction::Activate.into(),
        member_id,
        alarm,
    };
    let record = Record {
        kind: RecordKind::Alarm.into(),
        payload: request.encode_to_vec().into(),
        ..Record::default()
    };
    let proposed = Arc::new(Proposed::default());
    let sink: Arc<dyn ReplySink> = proposed.clone();
    Alarm {
        stands: Arc::new(move || reader.alarms().contains(&standing)),
        propose: Arc::new(move || {
            if !proposed.0.swap(true, Ordering::AcqRel) {
                queue.push(&sink, vec![(0, record.clone())], u64::MAX);
            }
        }),
    }
}

/// Whether a proposal is on its way.
#[derive(Default)]
struct Proposed(AtomicBool);

impl ReplySink for Proposed {
    fn deliver(&self, _replies: Vec<(u64, Outcome)>) {
        self.0.store(false, Ordering::Release);
    }
}
