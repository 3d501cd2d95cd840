"""Forks, exits and signals: each in a process of its own."""

import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from servers import free_port

import keystead


def run(program, *arguments, limit=100):
    """Runs a program to its end, and gives what it printed. It may import what stands beside this file."""
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "faulthandler",
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            textwrap.dedent(program),
            *list(arguments),
        ],
        capture_output=True,
        text=True,
        timeout=limit,
        env=os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parent)},
    )
    assert done.returncode == 0, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    return done.stdout.split()


def test_a_child_has_a_client_of_its_own(keystead_member, prefix):
    """Locks, sessions and watches are the parent's; keys are everybody's."""
    told = run(
        """
        import os, sys, keystead
        client = keystead.Client(sys.argv[1], namespace=sys.argv[2])
        guard = client.lock("x").lock()
        session = client.session(10)
        watch = client.watch("k")
        child = os.fork()
        if child == 0:
            try:
                assert guard.state == ("lost", "forked"), guard.state
                assert session.state == ("lost", "forked") and session.remaining == 0
                for refused in (lambda: guard.put("k", "v"), guard.check, guard.unlock):
                    try:
                        refused()
                        os._exit(2)
                    except keystead.LockLost:
                        pass
                try:
                    watch.next()
                    os._exit(3)
                except keystead.Forked:
                    pass
                client.put("child", "was here")
                assert client.try_lock("x") is None
                with client.lock("y") as own:
                    own.put("k", "of the child")
                # Freed here, it must not be released.
                del guard, session, watch
                os._exit(0)
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert status == 0, status
        assert client.get("child").value == b"was here"
        guard.put("parent", "still here")
        assert watch.next().events[0].value == b"of the child"
        print("held" if guard.held and session.state.loss is None else "lost")
        """,
        keystead_member.url,
        prefix,
    )
    assert told == ["held"]


def test_a_child_that_leaves_a_block_is_told_that_the_lock_is_not_its_own(keystead_member, prefix):
    told = run(
        """
        import os, sys, keystead
        client = keystead.Client(sys.argv[1], namespace=sys.argv[2])
        try:
            with client.lock("x") as guard:
                child = os.fork()
                if child:
                    os.waitpid(child, 0)
                    guard.check()
                    print("held")
        except keystead.LockLost:
            print("lost", flush=True)
            os._exit(0)
        """,
        keystead_member.url,
        prefix,
    )
    assert told == ["lost", "held"]


def test_a_pool_of_forked_workers_counts_right(keystead_member, prefix):
    told = run(
        """
        import multiprocessing, sys, keystead
        client = keystead.Client(sys.argv[1], namespace=sys.argv[2])
        client.put("n", "0")

        def work(number):
            client.update("n", lambda now: str(int(now.value) + 1))
            with client.lock("x") as guard:
                guard.put("last", str(number))
            return number

        with multiprocessing.get_context("fork").Pool(4) as pool:
            assert sorted(pool.map(work, range(40))) == list(range(40))
        print(client.get("n").value.decode())
        """,
        keystead_member.url,
        prefix,
    )
    assert told == ["40"]


def test_forks_beside_busy_threads_harm_nobody(keystead_member, prefix):
    """Whatever the other threads and the I/O thread are in the middle of when the process forks."""
    told = run(
        """
        import os, sys, threading, keystead
        client = keystead.Client(sys.argv[1], namespace=sys.argv[2])
        client.put("k", "v")
        stop = threading.Event()

        def work():
            while not stop.is_set():
                assert client.get("k").value == b"v"
                with client.watch("k"):
                    pass

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(40):
            child = os.fork()
            if child == 0:
                client.put(f"child/{number}", "v")
                os._exit(0 if client.get("k").value == b"v" else 1)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        for thread in threads:
            thread.join()
        print(len(client.range(prefix="child/")))
        """,
        keystead_member.url,
        prefix,
    )
    assert told == ["40"]


def test_a_child_does_not_keep_its_parents_connections(keystead_member, prefix):
    """The server sees the parent's end although a child of it lives."""
    told = run(
        """
        import os, stat, sys, keystead
        client = keystead.Client(sys.argv[1], namespace=sys.argv[2])
        client.get("k")

        def sockets():
            found = 0
            for name in os.listdir("/proc/self/fd"):
                try:
                    found += stat.S_ISSOCK(os.fstat(int(name)).st_mode)
                except OSError:
                    pass
            return found

        before = sockets()
        child = os.fork()
        if child == 0:
            os._exit(sockets())
        print(before > 0, before - os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) > 0, client.get("k"))
        """,
        keystead_member.url,
        prefix,
    )
    assert told == ["True", "True", "None"]


