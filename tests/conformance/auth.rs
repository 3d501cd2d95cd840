//! Auth: users, roles and permissions, and what all the other services refuse because of them.

use keystead_proto::authpb::permission::Type;
use keystead_proto::authpb::{Permission, UserAddOptions};
use keystead_proto::etcdserverpb::alarm_request::AlarmAction;
use keystead_proto::etcdserverpb::compare::{CompareResult, TargetUnion};
use keystead_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keystead_proto::etcdserverpb::*;
use keystead_proto::v3electionpb::LeaderRequest;
use keystead_proto::v3electionpb::{CampaignRequest, LeaderKey, ProclaimRequest, ResignRequest};
use keystead_proto::v3lockpb::{LockRequest, UnlockRequest};
use keystead_tests::{Session, Unary, keep_alive_as, on_both_with};
use tonic::Status;
use tonic::transport::Channel;

use super::requests::{
    FROM_KEY, compact, compare, delete, delete_range, everything, get, grant, op, put, range, txn,
    watch,
};

/// Hashing a password is no part of what is tested here.
pub(super) const CHEAP: [&str; 2] = ["--bcrypt-cost", "4"];

pub(super) fn user_add(name: &str, password: &str) -> AuthUserAddRequest {
    AuthUserAddRequest {
        name: name.to_owned(),
        password: password.to_owned(),
        ..Default::default()
    }
}

pub(super) fn user_grant(user: &str, role: &str) -> AuthUserGrantRoleRequest {
    AuthUserGrantRoleRequest {
        user: user.to_owned(),
        role: role.to_owned(),
    }
}

pub(super) fn user_revoke(name: &str, role: &str) -> AuthUserRevokeRoleRequest {
    AuthUserRevokeRoleRequest {
        name: name.to_owned(),
        role: role.to_owned(),
    }
}

pub(super) fn user_get(name: &str) -> AuthUserGetRequest {
    let name = name.to_owned();
    AuthUserGetRequest { name }
}

pub(super) fn user_delete(name: &str) -> AuthUserDeleteRequest {
    let name = name.to_owned();
    AuthUserDeleteRequest { name }
}

pub(super) fn change_password(name: &str, password: &str) -> AuthUserChangePasswordRequest {
    AuthUserChangePasswordRequest {
        name: name.to_owned(),
        password: password.to_owned(),
        ..Default::default()
    }
}

pub(super) fn role_add(name: &str) -> AuthRoleAddRequest {
    let name = name.to_owned();
    AuthRoleAddRequest { name }
}

pub(super) fn role_get(role: &str) -> AuthRoleGetRequest {
    let role = role.to_owned();
    AuthRoleGetRequest { role }
}

fn role_delete(role: &str) -> AuthRoleDeleteRequest {
    let role = role.to_owned();
    AuthRoleDeleteRequest { role }
}

pub(super) fn permit(
    role: &str,
    kind: Type,
    key: &str,
    range_end: &str,
) -> AuthRoleGrantPermissionRequest {
    AuthRoleGrantPermissionRequest {
        name: role.to_owned(),
        perm: Some(Permission {
            perm_type: kind.into(),
            key: key.to_owned().into(),
            range_end: range_end.to_owned().into(),
        }),
    }
}

pub(super) fn forbid(role: &str, key: &str, range_end: &str) -> AuthRoleRevokePermissionRequest {
    AuthRoleRevokePermissionRequest {
        role: role.to_owned(),
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
    }
}

pub(super) fn login(name: &str, password: &str) -> AuthenticateRequest {
    AuthenticateRequest {
        name: name.to_owned(),
        password: password.to_owned(),
    }
}

/// Goes on as a user.
pub(super) async fn log_in(s: &mut Session, name: &str, password: &str) {
    let answer = login(name, password).send(s.channel()).await;
    let token = answer.map(|answer| answer.token);
    s.note(format!(
        "as {name}: {:?}",
        token.as_ref().map(|token| !token.is_empty())
    ));
    s.set_token(token.ok());
}

