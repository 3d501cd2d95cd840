//! Were leases kept as promised? A lease ends by being revoked, or when nobody has kept it alive for its TTL, and a keepalive that
//! is answered counts, whichever member answered it and whoever led then. Revisions say that a lease has ended, clients that
//! saw them when it surely had; a lease that ended before it could be known only makes these judgements milder.

use std::collections::HashMap;

use super::history::{Ending, Operation, Request, Truth};

/// What a tenant was told of one lease.
#[derive(Clone, Debug)]
pub struct Tenancy {
    pub id: i64,
    /// Whether it is to stay, though nobody keeps it alive.
    pub lasting: bool,
    /// The grant is the first; none when it was not answered.
    pub renewals: Vec<Renewal>,
}

/// One answer: the TTL from some moment on between these two, 0 for a lease that is gone. Nanoseconds of the operations' clock.
#[derive(Clone, Debug)]
pub struct Renewal {
    pub sent: u64,
    pub returned: u64,
    pub ttl_secs: i64,
}

impl Renewal {
    /// The lease has not run out before.
    fn lasts_until(&self) -> u64 {
        self.sent + self.ttl_secs as u64 * 1_000_000_000
    }
}

/// What was proven of how much.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub leases: u64,
    /// Answered grants and keepalives, each held against what came later.
    pub renewals: u64,
    pub expired: u64,
    pub revoked: u64,
}

/// Fails with the first lease that was not kept: `expired` are the leases that ended by themselves, and when.
pub fn check(
    tenancies: &[Tenancy],
    expired: &[(i64, i64)],
    operations: &[Operation],
    truth: &Truth,
) -> Result<Kept, String> {
    let seen = Seen::new(operations);
    let expired: HashMap<i64, i64> = expired.iter().copied().collect();
    let mut revoked = HashMap::new();
    for operation in operations {
        if let Request::Revoke(lease) = operation.request {
            revoked.insert(lease, operation.called);
        }
    }
    let mut kept = Kept {
        expired: expired.len() as u64,
        revoked: revoked.len() as u64,
        ..Kept::default()
    };
    for tenancy in tenancies {
        kept.leases += 1;
        kept.renewals += tenancy.renewals.len() as u64;
        let end = expired.get(&tenancy.id).map(|revision| End {
            revision: *revision,
            known: seen.known(*revision),
        });
        let judged = Judged {
            tenancy,
            end,
            revoke_asked: revoked.contains_key(&tenancy.id),
        };
        judged
            .check(&seen, truth)
            .map_err(|wrong| format!("{wrong}: {tenancy:?}"))?;
    }
    Ok(kept)
}

/// When operations saw what.
struct Seen {
    /// Answered operations by revision; the time is the earliest by which that revision or a later one was seen.
    returned: Vec<(i64, u64)>,
    /// Linearizable ones by the time of their call; the revision is the least that one called then or later saw.
    called: Vec<(u64, i64)>,
}

impl Seen {
    fn new(operations: &[Operation]) -> Seen {
        let mut returned = Vec::new();
        let mut called = Vec::new();
        for operation in operations {
            if let Ending::Answered(answer) = &operation.ending {
                returned.push((answer.revision, operation.returned));
                if !matches!(operation.request, Request::Serializable(_)) {
                    called.push((operation.called, answer.revision));
                }
            }
        }
        returned.sort_unstable();
        called.sort_unstable();
        for place in (1..returned.len()).rev() {
            returned[place - 1].1 = returned[place - 1].1.min(returned[place].1);
        }
        for place in (1..called.len()).rev() {
            called[place - 1].1 = called[place - 1].1.min(called[place].1);
        }
        Seen { returned, called }
    }

    /// A moment at which the revision had surely happened.
    fn known(&self, revision: i64) -> u64 {
        let place = self.returned.partition_point(|(it, _)| *it < revision);
        self.returned.get(place).map_or(u64::MAX, |(_, at)| *at)
    }

    /// A revision that what had happened by then can't be later than.
    fn not_past(&self, moment: u64) -> Option<i64> {
        let place = self.called.partition_point(|(it, _)| *it < moment);
        self.called.get(place).map(|(_, revision)| *revision)
    }
}

/// The end of a lease by itself.
struct End {
    revision: i64,
    known: u64,
}

struct Judged<'a> {
    tenancy: &'a Tenancy,
    end: Option<End>,
    revoke_asked: bool,
}

