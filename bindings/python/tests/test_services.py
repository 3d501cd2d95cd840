"""Services, caches, and what operators ask."""

import hashlib

import pytest

import keystead
from keystead import Endpoint


def test_a_service_is_found_while_it_is_registered(face, client):
    with face.entered(client.register("svc", "10.0.0.1:80", metadata={"zone": "a"}, ttl="5s")) as registration:
        assert registration.key == b"svc/10.0.0.1:80" and registration.state.name == "registered"
        resolver = face.do(client.resolve("svc"))
        mine = Endpoint("10.0.0.1:80", {"zone": "a"})
        assert resolver.endpoints() == [mine] and resolver.pick() == mine == resolver.pick("random")
        with face.entered(client.register("svc", "10.0.0.2:80")):
            assert face.do(resolver.sync()) > 0
            assert len(resolver.endpoints()) == 2
            assert {resolver.pick().address for _ in range(2)} == {"10.0.0.1:80", "10.0.0.2:80"}
            both = resolver.endpoints()
        assert face.do(resolver.changed(both)) == [mine]
        with pytest.raises(ValueError):
            resolver.pick("best")
    face.do(resolver.sync())
    assert resolver.pick() is None
    with face.entered(client.resolve("svc")) as entered:
        assert entered.endpoints() == []
    resolver.close()
    for closed in (entered, resolver):
        closed.close()
        with pytest.raises(keystead.Closed):
            closed.pick()
        with pytest.raises(keystead.Closed):
            face.do(closed.changed([]))


def test_a_registration_comes_back_when_its_session_was_lost(face, client, other):
    registration = face.do(client.register("svc", "10.0.0.1:80", ttl=3))
    lease = other.get("svc/10.0.0.1:80").lease
    state = registration.state
    other.revoke(lease)
    while state.revision is None or state.loss is None:
        state = face.do(registration.changed(state))
    with pytest.raises(ValueError):
        registration.changed(("registered", None, "stolen"))
    assert state.name == "registered" and other.get("svc/10.0.0.1:80").lease != lease
    face.do(registration.withdraw())
    assert other.get("svc/10.0.0.1:80") is None
    with pytest.raises(keystead.Closed):
        face.do(registration.withdraw())


def test_a_service_is_not_found_any_more_when_its_client_is_closed(face, member, prefix, other):
    client = face.connect(member.url, namespace=prefix)
    registration = face.do(client.register("svc", "10.0.0.1:80", ttl="10m"))
    state = registration.state
    face.do(client.close())
    with pytest.raises(keystead.Closed):
        while True:
            state = face.do(registration.changed(state))
    assert other.get("svc/10.0.0.1:80") is None


def test_a_cache_is_in_step_with_the_store(face, client, other):
    other.put("cfg/a", "1")
    cache = face.do(client.cache(prefix="cfg/"))
    assert cache["cfg/a"].value == b"1" and len(cache) == 1 and list(cache) == [b"cfg/a"]
    assert "cfg/a" in cache and b"cfg/b" not in cache and cache.get("cfg/b") is None
    with pytest.raises(KeyError):
        cache["cfg/b"]
    subscription = cache.subscribe()
    state = face.do(subscription.next())
    assert state.kind == "state" and [kv.value for kv in state.kvs] == [b"1"]
    revision = other.put("cfg/b", "2").revision
    face.do(cache.reach(revision))
    assert cache["cfg/b"].value == b"2"
    change = face.take(subscription, 1)[0]
    assert change.kind == "changes" and [event.value for event in change.events] == [b"2"]
    other.put("cfg/b", "3")
    linearizable = (
        cache.get("cfg/b", linearizable=True) if face.name == "sync" else face.do(cache.get_linearizable("cfg/b"))
    )
    assert linearizable.value == b"3"
    assert face.do(cache.sync()) > revision
    at, kvs = cache.range(prefix="cfg/")
    assert at > revision and [kv.value for kv in kvs] == [b"1", b"3"]
    assert cache.lag().connected
    with pytest.raises(keystead.DeadlineExceeded):
        face.do(subscription.next(timeout="1ms")) and face.do(subscription.next(timeout="10ms"))
    subscription.cancel()
    assert face.do(subscription.next()) is None
    with face.entered(cache.subscribe()) as news:
        assert len(face.do(news.next()).kvs) == 2
    assert face.do(news.next()) is None
    news = cache.subscribe()
    with face.entered(client.cache("cfg/a")) as entered:
        assert entered["cfg/a"].value == b"1"
    cache.close()
    for closed in (entered, cache):
        closed.close()
        with pytest.raises(keystead.Closed):
            closed.get("cfg/a")
        with pytest.raises(keystead.Closed):
            face.do(closed.sync())
    with pytest.raises(keystead.Closed):
        face.do(news.next())