/// Users root and alice. Alice may read and write below `a/`, in all to `c`; read below `r/`, write below `w/`, and read all from
/// `x` on.
pub(super) async fn enable(s: &mut Session) {
    for (name, password) in [("root", "rootpw"), ("alice", "alicepw")] {
        s.call(user_add(name, password)).await.ok();
    }
    s.call(user_grant("root", "root")).await.ok();
    s.call(role_add("clerk")).await.ok();
    for (kind, key, range_end) in [
        (Type::Readwrite, "a/", "a0"),
        (Type::Readwrite, "a0", "b"),
        (Type::Readwrite, "b", "c"),
        (Type::Read, "r/", "r0"),
        (Type::Write, "w/", "w0"),
        (Type::Read, "x", FROM_KEY),
    ] {
        s.call(permit("clerk", kind, key, range_end)).await.ok();
    }
    s.call(user_grant("alice", "clerk")).await.ok();
    for key in ["a/1", "a/2", "b/1", "r/1", "w/1", "z/1", "q/1"] {
        s.call(put(key, "v")).await.ok();
    }
    s.call(AuthEnableRequest {}).await.ok();
}

#[tokio::test]
async fn users_and_roles_come_change_and_go() {
    on_both_with(&CHEAP, async |s| {
        s.call(AuthStatusRequest {}).await.ok();
        s.call(AuthEnableRequest {}).await.ok();
        s.call(login("alice", "x")).await.ok();
        let long = "x".repeat(73);
        for (name, password) in [
            ("", "x"),
            ("alice", "x"),
            ("alice", "y"),
            ("empty", ""),
            ("long", &long),
            ("most", &long[..72]),
        ] {
            s.call(user_add(name, password)).await.ok();
        }
        let certified = AuthUserAddRequest {
            options: Some(UserAddOptions { no_password: true }),
            ..user_add("carol", "")
        };
        s.call(certified).await.ok();
        s.call(AuthUserListRequest {}).await.ok();
        for name in ["", "clerk", "clerk", "root", "clerk2"] {
            s.call(role_add(name)).await.ok();
        }
        s.call(role_delete("root")).await.ok();
        s.call(AuthRoleListRequest {}).await.ok();
        for (user, role) in [
            ("alice", "clerk"),
            ("alice", "clerk"),
            ("alice", "nobody"),
            ("bob", "clerk"),
            ("alice", "root"),
            ("alice", "clerk2"),
        ] {
            s.call(user_grant(user, role)).await.ok();
        }
        for name in ["alice", "bob", ""] {
            s.call(user_get(name)).await.ok();
        }
        for (role, key, range_end) in [
            ("clerk", "", ""),
            ("clerk", "b", "a"),
            ("clerk", "b", "b"),
            ("nobody", "k", ""),
            ("clerk", "k", ""),
            ("clerk", "b", "c"),
            ("clerk", "\0", FROM_KEY),
            ("clerk", "a", FROM_KEY),
            ("clerk", "k", "l"),
        ] {
            s.call(permit(role, Type::Read, key, range_end)).await.ok();
        }
        s.call(permit("clerk", Type::Write, "k", "")).await.ok();
        let nothing = AuthRoleGrantPermissionRequest {
            name: "clerk".to_owned(),
            perm: None,
        };
        s.call(nothing).await.ok();
        for role in ["clerk", "nobody", "root", ""] {
            s.call(role_get(role)).await.ok();
        }
        for (role, key, range_end) in [
            ("clerk", "k", ""),
            ("clerk", "k", ""),
            ("clerk", "b", ""),
            ("nobody", "b", "c"),
        ] {
            s.call(forbid(role, key, range_end)).await.ok();
        }
        s.call(user_revoke("alice", "clerk2")).await.ok();
        s.call(user_revoke("alice", "clerk2")).await.ok();
        s.call(user_revoke("bob", "clerk2")).await.ok();
        s.call(role_delete("clerk2")).await.ok();
        s.call(role_delete("clerk2")).await.ok();
        s.call(role_delete("clerk")).await.ok();
        s.call(user_get("alice")).await.ok();
        s.call(user_delete("most")).await.ok();
        s.call(user_delete("most")).await.ok();
        s.call(change_password("bob", "x")).await.ok();
        s.call(change_password("alice", "")).await.ok();
        s.call(change_password("carol", "x")).await.ok();
        s.call(AuthStatusRequest {}).await.ok();
    })
    .await;
}

