//! Auth: users, roles, permissions and tokens, and what all the other services refuse because of them.

use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use keystead_proto::authpb::permission::Type;
use keystead_proto::authpb::{Permission, UserAddOptions};
use keystead_proto::etcdserverpb::alarm_request::AlarmAction;
use keystead_proto::etcdserverpb::compare::{CompareResult, TargetUnion};
use keystead_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use keystead_proto::etcdserverpb::watch_client::WatchClient;
use keystead_proto::etcdserverpb::watch_request::RequestUnion;
use keystead_proto::etcdserverpb::*;
use keystead_proto::v3electionpb::LeaderRequest;
use keystead_proto::v3electionpb::{CampaignRequest, LeaderKey, ProclaimRequest, ResignRequest};
use keystead_proto::v3lockpb::{LockRequest, UnlockRequest};
use keystead_tests::{Cluster, Kind, Server, Session, Unary, keep_alive_as, on_both_with, oracle};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::requests::{
    FROM_KEY, compact, compare, delete, delete_range, everything, get, grant, op, put, range, txn,
    watch,
};

/// Hashing a password is no part of what is tested here.
const CHEAP: [&str; 2] = ["--bcrypt-cost", "4"];
/// No test waits longer for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

fn user_add(name: &str, password: &str) -> AuthUserAddRequest {
    AuthUserAddRequest {
        name: name.to_owned(),
        password: password.to_owned(),
        ..Default::default()
    }
}

fn user_grant(user: &str, role: &str) -> AuthUserGrantRoleRequest {
    AuthUserGrantRoleRequest {
        user: user.to_owned(),
        role: role.to_owned(),
    }
}

fn user_revoke(name: &str, role: &str) -> AuthUserRevokeRoleRequest {
    AuthUserRevokeRoleRequest {
        name: name.to_owned(),
        role: role.to_owned(),
    }
}

fn user_get(name: &str) -> AuthUserGetRequest {
    let name = name.to_owned();
    AuthUserGetRequest { name }
}

fn user_delete(name: &str) -> AuthUserDeleteRequest {
    let name = name.to_owned();
    AuthUserDeleteRequest { name }
}

fn change_password(name: &str, password: &str) -> AuthUserChangePasswordRequest {
    AuthUserChangePasswordRequest {
        name: name.to_owned(),
        password: password.to_owned(),
        ..Default::default()
    }
}

fn role_add(name: &str) -> AuthRoleAddRequest {
    let name = name.to_owned();
    AuthRoleAddRequest { name }
}

fn role_get(role: &str) -> AuthRoleGetRequest {
    let role = role.to_owned();
    AuthRoleGetRequest { role }
}

fn role_delete(role: &str) -> AuthRoleDeleteRequest {
    let role = role.to_owned();
    AuthRoleDeleteRequest { role }
}

fn permit(role: &str, kind: Type, key: &str, range_end: &str) -> AuthRoleGrantPermissionRequest {
    AuthRoleGrantPermissionRequest {
        name: role.to_owned(),
        perm: Some(Permission {
            perm_type: kind.into(),
            key: key.to_owned().into(),
            range_end: range_end.to_owned().into(),
        }),
    }
}

fn forbid(role: &str, key: &str, range_end: &str) -> AuthRoleRevokePermissionRequest {
    AuthRoleRevokePermissionRequest {
        role: role.to_owned(),
        key: key.to_owned().into(),
        range_end: range_end.to_owned().into(),
    }
}

fn login(name: &str, password: &str) -> AuthenticateRequest {
    AuthenticateRequest {
        name: name.to_owned(),
        password: password.to_owned(),
    }
}

