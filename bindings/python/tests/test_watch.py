"""Watches: nothing lost, nothing twice, and never silent."""

import pytest
from servers import until

import keystead
from keystead import Diff, Disconnected, Events, Progress, Reset, Resumed


def test_a_watch_tells_every_change_in_order(face, client):
    with face.entered(client.watch(prefix="k/", prev_kv=True)) as watch:
        face.do(client.put("k/a", "1"))
        face.do(client.put("k/a", "2"))
        face.do(client.delete("k/a"))
        events = face.take(watch.events(), 3)
        assert [event.kind for event in events] == ["put", "put", "delete"]
        assert [event.value for event in events] == [b"1", b"2", b""]
        assert events[1].prev_kv.value == b"1" and events[2].key == b"k/a"
        lag = watch.lag()
        assert lag.connected and lag.revision >= events[2].kv.mod_revision
        with pytest.raises(keystead.DeadlineExceeded):
            face.do(watch.next(timeout="50ms"))
        watch.cancel()
        assert face.do(watch.next()) is None and face.all(watch) == []


def test_a_transaction_is_told_whole(face, client):
    with face.entered(client.watch(prefix="")) as watch:
        face.do(client.txn(then=[keystead.Put(f"k{number}", "v") for number in range(5)]))
        notice = face.do(watch.next())
        assert isinstance(notice, Events) and notice.last
        assert [event.key for event in notice.events] == [b"k0", b"k1", b"k2", b"k3", b"k4"]


def test_a_watch_begins_where_it_is_told_to(face, client):
    first = face.do(client.put("k", "1")).revision
    face.do(client.put("k", "2"))
    with face.entered(client.watch("k", start_revision=first, no_delete=True)) as watch:
        assert [event.value for event in face.take(watch.events(), 2)] == [b"1", b"2"]
    with face.entered(client.watch("k", state_first=True)) as watch:
        reset = face.take(watch, 1)[0]
        assert isinstance(reset, Reset) and reset.cause == "begun" and reset.last and reset.page == 0
        assert [kv.value for kv in reset.kvs] == [b"2"]
        face.do(client.delete("k"))
        assert [event.kind for event in face.take(watch.events(), 1)] == ["delete"]
    with face.entered(client.watch("k", start_revision=first, no_put=True)) as watch:
        face.do(client.put("k", "3"))
        face.do(client.delete("k"))
        assert [event.kind for event in face.take(watch.events(), 2)] == ["delete", "delete"]


def test_progress_is_told_to_those_who_ask(face, client):
    with face.entered(client.watch("k", progress=True)) as watch:
        revision = face.do(client.put("k", "1")).revision
        seen = []
        while not any(isinstance(notice, Events) for notice in seen):
            seen += face.do(watch.next_batch(1000, timeout=60))
        assert all(isinstance(notice, Events | Progress) for notice in seen)
        assert seen[-1].revision >= revision


def test_a_restart_below_an_idle_watch_loses_nothing(face, own_member):
    with (
        face.entered(face.connect(own_member.url, deadline="60s")) as client,
        face.entered(client.watch(prefix="k/")) as watch,
    ):
        face.do(client.put("k/1", "before"))
        told = [face.do(watch.next(timeout=60))]
        own_member.kill()
        while not isinstance(told[-1], Disconnected):
            told.append(face.do(watch.next(timeout=60)))
        own_member.start()
        face.do(client.put("k/2", "after"))
        while not (isinstance(told[-1], Events) and told[-1].events[0].key == b"k/2"):
            told.append(face.do(watch.next(timeout=60)))
        keys = [event.key for notice in told if isinstance(notice, Events) for event in notice.events]
        assert keys == [b"k/1", b"k/2"]
        kinds = [type(notice) for notice in told]
        assert kinds.index(Disconnected) < kinds.index(Resumed)
        cut = told[kinds.index(Disconnected)]
        assert isinstance(cut.error, keystead.KeysteadError)


def test_history_that_is_gone_is_told_as_the_state(face, client):
    first = face.do(client.put("k", "1")).revision
    last = face.do(client.put("k", "2")).revision
    face.do(client.compact(last))
    with face.entered(client.watch("k", start_revision=first)) as watch:
        reset = face.do(watch.next())
        assert isinstance(reset, Reset) and reset.cause == "compacted"
        assert [kv.value for kv in reset.kvs] == [b"2"]
    with face.entered(client.watch("k", start_revision=first)) as watch, pytest.raises(keystead.Compacted):
        face.take(watch.events(), 1)
    with (
        face.entered(client.watch("k", start_revision=first, on_gap="fail")) as watch,
        pytest.raises(keystead.Compacted),
    ):
        face.do(watch.next())


def test_what_differs_is_told_to_those_who_ask(face, own_member):
    """Cut off while the history goes: the difference, and no more."""
    with (
        face.entered(face.connect(own_member.url, deadline="60s")) as client,
        face.entered(client.watch(prefix="k/", state_first=True, on_gap="diff")) as watch,
    ):
        for key in "abc":
            face.do(client.put(f"k/{key}", "1"))
        state = face.take(watch.events(), 3)
        assert [event.key for event in state] == [b"k/a", b"k/b", b"k/c"]
        # A watch that is not read leaves its stream when its buffer is full, and comes back with its cursor.
        own_member.pause()
        own_member.resume()
        big = "x" * (1 << 20)
        for _ in range(8):
            face.do(client.put("k/a", big))
        face.do(client.delete("k/b"))
        last = face.do(client.put("k/c", "2")).revision
        face.do(client.compact(last))
        values, diffs = {}, []
        while values.get(b"k/c") != b"2":
            notice = face.do(watch.next(timeout=60))
            if isinstance(notice, Events | Diff):
                diffs += [notice] if isinstance(notice, Diff) else []
                values |= {event.key: event.value for event in notice.events}
        assert values == {b"k/a": big.encode(), b"k/b": b"", b"k/c": b"2"}
        assert all(diff.cause == "compacted" for diff in diffs)


def test_a_slow_reader_costs_no_memory(face, client, other):
    """What waits for it is bounded, and nothing is lost."""
    value = b"x" * 10_000
    with face.entered(client.watch(prefix="k/", buffer_bytes=100_000)) as watch:
        for number in range(200):
            other.put(f"k/{number:03}", value)
        until(lambda: watch.lag().buffered_bytes > 0, "something that waits")
        assert watch.lag().buffered_bytes < 300_000
        keys = [event.key for event in face.take(watch.events(), 200)]
        assert keys == [f"k/{number:03}".encode() for number in range(200)]