#[tokio::test]
async fn authentication_goes_on_and_off() {
    on_both_with(&CHEAP, async |s| {
        s.call(AuthEnableRequest {}).await.ok();
        s.call(user_add("root", "rootpw")).await.ok();
        s.call(AuthEnableRequest {}).await.ok();
        s.call(AuthDisableRequest {}).await.ok();
        enable(s).await;
        s.call(put("k", "v")).await.ok();
        let certified = AuthUserAddRequest {
            options: Some(UserAddOptions { no_password: true }),
            ..user_add("carol", "")
        };
        log_in(s, "root", "rootpw").await;
        s.call(certified).await.ok();
        s.call(user_add("blank", "")).await.ok();
        s.call(change_password("alice", "")).await.ok();
        for (name, password) in [
            ("root", "wrong"),
            ("root", ""),
            ("", ""),
            ("nobody", "x"),
            ("carol", ""),
            ("carol", "x"),
            ("blank", ""),
            ("alice", "alicepw"),
            ("alice", ""),
            ("root", "rootpw"),
        ] {
            s.call(login(name, password)).await.ok();
        }
        s.call(AuthEnableRequest {}).await.ok();
        s.call(user_delete("root")).await.ok();
        s.call(role_delete("root")).await.ok();
        s.call(user_revoke("root", "root")).await.ok();
        s.call(user_grant("root", "clerk")).await.ok();
        s.call(user_revoke("root", "clerk")).await.ok();
        s.call(AuthStatusRequest {}).await.ok();
        // Nobody is known any more by a token of before.
        s.call(change_password("root", "other")).await.ok();
        s.call(put("k", "v")).await.ok();
        log_in(s, "root", "other").await;
        s.server().terminate();
        s.server().restart().await;
        s.set_token(None);
        s.call(get("a/1")).await.ok();
        log_in(s, "root", "rootpw").await;
        log_in(s, "root", "other").await;
        s.call(get("a/1")).await.ok();
        s.call(AuthUserListRequest {}).await.ok();
        s.call(role_get("clerk")).await.ok();
        s.call(AuthStatusRequest {}).await.ok();
        s.call(AuthDisableRequest {}).await.ok();
        s.call(put("k", "v")).await.ok();
        s.set_token(None);
        s.call(AuthDisableRequest {}).await.ok();
        s.call(AuthStatusRequest {}).await.ok();
        s.call(login("root", "other")).await.ok();
        s.set_token(Some("nonsense".to_owned()));
        s.call(put("k", "v")).await.ok();
    })
    .await;
}

/// Everything that may be refused, asked by whoever it is.
async fn ask_all(s: &mut Session) {
    reads(s).await;
    writes(s).await;
    txns(s).await;
    leases(s).await;
    operations(s).await;
    management(s).await;
    locks(s).await;
}

/// Without ranges that end before they begin: whether etcd permits those depends on the shape that its tree of permissions has.
async fn reads(s: &mut Session) {
    for (key, range_end) in [
        ("a/1", ""),
        ("q/1", ""),
        ("w/1", ""),
        ("z/1", ""),
        ("a/", "a0"),
        // Adjoining permissions are one.
        ("a/1", "b/5"),
        ("a/", "c"),
        ("a/", "c0"),
        ("a", "b"),
        ("x", FROM_KEY),
        ("y", "z0"),
        ("w", FROM_KEY),
        ("\0", FROM_KEY),
        ("r/", "r0"),
    ] {
        s.call(range(key, range_end)).await.ok();
        let stale = RangeRequest {
            serializable: true,
            ..range(key, range_end)
        };
        s.call(stale).await.ok();
    }
    let count = RangeRequest {
        count_only: true,
        ..everything()
    };
    s.call(count).await.ok();
    s.call(RangeRequest::default()).await.ok();
}

