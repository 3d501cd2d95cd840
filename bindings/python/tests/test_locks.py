"""Sessions, leases, locks and elections: what is held, and what becomes of it."""

import asyncio
import threading

import pytest
from servers import until

import keystead
from keystead import Get, Key, Put


def test_a_lease_ends_by_itself(face, client):
    lease = face.do(client.lease("60s"))
    face.do(client.put("k", "v", lease=lease))
    assert face.do(client.get("k")).lease == lease.lease and lease.ttl == 60
    assert lease.lease in face.do(client.leases())
    left = face.do(lease.time_to_live(keys=True))
    assert 0 < left.remaining <= 60 == left.granted and [key.rpartition(b"/")[2] for key in left.keys] == [b"k"]
    assert face.do(lease.keep_alive()) == 60
    face.do(lease.revoke())
    assert face.do(client.get("k")) is None
    assert face.do(lease.time_to_live()).remaining is None
    with pytest.raises(keystead.LeaseNotFound):
        face.do(client.put("k", "v", lease=lease))


def test_a_session_keeps_what_is_attached_to_it(face, client):
    with face.entered(client.session("6s")) as session:
        face.do(session.put("worker", "here"))
        assert session.ttl == 6 and session.remaining > 0 and session.state == ("active", None)
        remaining = [session.remaining]

        def renewed():
            remaining.append(session.remaining)
            return remaining[-1] > remaining[-2]

        until(renewed, "renewal")
        assert face.do(client.get("worker")).lease == session.lease
        assert session.state.loss is None
        assert f"lease {session.lease:x}, " in repr(session)
        with pytest.raises(keystead.DeadlineExceeded):
            face.do(session.lost(timeout="10ms"))
    assert session.state == ("lost", "revoked") and repr(session).endswith(", closed>")
    assert face.do(session.lost()) == "revoked"
    assert face.do(client.get("worker")) is None
    with pytest.raises(keystead.LeaseNotFound):
        face.do(session.put("worker", "here"))


def test_a_session_that_somebody_revokes_is_told(face, client, other):
    with pytest.raises(keystead.SessionLost), face.entered(client.session(3)) as session:
        other.revoke(session.lease)
        assert face.do(session.lost(timeout=60)) in ("revoked", "expired", "forgotten")


def test_a_callback_hears_of_a_loss(keystead_member):
    heard = threading.Event()
    with keystead.Client(keystead_member.url) as client:
        session = client.session(10)
        with pytest.raises(TypeError):
            session.on_lost("loss")
        session.on_lost(lambda loss: heard.set() if loss == "revoked" else None)
        assert not heard.wait(0.05)
        session.close()
        assert heard.wait(60)


def test_a_lock_has_one_holder(face, client, other):
    with face.entered(client.lock("x")) as guard:
        assert guard.held and guard.state == ("active", None) and guard.lease > 0
        assert guard.key.startswith(b"x/")
        assert repr(guard.key) in repr(guard) and f"fencing token {guard.fencing_token}, " in repr(guard)
        guard.check()
        assert other.try_lock("x") is None
        with pytest.raises(keystead.LockTimeout) as failed:
            other.lock("x").lock(timeout="50ms")
        assert isinstance(failed.value, TimeoutError)
        with pytest.raises(keystead.LockTimeout), other.lock("x", timeout="50ms"):
            raise AssertionError("entered without the lock")
        with pytest.raises(keystead.DeadlineExceeded):
            face.do(guard.lost(timeout="10ms"))
        first = guard.fencing_token
    assert not guard.held
    with other.lock("x") as theirs:
        assert theirs.fencing_token > first
        assert face.do(client.try_lock("x")) is None
        assert face.do(client.lock("x").try_lock()) is None
    mine = face.do(client.try_lock("x", ttl="5s"))
    face.do(mine.unlock())
    face.do(mine.unlock())
    assert repr(mine).endswith(", released>")
    with pytest.raises(keystead.LockLost):
        mine.check()


def test_a_wait_that_is_given_up_leaves_nothing_behind(face, client, other):
    with other.lock("x"):
        with pytest.raises(keystead.LockTimeout, match=r'^"x" was not free within 50ms$'):
            face.do(client.lock("x", timeout=0.05).lock())
        until(lambda: len(other.range(prefix="x/")) == 1, "place given up")
        # Nothing waits for it then, so nothing is in the queue.
        with pytest.raises(keystead.LockTimeout):
            face.do(client.lock("x", timeout=0).lock())
    with face.entered(client.lock("x", timeout=0)) as guard:
        assert guard.held
    assert len(other.range(prefix="x/")) == 0