def test_a_grandchild_keeps_what_its_parent_opened(keystead_member, prefix):
    """Also where the number of a descriptor was once that of a connection."""
    told = run(
        """
        import os, sys, keystead
        client = keystead.Client(sys.argv[1], namespace=sys.argv[2])
        client.get("k")

        def in_a_child(work):
            child = os.fork()
            if child == 0:
                try:
                    work()
                    os._exit(7)
                finally:
                    os._exit(1)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        def child():
            files = [open(os.devnull, "w") for _ in range(100)]

            def grandchild():
                for file in files:
                    file.write("still open")
                    file.flush()

            assert in_a_child(grandchild) == 7

        print(in_a_child(child))
        """,
        keystead_member.url,
        prefix,
    )
    assert told == ["7"]


def test_a_spawned_worker_works(keystead_member, prefix, tmp_path):
    (tmp_path / "spawned.py").write_text(
        textwrap.dedent("""
            import multiprocessing, sys, keystead

            def work(number):
                with keystead.Client(sys.argv[1], namespace=sys.argv[2]) as client:
                    return client.update("n", lambda now: str(int(now.value if now else 0) + number)).revision

            if __name__ == "__main__":
                with multiprocessing.get_context("spawn").Pool(2) as pool:
                    pool.map(work, [1, 2, 3])
                with keystead.Client(sys.argv[1], namespace=sys.argv[2]) as client:
                    print(client.get("n").value.decode())
            """)
    )
    done = subprocess.run(
        [sys.executable, tmp_path / "spawned.py", keystead_member.url, prefix],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stdout) == (0, "6\n"), done.stderr


def test_asyncio_works_in_a_child(keystead_member, prefix):
    told = run(
        """
        import asyncio, os, sys, keystead
        client = keystead.AsyncClient(sys.argv[1], namespace=sys.argv[2])

        async def put(key):
            await asyncio.gather(*(client.put(f"{key}/{n}", "v") for n in range(50)))
            return len(await client.range(prefix=key))

        assert asyncio.run(put("parent")) == 50
        child = os.fork()
        if child == 0:
            os._exit(0 if asyncio.run(put("child")) == 50 else 1)
        print(os.waitpid(child, 0)[1], asyncio.run(put("again")))
        """,
        keystead_member.url,
        prefix,
    )
    assert told == ["0", "50"]


def test_an_exit_with_calls_under_way_is_clean(keystead_member, prefix):
    """A hundred calls wait, on threads and on a loop, and locks are held: the process ends at once, and its locks with it."""
    nobody = f"http://127.0.0.1:{free_port()}"
    began = time.monotonic()
    run(
        """
        import asyncio, sys, threading, keystead
        client = keystead.Client(sys.argv[1], namespace=sys.argv[2])
        guard = client.lock("x", ttl="60s").lock()
        lost = keystead.Client(sys.argv[3], lazy=True, deadline="60s")

        def wait(call):
            try:
                call()
            except keystead.Closed:
                pass

        for call in [lambda: lost.get("k"), client.watch("k").next, client.lock("x").lock, client.session(10).lost] * 12:
            threading.Thread(target=wait, args=[call], daemon=True).start()

        async def leave():
            for _ in range(50):
                asyncio.ensure_future(client.aio.barrier("b").wait())
            client.barrier("b").hold()
            await asyncio.sleep(0.01)

        asyncio.run(leave())
        """,
        keystead_member.url,
        prefix,
        nobody,
    )
    assert time.monotonic() - began < 60
    import keystead

    with keystead.Client(keystead_member.url, namespace=prefix) as client, client.lock("x", timeout=30):
        pass


def test_what_is_held_at_the_exit_is_given_back(keystead_member, prefix):
    run(
        """
        import sys, keystead
        client = keystead.Client(sys.argv[1], namespace=sys.argv[2])
        guard = client.lock("x", ttl="10m").lock()
        registration = client.register("svc", "10.0.0.1:80", ttl="10m")
        """,
        keystead_member.url,
        prefix,
    )
    import keystead

    with keystead.Client(keystead_member.url, namespace=prefix) as client:
        assert client.lock("x").lock(timeout=60) is not None
        assert client.get("svc/10.0.0.1:80") is None


