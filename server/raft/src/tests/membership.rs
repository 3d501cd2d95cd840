//! Members that come and go, as far as one member can show it.

use keystead_proto::etcdserverpb::Member;
use keystead_state::Refusal;

use super::{ME, config, eventually, kill, propose, put, start, stop};
use crate::{Config, Consensus, MemberChange};

const OTHER: u64 = 0xfeed;

fn founded(dir: &std::path::Path) -> Config {
    Config {
        founders: vec![Member {
            id: ME.member_id,
            name: "one".to_owned(),
            peer_urls: vec!["http://127.0.0.1:2380".to_owned()],
            ..Member::default()
        }],
        ..config(dir)
    }
}

fn other(is_learner: bool) -> Member {
    Member {
        id: OTHER,
        peer_urls: vec!["http://127.0.0.1:9".to_owned()],
        is_learner,
        ..Member::default()
    }
}

fn change(consensus: &Consensus, change: MemberChange) -> Result<Vec<Member>, Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(consensus.change_members(&change))
}

fn move_leader(consensus: &Consensus, target: u64) -> Result<(), Refusal> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(consensus.move_leader(target))
}

#[test]
fn a_learner_comes_moves_and_goes_for_good() {
    let tmp = tempfile::tempdir().unwrap();
    let (consensus, reader) = start(founded(tmp.path()));
    let founders = founded(tmp.path()).founders;
    assert_eq!(reader.members(), founders);
    let both = [other(true), founders[0].clone()];
    let added = change(&consensus, MemberChange::Add(other(true))).unwrap();
    assert_eq!(added, both);
    // It is answered once it is on the disk.
    eventually("the change is applied", || reader.members() == both);
    assert_eq!(
        consensus.try_read_barrier(),
        Some(Ok(())),
        "it counts for nothing"
    );
    assert!(propose(&consensus, vec![put("k", "v")])[0].is_ok());
    for (refused, refusal) in [
        (MemberChange::Add(other(true)), Refusal::MemberExists),
        (MemberChange::Promote(OTHER), Refusal::LearnerNotReady),
        (MemberChange::Promote(ME.member_id), Refusal::NotLearner),
        (MemberChange::Remove(7), Refusal::MemberNotFound),
    ] {
        assert_eq!(change(&consensus, refused), Err(refusal));
    }
    let peer_urls = vec!["http://127.0.0.1:10".to_owned()];
    let update = MemberChange::Update {
        id: OTHER,
        peer_urls: peer_urls.clone(),
    };
    assert_eq!(change(&consensus, update).unwrap()[0].peer_urls, peer_urls);
    drop(reader);
    kill(consensus);

    let (consensus, reader) = start(founded(tmp.path()));
    eventually("the change is applied again", || {
        reader.members()[0].peer_urls == peer_urls
    });
    let left = change(&consensus, MemberChange::Remove(OTHER)).unwrap();
    assert_eq!(left, founders);
    eventually("the removal is applied", || reader.members() == founders);
    for gone in [MemberChange::Remove(OTHER), MemberChange::Add(other(true))] {
        assert_eq!(change(&consensus, gone), Err(Refusal::MemberNotFound));
    }
    stop(consensus);
}

#[test]
fn a_voter_is_added_before_it_is_there_and_waited_for() {
    let tmp = tempfile::tempdir().unwrap();
    let (consensus, reader) = start(founded(tmp.path()));
    let both = [other(false), founded(tmp.path()).founders[0].clone()];
    let added = change(&consensus, MemberChange::Add(other(false))).unwrap();
    assert_eq!(added, both);
    assert_eq!(
        consensus.members(),
        both,
        "what the other is told when it asks"
    );
    assert_eq!(reader.members().len(), 1, "nothing is applied without it");
    assert_eq!(consensus.try_read_barrier(), None);
    drop(reader);
    kill(consensus);
    let (consensus, _) = start(founded(tmp.path()));
    assert_eq!(consensus.members(), both);
    let again = change(&consensus, MemberChange::Add(other(false)));
    assert_eq!(again, Err(Refusal::NotLeader));
    stop(consensus);
}

#[test]
fn the_last_member_stays_and_leads() {
    let tmp = tempfile::tempdir().unwrap();
    for strict_reconfig_check in [true, false] {
        let (consensus, _) = start(Config {
            strict_reconfig_check,
            ..founded(tmp.path())
        });
        let remove = MemberChange::Remove(ME.member_id);
        assert_eq!(change(&consensus, remove), Err(Refusal::NotEnoughStarted));
        assert_eq!(move_leader(&consensus, ME.member_id), Ok(()));
        assert_eq!(move_leader(&consensus, OTHER), Err(Refusal::BadTransferee));
        stop(consensus);
    }
}

#[test]
fn a_member_whose_cluster_is_lost_goes_on_alone_when_it_is_told_to() {
    let tmp = tempfile::tempdir().unwrap();
    let (consensus, _) = start(founded(tmp.path()));
    assert!(propose(&consensus, vec![put("k", "v")])[0].is_ok());
    change(&consensus, MemberChange::Add(other(false))).unwrap();
    kill(consensus);
    for force_new_cluster in [true, true, false] {
        let (consensus, reader) = start(Config {
            force_new_cluster,
            ..founded(tmp.path())
        });
        assert_eq!(consensus.try_read_barrier(), Some(Ok(())));
        assert_eq!(reader.members(), founded(tmp.path()).founders);
        assert!(reader.was_removed(OTHER));
        assert!(propose(&consensus, vec![put("k", "v")])[0].is_ok());
        kill(consensus);
    }
}