def test_a_guarded_write_needs_the_lock(face, client, other):
    with pytest.raises(keystead.LockLost), face.entered(client.lock("x")) as guard:
        face.do(guard.put("data", "mine"))
        done = face.do(guard.txn(when=[Key("data").value == "mine"], then=[Put("data", "still"), Get("data")]))
        assert done.succeeded
        other.delete(guard.key)
        with pytest.raises(keystead.LockLost) as failed:
            face.do(guard.put("data", "stolen"))
        assert failed.value.outcome is keystead.Outcome.NOT_APPLIED
        assert not guard.held and face.do(guard.lost()) == "revoked"
    assert other.get("data").value == b"still"


def test_a_stale_unlock_harms_nobody(face, client, other):
    guard = face.do(client.lock("x").lock())
    other.delete(guard.key)
    theirs = other.lock("x").lock()
    with pytest.raises(keystead.LockLost):
        face.do(guard.unlock())
    theirs.put("data", "theirs")
    theirs.unlock()


def test_what_the_body_raises_goes_before_what_becomes_of_the_lock(face, client, other):
    with pytest.raises(ZeroDivisionError), face.entered(client.lock("x")) as guard:
        other.delete(guard.key)
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), face.entered(client.lock("x")):
        raise ZeroDivisionError
    assert other.try_lock("x") is not None


async def test_a_body_is_cancelled_when_its_lock_is_lost(member, prefix, other):
    async with keystead.AsyncClient(member.url, namespace=prefix) as client:
        with pytest.raises(keystead.LockLost):
            async with client.lock("x", ttl=3) as guard:
                other.revoke(guard.lease)
                await asyncio.sleep(60)
        assert asyncio.current_task().cancelling() == 0
        with pytest.raises(keystead.SessionLost):
            async with client.session(3) as session:
                other.revoke(session.lease)
                await asyncio.sleep(60)
        # Given up by the body itself it is no loss.
        async with client.lock("y") as guard:
            await guard.unlock()
            await asyncio.sleep(0.05)

        # Who is cancelled by somebody else is not told that the lock was lost.
        async def hold(entered):
            async with client.lock("z"):
                entered.set()
                await asyncio.sleep(60)

        entered = asyncio.Event()
        holder = asyncio.create_task(hold(entered))
        await entered.wait()
        holder.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holder
        assert await client.try_lock("z") is not None


async def test_a_cancelled_wait_leaves_nothing_behind(member, prefix, other):
    async with keystead.AsyncClient(member.url, namespace=prefix) as client:
        with other.lock("x"):
            waiting = asyncio.ensure_future(client.lock("x").lock())
            while len(await client.range(prefix="x/")) < 2:
                await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            while len(await client.range(prefix="x/")) > 1:
                await asyncio.sleep(0.01)


def test_one_lock_serves_many_threads(member, prefix):
    with keystead.Client(member.url, namespace=prefix) as client:
        lock, inside, most = client.lock("x"), [], []

        def work():
            for _ in range(5):
                with lock:
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == [1] * 20


async def test_one_lock_serves_many_tasks(member, prefix):
    async with keystead.AsyncClient(member.url, namespace=prefix) as client:
        lock, inside, most = client.lock("x"), [], []

        async def work():
            for _ in range(5):
                async with lock:
                    inside.append(1)
                    most.append(len(inside))
                    await asyncio.sleep(0)
                    inside.pop()

        await asyncio.gather(*(work() for _ in range(4)))
        assert most == [1] * 20