@pytest.mark.parametrize(
    "call",
    [
        "lost.get('k')",
        "client.watch('k').next()",
        "client.lock('x').lock()",
        "client.session(10).lost()",
        "client.election('x').campaign('v')",
        "client.queue('q').dequeue()",
        "next(client.watch('k').events())",
    ],
)
def test_an_interrupt_ends_a_call_that_blocks(keystead_member, prefix, call):
    """From the signal to the exception: within fifty milliseconds, here with room for a busy machine."""
    program = textwrap.dedent(f"""
        import signal, sys, time, keystead
        client = keystead.Client(sys.argv[1], namespace=sys.argv[2])
        holder = keystead.Client(sys.argv[1], namespace=sys.argv[2])
        held = holder.lock("x").lock()
        lost = keystead.Client(sys.argv[3], lazy=True, deadline="60s")
        sent = []

        def interrupt(*_):
            sent.append(time.monotonic())
            raise KeyboardInterrupt

        signal.signal(signal.SIGINT, interrupt)
        try:
            print("ready", flush=True)
            {call}
        except KeyboardInterrupt:
            print("interrupted", time.monotonic() - sent[0], flush=True)
        assert client.get("nothing") is None
        """)
    nobody = f"http://127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [sys.executable, "-c", program, keystead_member.url, prefix, nobody],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline().split()[0] == "interrupted"
        # Alone on a machine it is some 20 ms; what is proven here is that nothing waits for the call's own end.
        assert time.monotonic() - began < 5
        assert process.wait(60) == 0
    finally:
        process.kill()


def test_other_threads_run_while_a_call_blocks(keystead_member, prefix):
    told = run(
        """
        import sys, threading, time, keystead
        client = keystead.Client(sys.argv[1], namespace=sys.argv[2])
        held = client.lock("x").lock()
        waiting = threading.Thread(target=lambda: client.lock("x").lock(timeout=60))
        waiting.start()
        counted = sum(1 for _ in range(100000))
        held.unlock()
        waiting.join()
        print(counted)
        """,
        keystead_member.url,
        prefix,
    )
    assert told == ["100000"]


def test_the_io_thread_takes_no_signal(keystead_member):
    """A handler of the host runs on the host's threads alone."""
    told = run(
        """
        import os, sys, keystead
        client = keystead.Client(sys.argv[1])
        client.get("k")
        for task in os.listdir("/proc/self/task"):
            status = dict(line.split(":", 1) for line in open(f"/proc/self/task/{task}/status") if ":" in line)
            if status["Name"].strip().startswith("keystead-io"):
                print(hex(int(status["SigBlk"], 16) | 0x40100 | 0x180000000))
        """,
        keystead_member.url,
    )
    # Those that can't be blocked, SIGKILL and SIGSTOP, and the two of the C library.
    assert told == ["0xffffffffffffffff"]