/// Goes on as a user.
async fn log_in(s: &mut Session, name: &str, password: &str) {
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
async fn enable(s: &mut Session) {
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
fn note_code<T>(s: &mut Session, asked: &str, answer: Result<T, Status>) {
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

#[tokio::test]
async fn a_token_ends_with_its_password_and_its_user_not_with_a_role() {
    on_both_with(&CHEAP, async |s| {
        enable(s).await;
        log_in(s, "alice", "alicepw").await;
        let alice = s.token().map(str::to_owned);
        log_in(s, "root", "rootpw").await;
        let root = s.token().map(str::to_owned);
        s.call(forbid("clerk", "b", "c")).await.ok();
        s.set_token(alice.clone());
        s.call(get("b/1")).await.ok();
        s.call(get("a/1")).await.ok();
        s.call(user_get("alice")).await.ok();
        s.set_token(root.clone());
        s.call(user_revoke("alice", "clerk")).await.ok();
        s.set_token(alice.clone());
        s.call(get("a/1")).await.ok();
        s.call(role_get("clerk")).await.ok();
        s.set_token(root.clone());
        s.call(change_password("alice", "other")).await.ok();
        s.set_token(alice);
        s.call(get("a/1")).await.ok();
        log_in(s, "alice", "alicepw").await;
        log_in(s, "alice", "other").await;
        let alice = s.token().map(str::to_owned);
        s.set_token(root.clone());
        s.call(user_delete("alice")).await.ok();
        s.set_token(alice);
        s.call(get("a/1")).await.ok();
        s.call(user_get("alice")).await.ok();
        s.set_token(root.clone());
        // It is the first one that counts, and `authorization` where there is no token.
        for headers in [
            &[("authorization", "")][..],
            &[("authorization", "Bearer ")],
            &[("token", "Bearer ")],
            &[("authorization", ""), ("token", "x")],
            &[("token", ""), ("authorization", "x")],
        ] {
            let mut request = tonic::Request::new(get("a/1"));
            for (name, before) in headers {
                let value = match *before {
                    "x" => "x".to_owned(),
                    before => format!("{before}{}", root.as_deref().unwrap_or_default()),
                };
                let value = value.parse().expect("visible ASCII");
                request.metadata_mut().append(*name, value);
            }
            let mut client = kv_client::KvClient::new(s.channel());
            let read = client.range(request).await;
            note_code(s, &format!("{headers:?}"), read);
        }
        s.call(AuthDisableRequest {}).await.ok();
        s.set_token(None);
        s.call(AuthEnableRequest {}).await.ok();
        s.set_token(root);
        s.call(get("a/1")).await.ok();
    })
    .await;
}

#[tokio::test]
async fn a_simple_token_that_nobody_uses_ends() {
    let short = ["--bcrypt-cost", "4", "--auth-token-ttl", "1"];
    on_both_with(&short, async |s| {
        enable(s).await;
        log_in(s, "root", "rootpw").await;
        let begin = Instant::now();
        loop {
            // Longer than the TTL each time, for a use would keep it; etcd looks for what has ended once a second.
            tokio::time::sleep(Duration::from_millis(2100)).await;
            let read = get("a/1").send_as(s.channel(), s.token()).await;
            if let Err(status) = read {
                s.refusal("later", &status);
                break;
            }
            assert!(begin.elapsed() < Duration::from_secs(30), "it never ends");
        }
        log_in(s, "root", "rootpw").await;
        s.call(get("a/1")).await.ok();
    })
    .await;
}

/// A server whose tokens are signed: `keys` is the end of `--auth-token`.
async fn with_signed_tokens(kind: Kind, keys: &str) -> Option<Session> {
    let token = format!("jwt,{keys}");
    let arguments = ["--bcrypt-cost", "4", "--auth-token", &token];
    let server = Server::start(kind, &arguments, &[]).await?;
    let mut session = Session::new(server);
    enable(&mut session).await;
    Some(session)
}

async fn token_of(s: &Session, name: &str, password: &str) -> Result<String, Status> {
    let answer = login(name, password).send(s.channel()).await;
    answer.map(|answer| answer.token)
}

#[tokio::test]
async fn signed_tokens_are_the_same_on_etcd() {
    if oracle("etcd").is_none() {
        println!("skipped: there is no etcd to compare with");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key pair");
    let file = |name: &str, contents: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, contents).expect("it can be written");
        path.display().to_string()
    };
    let private = file("private.pem", pair.serialize_pem());
    let public = file("public.pem", pair.public_key_pem());
    let both = format!("sign-method=ES256,ttl=10m,priv-key={private},pub-key={public}");
    let signers = tokio::join!(
        with_signed_tokens(Kind::Etcd, &both),
        with_signed_tokens(Kind::Keystead, &both),
    );
    let (etcd, keystead) = (
        signers.0.expect("there is one"),
        signers.1.expect("there is one"),
    );
    let verifying = format!("sign-method=ES256,pub-key={public}");
    let verifier = with_signed_tokens(Kind::Keystead, &verifying).await;
    let verifier = verifier.expect("there is one");
    let refused = token_of(&verifier, "alice", "alicepw")
        .await
        .expect_err("it has no key to sign");
    let text = "auth: token signing attempted with verify-only key";
    assert_eq!((refused.code(), refused.message()), (Code::Unknown, text));
    let tokens = [
        token_of(&etcd, "alice", "alicepw").await.expect("etcd's"),
        token_of(&keystead, "alice", "alicepw").await.expect("ours"),
    ];
    let servers = [&etcd, &keystead, &verifier];
    for token in &tokens {
        for s in servers {
            let read = get("a/1").send_as(s.channel(), Some(token)).await;
            assert_eq!(read.expect("alice may").count, 1);
            let denied = get("q/1").send_as(s.channel(), Some(token)).await;
            assert_eq!(
                denied.expect_err("alice may not").code(),
                Code::PermissionDenied
            );
            put("a/1", "v")
                .send_as(s.channel(), Some(token))
                .await
                .expect("alice may");
        }
    }
    // A role that changes makes every token old. Root's is as good as before: it is not asked for its revision.
    for s in [&etcd, &keystead] {
        let root = token_of(s, "root", "rootpw").await.expect("a token");
        let changed = permit("clerk", Type::Read, "q/", "q0").send_as(s.channel(), Some(&root));
        changed.await.expect("root may");
        let old = "etcdserver: revision of auth store is old";
        for token in &tokens {
            let refusals = [
                get("a/1").send_as(s.channel(), Some(token)).await.map(drop),
                put("a/1", "v")
                    .send_as(s.channel(), Some(token))
                    .await
                    .map(drop),
                txn(vec![], vec![op(get("a/1"))], vec![])
                    .send_as(s.channel(), Some(token))
                    .await
                    .map(drop),
                get("a/1").send_as(s.channel(), Some(&root)).await.map(drop),
            ];
            for refused in refusals {
                let refused = refused.expect_err("it is old");
                assert_eq!(
                    (refused.code(), refused.message()),
                    (Code::InvalidArgument, old)
                );
            }
        }
        let listed = AuthUserListRequest {}
            .send_as(s.channel(), Some(&root))
            .await;
        assert_eq!(listed.expect("root may").users, ["alice", "root"]);
        let anew = token_of(s, "alice", "alicepw").await.expect("a token");
        get("q/1")
            .send_as(s.channel(), Some(&anew))
            .await
            .expect("she may now");
    }
}

#[tokio::test]
async fn a_token_of_one_member_is_one_of_all() {
    for kind in [Kind::Etcd, Kind::Keystead] {
        let Some(cluster) = Cluster::start(kind, 3, &CHEAP).await else {
            println!("skipped: there is no etcd");
            continue;
        };
        let anybody = cluster.channel(0);
        for (name, password) in [("root", "rootpw"), ("alice", "alicepw")] {
            let added = user_add(name, password).send(anybody.clone()).await;
            added.expect("she is new");
        }
        role_add("clerk")
            .send(anybody.clone())
            .await
            .expect("it is new");
        for (user, role) in [("root", "root"), ("alice", "clerk")] {
            let granted = user_grant(user, role).send(anybody.clone()).await;
            granted.expect("both are there");
        }
        let permitted = permit("clerk", Type::Readwrite, "a/", "a0");
        permitted.send(anybody.clone()).await.expect("it is there");
        AuthEnableRequest {}
            .send(anybody)
            .await
            .expect("root is there");
        for member in 0..3 {
            let given = login("alice", "alicepw")
                .send(cluster.channel(member))
                .await;
            let alice = Some(given.expect("she is known").token);
            let alice = alice.as_deref();
            for other in 0..3 {
                let channel = cluster.channel(other);
                put("a/k", "v")
                    .send_as(channel.clone(), alice)
                    .await
                    .unwrap_or_else(|status| panic!("{kind:?} {member} {other}: {status}"));
                let read = get("a/k").send_as(channel.clone(), alice).await;
                assert_eq!(read.expect("she may").count, 1);
                let denied = put("b", "v").send_as(channel.clone(), alice).await;
                assert_eq!(
                    denied.expect_err("she may not").code(),
                    Code::PermissionDenied
                );
                let nobody = put("a/k", "v").send(channel.clone()).await;
                let text = "etcdserver: user name is empty";
                assert_eq!(nobody.expect_err("who is it?").message(), text);
                let granted = grant(0, 60).send_as(channel.clone(), alice).await;
                let lease = granted.expect("any user may").id;
                let kept = keep_alive_as(channel.clone(), alice, lease).await;
                assert_eq!(kept.expect("any user may"), 60, "{kind:?} {other}");
                let nobody = keep_alive_as(channel, None, lease).await;
                assert_eq!(nobody.expect_err("who is it?").message(), text);
            }
        }
        if kind == Kind::Keystead {
            // etcd waits for what its log may yet bring as long as the client does.
            let future = Some("lettersofchance.99999999");
            let read = get("a/k").send_as(cluster.channel(2), future).await;
            assert_eq!(
                read.expect_err("nobody has it").code(),
                Code::Unauthenticated
            );
        }
        // Everybody who follows has followed by the time that it answers a linearizable read.
        let root = login("root", "rootpw").send(cluster.channel(1)).await;
        let root = root.expect("it is known").token;
        let given = login("alice", "alicepw").send(cluster.channel(0)).await;
        let alice = given.expect("she is known").token;
        let changed = change_password("alice", "other").send_as(cluster.channel(2), Some(&root));
        changed.await.expect("root may");
        for member in 0..3 {
            let read = get("a/k")
                .send_as(cluster.channel(member), Some(&alice))
                .await;
            let refused = read.expect_err("her token is gone");
            assert_eq!(refused.code(), Code::Unauthenticated, "{kind:?} {member}");
        }
    }
}

/// By what it knows nobody has to say who it is; etcd serves nobody before it is current.
#[tokio::test]
async fn a_member_that_was_away_while_authentication_was_enabled_lets_nobody_watch_unasked() {
    let mut cluster = Cluster::start(Kind::Keystead, 3, &CHEAP)
        .await
        .expect("only etcd may be missing");
    let leader = cluster.leader().await;
    let (other, away) = ((leader + 1) % 3, (leader + 2) % 3);
    let channel = cluster.channel(leader);
    let added = user_add("root", "rootpw").send(channel.clone()).await;
    added.expect("it is new");
    let granted = user_grant("root", "root").send(channel.clone()).await;
    granted.expect("both are there");
    cluster.member(away).kill();
    let enabled = AuthEnableRequest {}.send(channel).await;
    enabled.expect("root is there");
    for member in [leader, other] {
        cluster.member(member).pause();
    }
    cluster.member(away).launch();

    let channel = cluster.channel(away);
    let serializable = RangeRequest {
        serializable: true,
        ..get("k")
    };
    let begin = Instant::now();
    while let Err(status) = serializable.clone().send(channel.clone()).await {
        assert!(begin.elapsed() < PATIENCE, "{status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let told = tokio::spawn(first_of_watch(channel.clone()));
    // Time enough to be told what must not be; a slow machine tells it later, and nothing else.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for member in [leader, other] {
        cluster.member(member).resume();
    }
    match told.await.expect("no panic") {
        Ok(Some(answer)) => assert!(
            answer.canceled && answer.cancel_reason.ends_with("user name is empty"),
            "{answer:?}"
        ),
        Ok(None) => panic!("the stream ended as if all were well"),
        Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status}"),
    }
    cluster.ready().await;
    let refused = first_of_watch(channel).await.expect("it is answered");
    let refused = refused.expect("the stream goes on");
    assert!(
        refused.cancel_reason.ends_with("user name is empty"),
        "{refused:?}"
    );
}

/// What somebody without a token is told first who asks to watch everything.
async fn first_of_watch(channel: Channel) -> Result<Option<WatchResponse>, Status> {
    let request = WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(watch("\0", FROM_KEY, 1))),
    };
    let requests = stream::iter([request]).chain(stream::pending());
    let mut answers = WatchClient::new(channel)
        .watch(requests)
        .await?
        .into_inner();
    answers.message().await
}
