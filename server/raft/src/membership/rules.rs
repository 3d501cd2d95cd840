//! Which changes of the members are made, and which refused: etcd's checks, in etcd's order. Asked by the leader before it
//! writes the entry; a value without I/O.

use keystead_proto::etcdserverpb::Member;
use keystead_state::Refusal;

/// A change of who the members are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// A member comes, of which nothing more is known than its id, its peer URLs and its role.
    Add(Member),
    /// A member goes, and its id with it.
    Remove(u64),
    /// A member is reached elsewhere from now on.
    Update {
        /// Which.
        id: u64,
        /// Where.
        peer_urls: Vec<String>,
    },
    /// A learner gets a vote.
    Promote(u64),
}

/// How much of the leader's log a learner must have before it gets a vote, in percent; as in etcd.
const READY_PERCENT: u64 = 90;

/// What a leader knows of the cluster when it judges a change.
pub(super) struct Facts<'a> {
    /// The members in force, by id, with the names that they published: who has none has not started yet.
    pub(super) members: &'a [Member],
    /// Whether there was a member of that id, and was removed.
    pub(super) was_removed: &'a dyn Fn(u64) -> bool,
    /// Whether a member answered lately. This one did.
    pub(super) answers: &'a dyn Fn(u64) -> bool,
    /// How many entries of the log a member has on its disk.
    pub(super) entries: &'a dyn Fn(u64) -> u64,
    /// The member that judges.
    pub(super) leader: u64,
    /// Whether a change is refused that might cost the cluster its quorum.
    pub(super) strict: bool,
    /// How many learners there may be.
    pub(super) max_learners: usize,
}

/// Whether a change may be made.
///
/// # Errors
/// etcd's reason why not.
pub(super) fn judge(change: &MemberChange, facts: &Facts<'_>) -> Result<(), Refusal> {
    match change {
        MemberChange::Add(member) => {
            if facts.strict {
                facts.keeps_quorum_with(member)?;
            }
            facts.is_addable(member)
        }
        MemberChange::Remove(id) => {
            if facts.strict {
                facts.keeps_quorum_without(*id)?;
            }
            facts.known(*id).map(drop)
        }
        MemberChange::Update { id, peer_urls } => {
            facts.known(*id)?;
            facts.are_free(peer_urls, *id)
        }
        MemberChange::Promote(id) => facts.is_promotable(*id),
    }
}