def test_more_io_threads_may_be_asked_for(keystead_member):
    told = run(
        """
        import os, pathlib, sys, time, keystead
        def io_threads():
            return sum(name.read_text() == "keystead-io\\n" for name in pathlib.Path("/proc/self/task").glob("*/comm"))
        keystead.set_io_threads(2)
        with keystead.Client(sys.argv[1]) as client:
            client.get("nothing")
            # The one that has the calls, and two that it spreads the connections over. A thread has its name once it has run.
            deadline = time.monotonic() + 60
            while (count := io_threads()) < 3 and time.monotonic() < deadline:
                time.sleep(0.01)
            print(count)
            try:
                keystead.set_io_threads(3)
            except RuntimeError:
                print("late")
            child = os.fork()
            if child == 0:
                try:
                    keystead.set_io_threads(1)
                    client.get("nothing")
                    os._exit(7)
                finally:
                    os._exit(1)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        keystead_member.url,
    )
    assert told == ["3", "late", "7"]
    for wrong, error in [(0, ValueError), (1 << 70, ValueError), ("2", TypeError), (True, TypeError)]:
        with pytest.raises(error):
            keystead.set_io_threads(wrong)


LOGGING = """
    import io, logging, os, sys, time, keystead
    url, prefix = sys.argv[1:3]
    log, told = logging.getLogger("keystead"), []

    class Handler(logging.Handler):
        def emit(self, record):
            told.append(record)

    def until_told(text):
        deadline = time.monotonic() + 60
        while not any(text in record.getMessage() for record in told):
            assert time.monotonic() < deadline, [record.getMessage() for record in told]
            time.sleep(0.01)

    log.addHandler(Handler())
"""


def test_what_happens_within_is_logged(keystead_member, prefix):
    """At the level that the logger has at that moment, with the time at which it happened; in a child, too."""
    told = run(
        LOGGING
        + """
    def lose(client):
        registration = client.register("s", "10.0.0.1:1")
        client.revoke(client.get(registration.key).lease)
        until_told("a registration was lost")

    log.setLevel("DEBUG")
    began = time.time()
    client = keystead.Client(url, namespace=prefix)
    until_told("connected endpoint=")
    connected = told[0]
    assert connected.levelname == "DEBUG" and connected.name == "keystead" and began - 1 < connected.created < time.time()
    log.setLevel("WARNING")
    told.clear()
    lose(keystead.Client(url, namespace=prefix))
    assert {record.levelname for record in told} == {"WARNING"}, told
    told.clear()
    child = os.fork()
    if child == 0:
        try:
            lose(keystead.Client(url, namespace=prefix))
            os._exit(7)
        finally:
            os._exit(1)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """,
        keystead_member.url,
        prefix,
    )
    assert told == ["7"]


def test_a_handler_that_waits_or_fails_delays_no_call(keystead_member, prefix):
    told = run(
        LOGGING
        + """
    import threading
    go_on, sys.excepthook = threading.Event(), lambda *raised: told.append(logging.makeLogRecord({"msg": raised[0].__name__}))

    def stubborn(record):
        go_on.wait(60)
        raise ZeroDivisionError

    log.setLevel("DEBUG")
    log.addFilter(stubborn)
    client = keystead.Client(url, namespace=prefix)
    for _ in range(100):
        client.put("k", "v")
    go_on.set()
    until_told("ZeroDivisionError")
    log.removeFilter(stubborn)
    told.clear()
    keystead.Client(url).get("k")
    until_told("connected endpoint=")
    print("on")
    """,
        keystead_member.url,
        prefix,
    )
    assert told == ["on"]


def leftovers(rounds, member, prefix):
    """Opens and closes what can be, and gives threads, descriptors, leases and kilobytes that are left."""
    program = """
        import asyncio, gc, os, sys, keystead
        url, prefix, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
        client = keystead.Client(url, namespace=prefix)

        def kilobytes():
            gc.collect()
            lines = open("/proc/self/status").read().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

        def standing():
            # Loops are known to their handles, and those to them.
            gc.collect()
            return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")), len(client.leases())

        def threads(rounds):
            for _ in range(rounds):
                with client.watch(prefix="w"):
                    pass
                with client.session(60):
                    pass
                with client.lock("x"):
                    pass
                client.lock("x").lock().unlock()
                client.watch("k")
                client.lock("x").lock()

        async def tasks(rounds):
            aio = client.aio
            for _ in range(rounds):
                async with aio.watch(prefix="w"):
                    pass
                async with aio.session(60):
                    pass
                async with aio.lock("x"):
                    pass
                waiting = asyncio.ensure_future(aio.barrier("b").wait())
                await asyncio.sleep(0)
                waiting.cancel()

        def all(rounds):
            threads(rounds)
            for _ in range(3):
                asyncio.run(tasks(rounds // 3))

        all(rounds // 10)
        before, memory = standing(), kilobytes()
        all(rounds)
        with client.lock("x"):
            pass
        print(*(now - then for now, then in zip(standing(), before)), kilobytes() - memory)
        """
    return [int(number) for number in run(program, member.url, prefix, str(rounds), limit=3600)]


def test_nothing_is_left_behind(keystead_member, prefix):
    # A round opens and closes ten things.
    rounds = 10_000 if os.environ.get("KEYSTEAD_TEST_LONG") else 300
    threads, descriptors, leases, kilobytes = leftovers(rounds, keystead_member, prefix)
    # Leases of forgotten locks are given back in the background, those of sessions before.
    assert threads <= 0 and descriptors <= 0 and leases <= 1
    assert kilobytes < 4096