impl Judged<'_> {
    fn check(&self, seen: &Seen, truth: &Truth) -> Result<(), String> {
        for renewal in &self.tenancy.renewals {
            if renewal.ttl_secs == 0 {
                self.check_gone(renewal, seen, truth)?;
            } else if let Some(end) = &self.end {
                if renewal.sent > end.known {
                    return Err(format!(
                        "it had ended at revision {}, and was kept alive later by {renewal:?}",
                        end.revision
                    ));
                }
                // One who asked for its end may have got it before.
                if renewal.lasts_until() > end.known && !self.revoke_asked {
                    return Err(format!(
                        "its end at revision {} was seen at {}, before its time by {renewal:?}",
                        end.revision, end.known
                    ));
                }
            }
        }
        Ok(())
    }

    /// A lease that was told to be gone was, and not too early.
    fn check_gone(&self, told: &Renewal, seen: &Seen, truth: &Truth) -> Result<(), String> {
        let mut earlier = self.tenancy.renewals.iter().filter(|it| it.ttl_secs > 0);
        if let Some(renewal) = earlier.find(|it| it.lasts_until() > told.returned)
            && !self.revoke_asked
        {
            return Err(format!("gone by {told:?}, before its time by {renewal:?}"));
        }
        let Some(later) = seen.not_past(told.returned) else {
            return Ok(());
        };
        let mut content = truth
            .content(later.clamp(truth.base(), truth.last()))
            .values();
        match content.find(|kv| kv.lease == self.tenancy.id) {
            Some(kv) => Err(format!(
                "gone by {told:?}, and at revision {later}, which was seen later, has {:?}",
                kv.key
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::history::{Answer, Content, Op, effect};
    use super::*;

    const BASE: i64 = 10;
    const SECOND: u64 = 1_000_000_000;

    /// One key with lease 7 from revision 11 on; the lease ends at 12.
    fn truth() -> Truth {
        let put = Request::Alone(Op::Put {
            key: "l".into(),
            value: "v".into(),
            lease: 7,
        });
        let events = effect(&put, &Content::new(), BASE + 1).events;
        let mut content = Content::new();
        let kv = events[0].kv.clone().expect("an event has a key");
        content.insert(kv.key.clone(), kv);
        let end = effect(&Request::Revoke(7), &content, BASE + 2).events;
        let all: Vec<_> = events.into_iter().chain(end).collect();
        Truth::new(BASE, Content::new(), &all).expect("it is a history")
    }

    fn read(times: (u64, u64), revision: i64) -> Operation {
        Operation {
            client: 0,
            member: 0,
            called: times.0 * SECOND,
            returned: times.1 * SECOND,
            request: Request::Alone(Op::Get {
                key: "other".into(),
                range_end: Bytes::new(),
            }),
            ending: Ending::Answered(Answer {
                revision,
                succeeded: true,
                found: vec![vec![]],
            }),
        }
    }

    /// Lease 7 by grants and keepalives that were sent at these seconds and answered one later, with these TTLs.
    fn tenancy(renewals: &[(u64, i64)]) -> Tenancy {
        let renewal = |&(sent, ttl_secs): &(u64, i64)| Renewal {
            sent: sent * SECOND,
            returned: (sent + 1) * SECOND,
            ttl_secs,
        };
        Tenancy {
            id: 7,
            lasting: false,
            renewals: renewals.iter().map(renewal).collect(),
        }
    }

    /// The end of the lease is seen by somebody who asked at second 20 and was answered at 21.
    fn judge(renewals: &[(u64, i64)]) -> Result<Kept, String> {
        let operations = [read((1, 2), 11), read((20, 21), 12), read((30, 31), 12)];
        check(&[tenancy(renewals)], &[(7, 12)], &operations, &truth())
    }

    fn refuse(renewals: &[(u64, i64)], why: &str) {
        let wrong = judge(renewals).expect_err("it was not kept");
        assert!(wrong.contains(why), "{wrong}");
    }

    #[test]
    fn a_lease_that_ended_when_its_time_was_up_is_accepted() {
        let kept = judge(&[(1, 10), (11, 10), (22, 0)]).expect("it was kept");
        assert_eq!((kept.leases, kept.renewals, kept.expired), (1, 3, 1));
    }

    #[test]
    fn a_lease_that_ended_before_its_time_is_refused() {
        refuse(&[(1, 5), (12, 10)], "before its time");
    }

    #[test]
    fn a_lease_kept_alive_after_its_end_is_refused() {
        refuse(&[(1, 5), (22, 5)], "was kept alive later");
    }

    #[test]
    fn a_lease_said_to_be_gone_before_its_time_is_refused() {
        refuse(&[(1, 10), (5, 0)], "gone by");
    }

    #[test]
    fn a_lease_said_to_be_gone_while_it_has_keys_is_refused() {
        let operations = [read((20, 21), 11), read((30, 31), 12)];
        let tenancies = [tenancy(&[(1, 5), (10, 0)])];
        let wrong = check(&tenancies, &[(7, 12)], &operations, &truth());
        let wrong = wrong.expect_err("it has a key");
        assert!(wrong.contains("which was seen later, has"), "{wrong}");
    }
}