impl Facts<'_> {
    fn known(&self, id: u64) -> Result<&Member, Refusal> {
        self.members
            .iter()
            .find(|member| member.id == id)
            .ok_or(Refusal::MemberNotFound)
    }

    fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.is_learner)
    }

    /// Voters that answer.
    fn active(&self) -> usize {
        let answers = |member: &&Member| member.id == self.leader || (self.answers)(member.id);
        self.voters().filter(answers).count()
    }

    /// A new voter counts at once and answers nothing before it has started.
    fn keeps_quorum_with(&self, added: &Member) -> Result<(), Refusal> {
        let (voters, started) = (self.voters().count(), started(self.voters()));
        // Alone there is no quorum to lose, only to make.
        if voters == 1 && started == 1 {
            return Ok(());
        }
        if !added.is_learner && started < quorum(voters + 1) {
            return Err(Refusal::NotEnoughStarted);
        }
        if voters > 1 && self.active() < quorum(voters + 1) {
            return Err(Refusal::Unhealthy);
        }
        Ok(())
    }

    fn keeps_quorum_without(&self, id: u64) -> Result<(), Refusal> {
        if self.known(id).is_ok_and(|member| member.is_learner) {
            return Ok(());
        }
        let stay = || self.voters().filter(|member| member.id != id);
        if started(stay()) < quorum(stay().count()) {
            return Err(Refusal::NotEnoughStarted);
        }
        // Who doesn't answer is no part of what the cluster lives on.
        if id != self.leader && !(self.answers)(id) {
            return Ok(());
        }
        if self.active() <= quorum(stay().count()) {
            return Err(Refusal::Unhealthy);
        }
        Ok(())
    }

    fn is_addable(&self, added: &Member) -> Result<(), Refusal> {
        if (self.was_removed)(added.id) {
            return Err(Refusal::MemberNotFound);
        }
        if self.known(added.id).is_ok() {
            return Err(Refusal::MemberExists);
        }
        self.are_free(&added.peer_urls, added.id)?;
        let learners = self.members.iter().filter(|member| member.is_learner);
        if added.is_learner && learners.count() >= self.max_learners {
            return Err(Refusal::TooManyLearners);
        }
        Ok(())
    }

    /// Nobody but `id` is reached at one of the URLs.
    fn are_free(&self, peer_urls: &[String], id: u64) -> Result<(), Refusal> {
        let mut others = self.members.iter().filter(|member| member.id != id);
        if others.any(|member| member.peer_urls.iter().any(|url| peer_urls.contains(url))) {
            return Err(Refusal::PeerUrlsExist);
        }
        Ok(())
    }

    fn is_promotable(&self, id: u64) -> Result<(), Refusal> {
        let member = self.known(id)?;
        if (self.entries)(id) * 100 < (self.entries)(self.leader) * READY_PERCENT {
            return Err(Refusal::LearnerNotReady);
        }
        // The learner counts as started: it has the log.
        let voters = self.voters().count() + 1;
        if self.strict && started(self.voters()) + 1 < quorum(voters) {
            return Err(Refusal::NotEnoughStarted);
        }
        if !member.is_learner {
            return Err(Refusal::NotLearner);
        }
        Ok(())
    }
}