async fn writes(s: &mut Session) {
    for key in ["a/1", "b/1", "w/1", "r/1", "q/1", "c", "z/1"] {
        s.call(put(key, "v")).await.ok();
        let telling = PutRequest {
            prev_kv: true,
            ..put(key, "w")
        };
        s.call(telling).await.ok();
    }
    for (key, range_end) in [
        ("a/1", ""),
        ("w/", "w0"),
        ("r/1", ""),
        ("a/", "c"),
        ("a/", "d"),
        ("\0", FROM_KEY),
    ] {
        let none = |key: &str| format!("{key}none");
        let (key, end) = (
            none(key),
            if range_end.is_empty() {
                String::new()
            } else {
                none(range_end)
            },
        );
        s.call(delete_range(&key, &end)).await.ok();
        let telling = DeleteRangeRequest {
            prev_kv: true,
            ..delete_range(&key, &end)
        };
        s.call(telling).await.ok();
    }
    s.call(delete_range("x", FROM_KEY)).await.ok();
    s.call(put("z/1", "v")).await.ok();
    s.call(DeleteRangeRequest::default()).await.ok();
}

async fn txns(s: &mut Session) {
    let is_there = |key: &str| compare(key, CompareResult::Greater, TargetUnion::Version(0));
    for (compares, success, failure) in [
        (vec![is_there("a/1")], vec![op(get("a/1"))], vec![]),
        (vec![is_there("q/1")], vec![op(get("a/1"))], vec![]),
        (vec![], vec![op(get("q/1"))], vec![]),
        (vec![], vec![op(get("a/1"))], vec![op(get("q/1"))]),
        (vec![], vec![op(put("a/1", "t"))], vec![op(put("q/1", "t"))]),
        (vec![], vec![op(put("a/1", "t"))], vec![op(get("w/1"))]),
        (vec![], vec![op(put("w/1", "t"))], vec![]),
        (
            vec![],
            vec![op(delete("a/none"))],
            vec![op(delete("q/none"))],
        ),
        (
            vec![],
            vec![op(DeleteRangeRequest {
                prev_kv: true,
                ..delete("w/none")
            })],
            vec![],
        ),
        (
            vec![],
            vec![op(PutRequest {
                prev_kv: true,
                ..put("w/1", "t")
            })],
            vec![],
        ),
        (
            vec![],
            vec![op(txn(
                vec![],
                vec![op(put("a/1", "n"))],
                vec![op(get("q/1"))],
            ))],
            vec![],
        ),
        (
            vec![],
            vec![op(txn(vec![is_there("q/1")], vec![], vec![]))],
            vec![],
        ),
        (
            vec![],
            vec![op(txn(vec![], vec![op(get("a/1"))], vec![]))],
            vec![],
        ),
    ] {
        s.call(txn(compares, success, failure)).await.ok();
    }
    let mut wide = is_there("a/");
    wide.range_end = "q".into();
    s.call(txn(vec![wide], vec![], vec![])).await.ok();
    let stale = RangeRequest {
        serializable: true,
        ..get("q/1")
    };
    s.call(txn(vec![], vec![op(stale)], vec![])).await.ok();
    s.call(txn(vec![], vec![], vec![])).await.ok();
}

/// Lease 1 has keys that alice may read, and write; lease 2 one that she may neither; lease 3 one that she may only read.
async fn leases(s: &mut Session) {
    s.call(grant(77, 600)).await.ok();
    s.call(grant(78, 600)).await.ok();
    for id in [1, 2, 3, 77, 404] {
        for keys in [false, true] {
            s.call(LeaseTimeToLiveRequest { id, keys }).await.ok();
        }
        keep_alive(s, id).await;
        let attached = PutRequest {
            lease: id,
            ..put("a/attached", "v")
        };
        s.call(attached.clone()).await.ok();
        s.call(txn(vec![], vec![op(attached)], vec![])).await.ok();
        s.call(put("a/attached", "v")).await.ok();
    }
    s.call(LeaseLeasesRequest {}).await.ok();
    for id in [2, 3, 77, 78, 404] {
        s.call(LeaseRevokeRequest { id }).await.ok();
    }
}