def test_a_holder_that_is_frozen_is_told_before_it_writes(member, prefix, other):
    """SIGSTOP beyond the TTL: the guarded write is refused, and the guard says so before anything is sent."""
    import signal
    import subprocess
    import sys

    program = """
import sys, time, keystead
client = keystead.Client(sys.argv[1], namespace=sys.argv[2])
guard = client.lock("x", ttl=1).lock()
print("held", guard.fencing_token, flush=True)
sys.stdin.readline()
print(guard.held, guard.state.loss, flush=True)
try:
    guard.put("data", "stale")
except keystead.LockLost:
    print("refused", flush=True)
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", program, member.url, prefix],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        token = int(holder.stdout.readline().split()[1])
        holder.send_signal(signal.SIGSTOP)
        with other.lock("x", timeout=60) as guard:
            assert guard.fencing_token > token
            guard.put("data", "fresh")
            holder.send_signal(signal.SIGCONT)
            out, _ = holder.communicate("\n", timeout=60)
        held, loss = out.splitlines()[0].split()
        assert held == "False" and loss in ("paused", "expired", "revoked", "forgotten")
        assert "refused" in out
        assert other.get("data").value == b"fresh"
    finally:
        holder.kill()


def test_an_election_has_one_leader(face, client, other):
    election = client.election("e")
    assert face.do(election.leader()) is None
    observer = election.observe()
    assert face.do(observer.next()).kind == "no_leader"
    with face.entered(election.campaign("me")) as leadership:
        assert face.do(observer.next()).value == b"me"
        assert leadership.held and leadership.term == leadership.fencing_token
        face.do(leadership.proclaim("me, again"))
        told = face.take(observer, 1)[0]
        assert told.kind == "leader" and told.value == b"me, again" and told.kv.create_revision == leadership.term
        assert face.do(election.leader()).value == b"me, again"
        face.do(leadership.put("plan", "mine"))
        with pytest.raises(keystead.LockTimeout):
            other.election("e").campaign("they", timeout="50ms")
        with pytest.raises(keystead.DeadlineExceeded):
            face.do(observer.next(timeout="10ms"))
    theirs = other.election("e").campaign("they")
    assert theirs.term > leadership.term
    theirs.resign()
    with pytest.raises(keystead.LockLost):
        face.do(leadership.proclaim("me?"))
    mine = face.do(election.campaign("me"))
    face.do(mine.resign())


def test_a_leadership_is_guarded_like_a_lock(face, client, other):
    with pytest.raises(keystead.LockLost), face.entered(client.election("e").campaign("me")) as leadership:
        leadership.check()
        assert leadership.state.loss is None and leadership.lease > 0 and leadership.key.startswith(b"e/")
        assert face.do(leadership.txn(then=[Put("data", "mine")])).succeeded
        other.delete(leadership.key)
        with pytest.raises(keystead.LockLost):
            face.do(leadership.txn(then=[Put("data", "stolen")]))
        assert face.do(leadership.lost()) == "revoked"
    assert other.get("data").value == b"mine"


def test_a_candidate_whose_lease_ends_never_leads(face, client, other):
    with other.lock("x"):
        session = face.do(client.session(3))
        lock = client.lock("x", session=session, timeout=60)
        if face.name == "sync":
            failures = []

            def wait():
                try:
                    lock.lock()
                except keystead.KeysteadError as failed:
                    failures.append(failed)

            waiting = threading.Thread(target=wait)
            waiting.start()
            until(lambda: len(other.range(prefix="x/")) == 2, "second in the queue")
            other.revoke(session.lease)
            waiting.join(60)
            assert isinstance(failures[0], keystead.LeaseNotFound | keystead.LockLost)
        else:

            async def wait():
                waiting = asyncio.ensure_future(lock.lock())
                while len(await client.range(prefix="x/")) < 2:
                    await asyncio.sleep(0.01)
                other.revoke(session.lease)
                with pytest.raises((keystead.LeaseNotFound, keystead.LockLost)):
                    await waiting

            face.do(wait())


def test_readers_share_what_writers_have_alone(face, client, other):
    rwlock, theirs = client.rwlock("rw"), other.rwlock("rw")
    with face.entered(rwlock.read()) as reader:
        beside = theirs.try_read()
        assert beside is not None and reader.held
        beside.unlock()
        assert theirs.try_write() is None
        with pytest.raises(keystead.LockTimeout):
            theirs.write(timeout="50ms")
        with pytest.raises(keystead.LockTimeout):
            theirs.write(timeout=0)
        theirs.read(timeout=0).unlock()
    with face.entered(rwlock.write(timeout=60)), pytest.raises(keystead.LockTimeout):
        theirs.read(timeout="50ms")
    with face.entered(rwlock.write(timeout=0)):
        pass
    assert face.do(rwlock.try_write()) is not None


def test_a_semaphore_has_so_many_permits(face, client, other):
    semaphore, theirs = client.semaphore("s", 2), other.semaphore("s", 2)
    with face.entered(semaphore.acquire()), theirs.acquire(timeout=60):
        assert face.do(semaphore.try_acquire()) is None
        with pytest.raises(keystead.LockTimeout):
            face.do(semaphore.acquire(timeout="50ms"))
        with pytest.raises(keystead.LockTimeout):
            face.do(semaphore.acquire(timeout=0))
    permit = face.do(semaphore.acquire(timeout=0))
    face.do(permit.unlock())


def test_a_barrier_holds_everybody_up(face, client, other):
    barrier = client.barrier("b")
    face.do(barrier.wait())
    assert other.barrier("b").hold() and not face.do(barrier.hold())
    with pytest.raises(keystead.DeadlineExceeded):
        face.do(barrier.wait(timeout="50ms"))
    with pytest.raises(keystead.DeadlineExceeded):
        face.do(barrier.wait(timeout=0))
    assert face.do(barrier.release()) and not other.barrier("b").release()
    face.do(barrier.wait(timeout=60))
    face.do(barrier.wait(timeout=0))


def test_an_item_goes_to_one_taker(face, client, other):
    queue = client.queue("q")
    for item in ("1", b"2"):
        face.do(queue.enqueue(item))
    assert other.queue("q").dequeue() == b"1" and face.do(queue.dequeue(timeout=60)) == b"2"
    with pytest.raises(keystead.DeadlineExceeded):
        face.do(queue.dequeue(timeout="50ms"))
    with pytest.raises(keystead.DeadlineExceeded):
        face.do(queue.dequeue(timeout=0))
    face.do(queue.enqueue("3"))
    assert face.do(queue.dequeue(timeout=0)) == b"3"