fn started<'m>(members: impl Iterator<Item = &'m Member>) -> usize {
    members.filter(|member| !member.name.is_empty()).count()
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, name: &str) -> Member {
        Member {
            id,
            name: name.to_owned(),
            peer_urls: vec![format!("http://peer{id}:2380")],
            ..Member::default()
        }
    }

    fn learner(id: u64, name: &str) -> Member {
        Member {
            is_learner: true,
            ..member(id, name)
        }
    }

    /// A cluster that member 1 leads. All have the whole log, but for those that are behind.
    struct Cluster {
        members: Vec<Member>,
        silent: Vec<u64>,
        behind: Vec<u64>,
        strict: bool,
    }

    impl Cluster {
        fn of(members: Vec<Member>) -> Self {
            Self {
                members,
                silent: Vec::new(),
                behind: Vec::new(),
                strict: true,
            }
        }

        fn silent(self, silent: &[u64]) -> Self {
            Self {
                silent: silent.to_vec(),
                ..self
            }
        }

        fn judge(&self, change: MemberChange) -> Result<(), Refusal> {
            let facts = Facts {
                members: &self.members,
                was_removed: &|id| id == 99,
                answers: &|id| id <= 4 && !self.silent.contains(&id),
                entries: &|id| if self.behind.contains(&id) { 899 } else { 1000 },
                leader: 1,
                strict: self.strict,
                max_learners: 1,
            };
            judge(&change, &facts)
        }
    }

    fn three() -> Vec<Member> {
        vec![member(1, "a"), member(2, "b"), member(3, "c")]
    }

    fn add(id: u64) -> MemberChange {
        MemberChange::Add(member(id, ""))
    }

    #[test]
    fn one_at_a_time_joins_and_the_next_only_when_it_has_started() {
        let lone = Cluster::of(vec![member(1, "a")]);
        assert_eq!(lone.judge(add(2)), Ok(()));
        let two = |name| Cluster::of(vec![member(1, "a"), member(2, name)]);
        assert_eq!(two("").judge(add(3)), Err(Refusal::NotEnoughStarted));
        assert_eq!(two("b").judge(add(3)), Ok(()));
        assert_eq!(two("b").silent(&[2]).judge(add(3)), Err(Refusal::Unhealthy));
        let learner = MemberChange::Add(learner(3, ""));
        assert_eq!(two("").judge(learner), Ok(()), "it counts for nothing");
        let heedless = Cluster {
            strict: false,
            ..two("").silent(&[2])
        };
        assert_eq!(heedless.judge(add(3)), Ok(()));
    }

    #[test]
    fn a_fourth_needs_three_that_answer() {
        assert_eq!(Cluster::of(three()).judge(add(4)), Ok(()));
        let one_down = Cluster::of(three()).silent(&[3]);
        assert_eq!(one_down.judge(add(4)), Err(Refusal::Unhealthy));
    }

    #[test]
    fn ids_and_urls_are_given_once() {
        let cluster = Cluster::of(three());
        assert_eq!(cluster.judge(add(2)), Err(Refusal::MemberExists));
        assert_eq!(cluster.judge(add(99)), Err(Refusal::MemberNotFound));
        let taken = MemberChange::Add(Member {
            id: 4,
            ..member(3, "")
        });
        assert_eq!(cluster.judge(taken), Err(Refusal::PeerUrlsExist));
        let update = |id, url: &str| {
            cluster.judge(MemberChange::Update {
                id,
                peer_urls: vec![url.to_owned()],
            })
        };
        assert_eq!(update(2, "http://peer3:2380"), Err(Refusal::PeerUrlsExist));
        assert_eq!(update(2, "http://peer2:2380"), Ok(()), "its own");
        assert_eq!(update(7, "http://peer7:2380"), Err(Refusal::MemberNotFound));
    }

    #[test]
    fn learners_are_few_and_are_removed_at_any_time() {
        let mut members = three();
        members.push(learner(4, ""));
        let cluster = Cluster::of(members).silent(&[2, 3, 4]);
        let another = MemberChange::Add(learner(5, ""));
        assert_eq!(
            Cluster::of(cluster.members.clone()).judge(another),
            Err(Refusal::TooManyLearners)
        );
        assert_eq!(cluster.judge(MemberChange::Remove(4)), Ok(()));
    }

    #[test]
    fn who_answers_is_not_removed_where_the_rest_has_no_quorum() {
        let remove = MemberChange::Remove;
        let lone = Cluster::of(vec![member(1, "a")]);
        assert_eq!(lone.judge(remove(1)), Err(Refusal::NotEnoughStarted));
        assert_eq!(lone.judge(remove(7)), Err(Refusal::MemberNotFound));
        let cluster = Cluster::of(three()).silent(&[3]);
        assert_eq!(cluster.judge(remove(2)), Err(Refusal::Unhealthy));
        assert_eq!(cluster.judge(remove(1)), Err(Refusal::Unhealthy));
        assert_eq!(cluster.judge(remove(3)), Ok(()), "it is down anyway");
        assert_eq!(Cluster::of(three()).judge(remove(1)), Ok(()));
        let unstarted = Cluster::of(vec![member(1, "a"), member(2, ""), member(3, "")]);
        assert_eq!(unstarted.judge(remove(2)), Err(Refusal::NotEnoughStarted));
    }

    #[test]
    fn a_learner_votes_once_it_has_nine_tenths_of_the_log() {
        let promote = MemberChange::Promote;
        let mut cluster = Cluster::of(vec![member(1, "a"), learner(4, "")]);
        assert_eq!(cluster.judge(promote(4)), Ok(()));
        assert_eq!(cluster.judge(promote(1)), Err(Refusal::NotLearner));
        assert_eq!(cluster.judge(promote(7)), Err(Refusal::MemberNotFound));
        cluster.behind = vec![4];
        assert_eq!(cluster.judge(promote(4)), Err(Refusal::LearnerNotReady));
        let unstarted = vec![
            member(1, "a"),
            member(2, ""),
            member(3, ""),
            learner(4, "d"),
        ];
        let cluster = Cluster::of(unstarted);
        assert_eq!(cluster.judge(promote(4)), Err(Refusal::NotEnoughStarted));
    }
}
