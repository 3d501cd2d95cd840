"""Keys and values, transactions, and the errors of both."""

import copy
import datetime
import pickle

import pytest

import keystead
from keystead import Delete, Get, Key, Outcome, Put, Txn


def test_a_key_is_read_as_it_was_written(face, client):
    assert face.do(client.get("greeting")) is None
    written = face.do(client.put("greeting", "hello"))
    kv = face.do(client.get(b"greeting"))
    assert (kv.key, kv.value, kv.version, kv.lease) == (b"greeting", b"hello", 1, 0)
    assert kv.mod_revision == kv.create_revision == written.revision == written.header.revision
    assert kv == face.do(client.get("greeting")) and kv != face.do(client.get("nothing"))
    assert "key=b'greeting'" in repr(kv)
    before = face.do(client.put("greeting", b"\x00\xff", prev_kv=True)).prev_kv
    assert before == kv
    assert face.do(client.get("greeting")).value == b"\x00\xff"


def test_a_range_has_every_option(face, client):
    for number, value in enumerate("cab"):
        face.do(client.put(f"k/{number}", value))
    found = face.do(client.range(prefix="k/"))
    assert [kv.value for kv in found] == [b"c", b"a", b"b"] and len(found) == found.count == 3
    assert found[0] == found.kvs[0] and not found.more
    by_value = face.do(client.range(prefix="k/", sort_by="value", descending=True, limit=2))
    assert [kv.value for kv in by_value] == [b"c", b"b"] and by_value.more and by_value.count == 3
    assert face.do(client.range(prefix="k/", count_only=True)).count == 3
    assert face.do(client.range("k/1", end="k/2", keys_only=True))[0].value == b""
    assert len(face.do(client.range(from_key="k/1"))) == 2
    last = found[2].mod_revision
    assert len(face.do(client.range(prefix="k/", min_mod_revision=last))) == 1
    assert len(face.do(client.range(prefix="k/", max_mod_revision=last - 1))) == 2
    assert len(face.do(client.range(prefix="k/", min_create_revision=last))) == 1
    assert len(face.do(client.range(prefix="k/", max_create_revision=last - 1))) == 2
    assert len(face.do(client.range(prefix="k/", revision=last - 1, serializable=True))) == 2


def test_a_scan_reads_all_pages_at_one_revision(face, client):
    for number in range(25):
        face.do(client.put(f"k/{number:02}", str(number)))
    scan = client.scan(prefix="k/", page=10)
    first = face.take(scan, 3)
    face.do(client.put("k/99", "later"))
    rest = face.all(scan)
    assert [int(kv.value) for kv in first + rest] == list(range(25))
    pages = face.all(client.scan(prefix="k/", page=10, keys_only=True).pages())
    assert sum(len(page) for page in pages) == 26 and len(pages) > 1


def test_a_delete_tells_what_is_gone(face, client):
    for key in ("a", "b", "c"):
        face.do(client.put(key, key))
    gone = face.do(client.delete("a", prev_kv=True))
    assert gone.deleted == 1 and gone.prev_kvs[0].value == b"a"
    assert face.do(client.delete("a")).deleted == 0
    assert face.do(client.delete(prefix="")).deleted == 2


def test_a_write_under_a_condition_happens_only_when_it_holds(face, client):
    first = face.do(client.put("k", "1", if_missing=True))
    with pytest.raises(keystead.CompareFailed) as failed:
        face.do(client.put("k", "2", if_missing=True))
    assert failed.value.current.value == b"1"
    assert failed.value.outcome is Outcome.NOT_APPLIED
    second = face.do(client.put("k", "2", if_mod_revision=first.revision, prev_kv=True))
    assert second.prev_kv.value == b"1" and second.revision > first.revision
    with pytest.raises(keystead.CompareFailed):
        face.do(client.put("k", "3", if_mod_revision=first.revision))
    face.do(client.put("k", "3", if_value="2"))
    face.do(client.put("k", "4", if_present=True))
    with pytest.raises(keystead.CompareFailed):
        face.do(client.delete("k", if_value="3"))
    assert face.do(client.delete("k", if_value="4")).deleted == 1
    with pytest.raises(keystead.CompareFailed) as failed:
        face.do(client.put("k", "5", if_present=True))
    assert failed.value.current is None