async fn keep_alive(s: &mut Session, id: i64) {
    let asked = format!("keep {id} alive");
    match keep_alive_as(s.channel(), s.token(), id).await {
        Ok(ttl) => s.note(format!("{asked}\n    => {ttl}")),
        Err(status) => s.refusal(&asked, &status),
    }
}

async fn operations(s: &mut Session) {
    s.call(compact(1)).await.ok();
    s.call(StatusRequest {}).await.ok();
    for linearizable in [false, true] {
        s.call(MemberListRequest { linearizable }).await.ok();
    }
    s.call(MemberAddRequest {
        peer_urls: vec!["nonsense".to_owned()],
        is_learner: true,
    })
    .await
    .ok();
    s.call(MemberAddRequest {
        peer_urls: vec![],
        is_learner: true,
    })
    .await
    .ok();
    s.call(MemberRemoveRequest { id: 5 }).await.ok();
    s.call(MemberPromoteRequest { id: 5 }).await.ok();
    s.call(MemberUpdateRequest {
        id: 5,
        peer_urls: vec!["http://127.0.0.1:1".to_owned()],
    })
    .await
    .ok();
    for action in [AlarmAction::Get, AlarmAction::Deactivate] {
        let alarm = AlarmRequest {
            action: action.into(),
            member_id: 0,
            alarm: AlarmType::Nospace.into(),
        };
        s.call(alarm).await.ok();
    }
    s.call(MoveLeaderRequest { target_id: 5 }).await.ok();
    let hash = HashKvRequest { revision: 0 }
        .send_as(s.channel(), s.token())
        .await;
    note_code(s, "hash of keys", hash);
    let hash = HashRequest {}.send_as(s.channel(), s.token()).await;
    note_code(s, "hash", hash);
    let defragmented = DefragmentRequest {}.send_as(s.channel(), s.token()).await;
    note_code(s, "defragment", defragmented);
    let snapshot = snapshot(s.channel(), s.token()).await;
    note_code(s, "snapshot", snapshot);
}

/// What two servers answer differs, what they refuse does not.
pub(super) fn note_code<T>(s: &mut Session, asked: &str, answer: Result<T, Status>) {
    match answer {
        Ok(_) => s.note(format!("{asked}\n    => an answer")),
        Err(status) => s.refusal(asked, &status),
    }
}

/// The first message of a snapshot.
async fn snapshot(channel: Channel, token: Option<&str>) -> Result<(), Status> {
    let mut request = tonic::Request::new(SnapshotRequest {});
    if let Some(token) = token {
        let token = token.parse().expect("a token is visible ASCII");
        request.metadata_mut().insert("token", token);
    }
    let mut client = MaintenanceClient::new(channel);
    let mut messages = client.snapshot(request).await?.into_inner();
    messages.message().await.map(drop)
}

async fn management(s: &mut Session) {
    s.call(AuthStatusRequest {}).await.ok();
    s.call(AuthUserListRequest {}).await.ok();
    s.call(AuthRoleListRequest {}).await.ok();
    for name in ["alice", "root", "nobody", ""] {
        s.call(user_get(name)).await.ok();
    }
    for role in ["clerk", "root", "nobody"] {
        s.call(role_get(role)).await.ok();
    }
    s.call(user_add("new", "x")).await.ok();
    s.call(user_delete("new")).await.ok();
    s.call(user_delete("nobody")).await.ok();
    s.call(change_password("nobody", "x")).await.ok();
    s.call(user_grant("nobody", "clerk")).await.ok();
    s.call(user_revoke("alice", "nothing")).await.ok();
    s.call(role_add("clerk")).await.ok();
    s.call(role_delete("nothing")).await.ok();
    s.call(permit("nothing", Type::Read, "k", "")).await.ok();
    s.call(forbid("clerk", "nothing", "")).await.ok();
    s.call(AuthEnableRequest {}).await.ok();
}

