"""Connecting, options, closing."""

import time

import pytest
from servers import free_port

import keystead


def test_a_client_connects_to_whoever_answers(face, member):
    nobody = f"http://127.0.0.1:{free_port()}"
    client = face.connect([nobody, member.url], deadline="30s")
    assert client.endpoints == [nobody, member.url]
    for _ in range(4):
        assert face.do(client.get("nothing")) is None
    assert member.url in repr(client)
    assert face.do(client.sync_endpoints()) == [member.url]
    there = face.do(client.at(member.url))
    assert there.endpoints == [member.url] and face.do(there.get("nothing")) is None
    face.do(there.close())
    face.do(client.close())


def test_nobody_there_is_told_in_time(face):
    nobody = f"http://127.0.0.1:{free_port()}"
    began = time.monotonic()
    with pytest.raises(keystead.Unavailable) as failed, face.entered(face.connect(nobody, deadline="1s")):
        pass
    assert isinstance(failed.value, ConnectionError) and failed.value.code == 14
    assert time.monotonic() - began < 20


def test_a_closed_client_says_so(face, member):
    client = face.connect(member.url)
    view = client.namespace("view/")
    face.do(client.put("closed", "1"))
    face.do(client.close())
    face.do(client.close())
    assert client.closed and view.closed
    for closed in (client, view):
        with pytest.raises(keystead.Closed):
            face.do(closed.get("k"))
    with pytest.raises(keystead.Closed):
        face.do(client.lock("k").lock())


def test_a_deadline_ends_a_call_to_a_member_that_hangs(face, own_member):
    client = face.connect(own_member.url)
    face.do(client.put("k", "v"))
    own_member.pause()
    hasty = client.with_options(deadline="300ms", requires_leader=False)
    with pytest.raises(TimeoutError) as failed:
        face.do(hasty.put("k", "w"))
    assert isinstance(failed.value, keystead.DeadlineExceeded)
    assert failed.value.outcome is keystead.Outcome.UNKNOWN
    own_member.resume()
    assert face.do(client.get("k")).value in (b"v", b"w")
    face.do(client.close())


def test_a_client_is_made_of_the_variables_of_etcdctl(face, member, monkeypatch):
    monkeypatch.setenv("ETCDCTL_ENDPOINTS", member.url.removeprefix("http://"))
    with face.entered(face.connect(None, from_env=True)) as client:
        assert face.do(client.get("nothing")) is None


def test_both_faces_share_one_connection(keystead_member):
    import asyncio

    async def read(client):
        return await client.get("shared")

    with keystead.Client(keystead_member.url) as client:
        client.put("shared", "yes")
        assert asyncio.run(read(client.aio)).value == b"yes"
        assert client.aio.sync.get("shared").value == b"yes"
    assert client.aio.closed


def test_what_a_client_gives_prints_as_what_it_is(face, client):
    kind = "" if face.name == "sync" else "Async"
    lease = face.do(client.lease(5))
    face.do(client.put("c/k", "v"))
    registration, resolver = face.do(client.register("s", "a:1")), face.do(client.resolve("s"))
    cache, watch = face.do(client.cache(prefix="c/")), face.do(client.watch("k"))
    for printed, expected in [
        (client.lock("l"), "Lock b'l'"),
        (client.rwlock(b"r"), "RwLock b'r'"),
        (client.semaphore("s", 1), "Semaphore b's'"),
        (client.barrier("b"), "Barrier b'b'"),
        (client.queue("q"), "Queue b'q'"),
        (client.election("e"), "Election b'e'"),
        (lease, f"Lease {lease.lease:x} of 5 s"),
        (registration, "Registration of b's/a:1', registered"),
        (resolver, "Resolver of 1 endpoints"),
        (cache, "Cache of 1 keys"),
        (watch, f"Watch at revision {watch.lag().revision}, connected"),
    ]:
        assert repr(printed) == f"<{kind}{expected}>"
    face.do(registration.withdraw())
    cache.close()
    resolver.close()
    watch.cancel()
    assert "withdrawn" in repr(registration) and "ended" in repr(cache) and "ended" in repr(resolver) and repr(watch)


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({}, TypeError),
        ({"endpoints": []}, ValueError),
        ({"endpoints": 7}, TypeError),
        ({"endpoints": b"http://127.0.0.1:1"}, TypeError),
        ({"endpoints": "http://127.0.0.1:1", "user": "u"}, TypeError),
        ({"endpoints": "http://127.0.0.1:1", "cert": "c"}, TypeError),
        ({"endpoints": "http://127.0.0.1:1", "deadline": 0}, ValueError),
        ({"endpoints": "http://127.0.0.1:1", "nameservers": ["here"]}, ValueError),
        ({"endpoints": "gopher://127.0.0.1:1"}, keystead.InvalidArgument),
    ],
)
def test_options_that_contradict_each_other_are_refused(face, options, wrong):
    with pytest.raises(wrong):
        face.connect(**{"endpoints": None} | options)