def test_a_transaction_runs_one_of_its_branches(face, client):
    done = face.do(
        client.txn(
            when=[Key("a").missing(), Key("b").version == 0],
            then=[Put("a", "1"), Put("b", "2")],
            otherwise=[Get("a")],
        )
    )
    assert done.succeeded and done.header.revision > 0 and len(done.results) == 2
    with pytest.raises(TypeError):
        bool(done)
    done = face.do(
        client.txn(
            when=[Key("a").value == "other"],
            then=[Delete("a")],
            otherwise=[Get(prefix="", sort_by="value", descending=True), Txn(then=[Put("c", "3")])],
        )
    )
    assert not done.succeeded
    read, nested = done.results
    assert [kv.value for kv in read] == [b"2", b"1"] and nested.succeeded
    compares = [
        Key("a").exists(),
        Key("a").create_revision > 0,
        Key("a").mod_revision < 1 << 60,
        Key("a").value != "2",
        Key("a").lease == 0,
        Key(prefix="").version == 1,
    ]
    assert face.do(client.txn(when=compares, then=[Delete(prefix="", prev_kv=True)])).results[0].deleted == 3
    with pytest.raises(TypeError):
        bool(compares[0])


def test_a_transaction_runs_exactly_once(face, client):
    done = face.do(client.txn(when=[Key("k").missing()], then=[Put("k", "1")], once=True))
    assert done.succeeded
    assert face.do(client.get("k")).version == 1


def test_an_update_decides_again_when_somebody_was_faster(face, client, other):
    face.do(client.put("visits", "1"))
    seen = []

    def decide(now):
        seen.append(now.value)
        if len(seen) == 1:
            other.put("visits", "10")
        return str(int(now.value) + 1)

    header = face.do(client.update("visits", decide))
    assert seen == [b"1", b"10"]
    kv = face.do(client.get("visits"))
    assert kv.value == b"11" and kv.mod_revision == header.revision
    face.do(client.update("visits", lambda now: None))
    assert face.do(client.get("visits")) is None
    with pytest.raises(ZeroDivisionError):
        face.do(client.update("visits", lambda now: 1 / 0))


def test_a_function_runs_as_if_nobody_else_were_there(face, client, other):
    for key, value in [("left", "1"), ("old", "3"), ("right", "2")]:
        other.put(key, value)
    runs, kept = [], []

    def swap(stm):
        kept.append(stm)
        left, right = (yield stm.get("left")), (yield stm.get("right"))
        runs.append((left, right))
        if len(runs) == 1:
            other.put("right", "20")
        stm.put("left", right)
        stm.put("right", left)
        stm.delete("old")
        assert (yield stm.get("right")) == left and (yield stm.get("old")) is None
        kept.append((yield stm.range(prefix="")))

    face.do(client.stm(face.function(swap)))
    assert runs == [(b"1", b"2"), (b"1", b"20")]
    assert [kv.value for kv in other.range(prefix="")] == [b"20", b"1"]
    seen = kept.pop()
    assert seen == [(b"left", b"20"), (b"right", b"1")]
    # What was given to the function is of no use after it.
    for late in [lambda: kept[-1].put("left", "late"), lambda: face.do(kept[-1].get("left"))]:
        with pytest.raises(keystead.InvalidArgument):
            late()

    def fail(stm):
        stm.put("left", "never")
        yield stm.get("left")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        face.do(client.stm(face.function(fail)))
    assert other.get("left").value == b"20"


def test_what_a_function_has_read_is_compared_as_its_isolation_says(face, client, other):
    def read_and_write(stm):
        runs.append((yield stm.get("read")))
        if len(runs) == 1:
            other.put("read", isolation)
        stm.put("written", "here")

    for isolation, count in [
        ("serializable_snapshot", 2),
        ("serializable", 2),
        ("repeatable_reads", 2),
        ("read_committed", 1),
    ]:
        runs = []
        face.do(client.stm(face.function(read_and_write), isolation=isolation))
        assert len(runs) == count and runs[-1] == (isolation.encode() if count > 1 else b"repeatable_reads"), isolation
    with pytest.raises(ValueError):
        face.do(client.stm(face.function(read_and_write), isolation="none"))


def test_history_before_a_compaction_is_gone(face, client):
    first = face.do(client.put("k", "1")).revision
    second = face.do(client.put("k", "2")).revision
    face.do(client.compact(second, physical=True))
    with pytest.raises(keystead.Compacted) as failed:
        face.do(client.range("k", revision=first))
    assert failed.value.code == 11 and not failed.value.retryable
    with pytest.raises(keystead.FutureRevision):
        face.do(client.range("k", revision=second + 1000))


def test_a_namespace_sees_nothing_else(face, client):
    inner = client.namespace("inner/")
    face.do(inner.put("k", "v"))
    assert face.do(client.get("inner/k")).value == b"v"
    assert [kv.key for kv in face.do(inner.range(prefix=""))] == [b"k"]