/// The services that are made of others, with the caller's rights.
async fn locks(s: &mut Session) {
    for name in ["a/lock", "q/lock", "w/lock"] {
        let lock = LockRequest {
            name: name.to_owned().into(),
            lease: 1,
        };
        s.call(lock).await.ok();
        let key = format!("{name}/1").into();
        s.call(UnlockRequest { key }).await.ok();
        let campaign = CampaignRequest {
            name: name.to_owned().into(),
            lease: 1,
            value: "v".into(),
        };
        let won = s.call(campaign).await.ok();
        s.call(LeaderRequest {
            name: name.to_owned().into(),
        })
        .await
        .ok();
        let leader = won.and_then(|won| won.leader).unwrap_or_else(|| LeaderKey {
            name: name.to_owned().into(),
            key: format!("{name}/1").into(),
            rev: 1,
            lease: 1,
        });
        let value = "w".into();
        s.call(ProclaimRequest {
            leader: Some(leader.clone()),
            value,
        })
        .await
        .ok();
        let leader = Some(leader);
        s.call(ResignRequest { leader }).await.ok();
    }
    let lock = LockRequest {
        name: "a/own".into(),
        lease: 0,
    };
    let locked = lock.send_as(s.channel(), s.token()).await;
    note_code(s, "lock with a lease of its own", locked);
    let own = range("a/own/", "a/own0");
    let held = own.send_as(s.channel(), s.token()).await;
    for kv in held.into_iter().flat_map(|answer| answer.kvs) {
        let unlocked = UnlockRequest { key: kv.key };
        let unlocked = unlocked.send_as(s.channel(), s.token()).await;
        note_code(s, "unlock", unlocked);
        let revoked = LeaseRevokeRequest { id: kv.lease };
        let revoked = revoked.send_as(s.channel(), s.token()).await;
        note_code(s, "revoke", revoked);
    }
}

/// What [`leases`] asks for, made by root.
async fn attach(s: &mut Session) {
    for (id, key) in [(1, "a/leased"), (2, "q/leased"), (3, "r/leased")] {
        s.call(grant(id, 600)).await.ok();
        let attached = PutRequest {
            lease: id,
            ..put(key, "v")
        };
        s.call(attached).await.ok();
    }
}

#[tokio::test]
async fn everybody_may_do_what_the_roles_permit_and_nothing_else() {
    on_both_with(&CHEAP, async |s| {
        attach(s).await;
        enable(s).await;
        for token in [None, Some("nonsense"), Some("letters.0"), Some("")] {
            s.set_token(token.map(str::to_owned));
            ask_all(s).await;
        }
        log_in(s, "alice", "alicepw").await;
        ask_all(s).await;
        log_in(s, "root", "rootpw").await;
        attach(s).await;
        ask_all(s).await;
        s.call(everything()).await.ok();
    })
    .await;
}

#[tokio::test]
async fn watches_are_permitted_one_by_one() {
    on_both_with(&CHEAP, async |s| {
        enable(s).await;
        for token in [None, Some("nonsense")] {
            s.set_token(token.map(str::to_owned));
            let mut stream = s.watch();
            for (key, start) in [("a/1", 0), ("a/1", -1), ("q/1", 0)] {
                stream.create(s, watch(key, "", start));
                stream.next(s).await;
            }
        }
        log_in(s, "alice", "alicepw").await;
        let mut stream = s.watch();
        for (key, range_end) in [
            ("a/1", ""),
            ("q/1", ""),
            ("", ""),
            ("", FROM_KEY),
            ("a/", "c"),
            ("a/", "d"),
            ("x", FROM_KEY),
            ("w", FROM_KEY),
            ("w/1", ""),
        ] {
            stream.create(s, watch(key, range_end, 0));
            stream.next(s).await;
        }
        // What a watcher was permitted once it goes on seeing.
        let alice = s.token().map(str::to_owned);
        log_in(s, "root", "rootpw").await;
        s.call(forbid("clerk", "a/", "a0")).await.ok();
        let mut single = s.watch();
        single.create(s, watch("a/2", "", 0));
        single.next(s).await;
        s.call(put("a/2", "seen")).await.ok();
        single.events(s, 1).await;
        stream.events(s, 1).await;
        s.set_token(alice);
        stream.create(s, watch("a/1", "", 0));
        stream.next(s).await;
    })
    .await;
}