def test_operators_learn_how_a_member_is(face, client, tmp_path):
    maintenance = client.maintenance
    status = face.do(maintenance.status())
    assert status.version and status.db_size_bytes > 0 and status.leader == status.header.member_id
    revision = face.do(client.put("k", "v")).revision
    assert face.do(maintenance.hash(revision)).hash == face.do(maintenance.hash(revision)).hash
    assert face.do(maintenance.alarms()) == []
    assert face.do(maintenance.disarm(keystead.Alarm(status.leader, "no_space"))) == []
    face.do(maintenance.defragment())
    face.do(maintenance.move_leader(status.leader))
    saved = face.do(maintenance.save_snapshot(tmp_path / "snapshot"))
    content = (tmp_path / "snapshot").read_bytes()
    assert len(content) == saved.size_bytes and hashlib.sha256(content[:-32]).digest() == content[-32:]
    with pytest.raises(OSError):
        face.do(maintenance.save_snapshot(tmp_path / "missing" / "snapshot"))


def test_members_are_listed_and_changed(face, own_member):
    with face.entered(face.connect(own_member.url)) as client:
        cluster = client.cluster
        (only,) = face.do(cluster.members())
        assert only.client_urls == [own_member.url] and only.name == "default" and not only.is_learner
        assert face.do(cluster.members(linearizable=False)) == [only]
        added = face.do(cluster.add_member(["http://127.0.0.1:1"], is_learner=True))
        assert added.is_learner and added.id in {member.id for member in face.do(cluster.members())}
        face.do(cluster.update_member(added.id, ["http://127.0.0.1:2"]))
        with pytest.raises(keystead.FailedPrecondition):
            face.do(cluster.promote_member(added.id))
        assert face.do(cluster.remove_member(added.id)) == [only]
        with pytest.raises(LookupError):
            face.do(cluster.remove_member(added.id))


def test_users_do_what_their_roles_permit(face, own_member):
    with face.entered(face.connect(own_member.url)) as client:
        auth = client.auth
        for user in ("root", "alice"):
            face.do(auth.add_user(user, "secret"))
        face.do(auth.add_user("bob"))
        assert sorted(face.do(auth.users())) == ["alice", "bob", "root"]
        face.do(auth.delete_user("bob"))
        face.do(auth.add_role("root"))
        face.do(auth.add_role("reader"))
        face.do(auth.add_role("nobody"))
        face.do(auth.delete_role("nobody"))
        assert sorted(face.do(auth.roles())) == ["reader", "root"]
        face.do(auth.grant_permission("reader", "read", prefix="open/"))
        face.do(auth.grant_permission("reader", "readwrite", "mine"))
        permissions = face.do(auth.role("reader"))
        assert ("read", b"open/", b"open0") in permissions and ("readwrite", b"mine", b"") in permissions
        face.do(auth.grant_role("root", "root"))
        face.do(auth.grant_role("alice", "reader"))
        assert face.do(auth.user("alice")) == ["reader"]
        with pytest.raises(ValueError):
            auth.grant_permission("reader", "smell", "k")
        face.do(auth.enable())
        with pytest.raises(PermissionError):
            face.do(client.get("open/k"))
    with face.entered(face.connect(own_member.url, user="root", password="secret")) as root:
        assert face.do(root.auth.status()).enabled
        with face.entered(face.connect(own_member.url, user="alice", password="secret")) as alice:
            face.do(root.put("open/k", "v"))
            assert face.do(alice.get("open/k")).value == b"v"
            with pytest.raises(keystead.PermissionDenied):
                face.do(alice.put("open/k", "w"))
            # Her token is of an older revision of all this from now on.
            face.do(root.auth.revoke_permission("reader", "mine"))
            with pytest.raises(keystead.PermissionDenied):
                face.do(alice.put("mine", "w"))
            assert face.do(alice.get("open/k")).value == b"v"
            face.do(root.auth.revoke_role("alice", "reader"))
            with pytest.raises(keystead.PermissionDenied):
                face.do(alice.get("open/k"))
        face.do(root.auth.change_password("alice", "other"))
        with pytest.raises(keystead.Unauthenticated):
            face.do(face.connect(own_member.url, user="alice", password="secret", **lazily(face)).get("k"))
        face.do(root.auth.disable())


def lazily(face):
    """An asyncio client is lazy anyway."""
    return {"lazy": True} if face.name == "sync" else {}