def test_wrong_types_and_ranges_are_refused_before_anything_is_sent(face):
    # Nobody listens there: whatever was sent would fail otherwise.
    client = face.connect("http://127.0.0.1:1", **({"lazy": True} if face.name == "sync" else {}))
    types = [
        lambda: client.get(1),
        lambda: client.get(None),
        lambda: client.put("k", 1),
        lambda: client.put("k"),
        lambda: client.put("k", "v", ignore_value=True),
        lambda: client.put("k", "v", lease="7"),
        lambda: client.put("k", "v", if_missing=True, if_present=True),
        lambda: client.range(),
        lambda: client.range("k", prefix="k"),
        lambda: client.range("k", limit="1"),
        lambda: client.range("k", limit=True),
        lambda: client.delete(prefix="k", if_value="v"),
        lambda: client.txn(then=["k"]),
        lambda: client.txn(when=[True]),
        lambda: client.watch("k", start_revision=1.5),
        lambda: client.watch("k", start_revision=1, state_first=True),
        lambda: client.session(None),
        lambda: client.lock(7),
        lambda: client.lock("k", timeout=[]),
        lambda: client.lock("k", session=7),
        lambda: client.election("k", session="7"),
        lambda: client.maintenance.disarm(7),
        lambda: client.cluster.add_member("http://127.0.0.1:1"),
        lambda: client.cluster.update_member(1, b"http://127.0.0.1:1"),
        lambda: client.with_options(deadline=object()),
    ]
    values = [
        lambda: client.get(""),
        lambda: client.range("b", end="a"),
        lambda: client.range("k", limit=-1),
        lambda: client.range("k", revision=1 << 64),
        lambda: client.range("k", sort_by="color"),
        lambda: client.put("k", "v", lease=-1),
        lambda: client.put("k", "v", if_mod_revision=-1),
        lambda: Key("k").version == -1,
        lambda: client.watch("k", on_gap="panic"),
        lambda: client.watch("k", on_gap="diff"),
        lambda: client.session(0.5),
        lambda: client.session(float("nan")),
        lambda: client.session("10 parsecs"),
        lambda: client.session("-1s"),
        lambda: client.lock(""),
        lambda: client.lock("k", timeout=-1),
        lambda: client.semaphore("k", 0),
        lambda: client.with_options(deadline=0),
        lambda: client.cluster.remove_member(-1),
    ]
    for wrong, call in [(TypeError, each) for each in types] + [(ValueError, each) for each in values]:
        with pytest.raises(wrong):
            call()
    face.do(client.close())


def test_lengths_of_time_are_written_as_people_do():
    from keystead._native import seconds

    for length, expected in [
        (1, 1.0),
        (0.25, 0.25),
        ("10s", 10.0),
        ("1.5s", 1.5),
        ("500ms", 0.5),
        ("1h30m", 5400.0),
        (" 2m ", 120.0),
        ("1d", 86400.0),
        (datetime.timedelta(minutes=1, milliseconds=5), 60.005),
    ]:
        assert seconds(length) == pytest.approx(expected)


def test_answers_are_copied_and_pickled(face, client):
    put = face.do(client.put("k", "v", prev_kv=True))
    with face.entered(client.watch("k", prev_kv=True, start_revision=put.revision)) as watch:
        event = face.do(watch.next()).events[0]
    kv = face.do(client.get("k"))
    txn = face.do(client.txn(then=[keystead.Get("k"), keystead.Put("k", "w", prev_kv=True)]))
    with pytest.raises(keystead.CompareFailed) as failed:
        face.do(client.put("k", "v", if_missing=True))
    answers = [put, put.header, kv, event, txn, face.do(client.range("k")), face.do(client.delete("k", prev_kv=True))]
    for answer in [*answers, failed.value.current]:
        for again in (copy.copy(answer), copy.deepcopy(answer), pickle.loads(pickle.dumps(answer))):
            assert again == answer and type(again) is type(answer)
    again = pickle.loads(pickle.dumps(failed.value))
    assert (again.current, again.outcome, str(again)) == (failed.value.current, failed.value.outcome, str(failed.value))
    assert keystead.KeyValue("k", b"v", kv.create_revision, kv.mod_revision, kv.version, kv.lease) == kv
    with pytest.raises(ValueError):
        keystead.Event("get", kv, None)


def test_errors_form_a_tree():
    assert issubclass(keystead.LockTimeout, keystead.DeadlineExceeded)
    for error, native in [
        (keystead.DeadlineExceeded, TimeoutError),
        (keystead.Unavailable, ConnectionError),
        (keystead.PermissionDenied, PermissionError),
        (keystead.InvalidArgument, ValueError),
        (keystead.LeaseNotFound, LookupError),
        (keystead.FileFailed, OSError),
    ]:
        assert issubclass(error, native) and issubclass(error, keystead.KeysteadError)
