"""Requests of an event loop that are alone: its thread sends them and reads their answers, and holds up nobody else."""

import asyncio
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
import uvloop
from servers import Member
from test_processes import run

import keystead

# Enough requests for the next one to count as alone, whatever was before.
WARM = 40


@pytest.fixture(params=[asyncio, uvloop], ids=["asyncio", "uvloop"])
def runner(request):
    with asyncio.Runner(loop_factory=request.param.new_event_loop) as runner:
        yield runner


@pytest.fixture
def pausable():
    member = Member("keystead")
    yield member
    member.close()


async def warm(client):
    for _ in range(WARM):
        await client.get("nothing")


def wakes_of_the_io_thread():
    counted = 0
    for task in pathlib.Path("/proc/self/task").iterdir():
        if (task / "comm").read_text().strip() == "keystead-io":
            told = (task / "status").read_text().split()
            counted += int(told[told.index("voluntary_ctxt_switches:") + 1])
    return counted


def test_a_request_that_is_alone_wakes_nobody(runner, keystead_member, prefix):
    async def fly():
        async with keystead.AsyncClient(keystead_member.url, namespace=prefix) as client:
            await client.put("k", "v")
            await warm(client)
            before = wakes_of_the_io_thread()
            for _ in range(1000):
                assert (await client.get("k")).value == b"v"
            # Each would wake it twice; now it looks after the connection a few times a second.
            assert wakes_of_the_io_thread() - before < 600

    runner.run(fly())


def test_a_busy_loop_holds_up_nobody_but_itself(runner, keystead_member, prefix):
    busy = threading.Event()
    finished = {}

    def wait_for(other):
        began = time.monotonic()
        other.join(60)
        time.sleep(max(0, began + 3 - time.monotonic()))

    def others(client):
        assert busy.wait(60)
        with client.session(4) as session, client.watch("seen") as watch:
            for number in range(50):
                client.put("seen", str(number))
            seen = 0
            while seen < 50:
                seen += len(watch.next().events)
            finished["watch"] = time.monotonic()
            # Longer than the lease lives without its keepalives.
            time.sleep(4.5)
            assert session.state.loss is None
            client.put("under", "lease", lease=session.lease)
        finished["session"] = time.monotonic()

    async def fly():
        async with keystead.AsyncClient(keystead_member.url, namespace=prefix) as client:
            other = threading.Thread(target=others, args=[client.sync])
            other.start()
            await warm(client)
            put = asyncio.ensure_future(client.put("mine", "v"))
            await asyncio.sleep(0)
            busy.set()
            wait_for(other)
            ended = time.monotonic()
            assert not other.is_alive()
            assert finished["watch"] < finished["session"] <= ended
            await asyncio.wait_for(put, 60)
            assert (await client.get("mine")).value == b"v"

    runner.run(fly())


def test_requests_that_come_together_are_all_answered(runner, keystead_member, prefix):
    async def fly():
        async with keystead.AsyncClient(keystead_member.url, namespace=prefix) as client:
            for _ in range(5):
                await warm(client)
                await asyncio.gather(*(client.put(f"k/{number}", "v") for number in range(2)))
                found = await asyncio.gather(client.get("k/0"), client.get("k/1"), client.get("k/2"))
                assert [kv is not None for kv in found] == [True, True, False]
            # A request beside a watch, which is told of it.
            async with client.watch("w") as watch:
                await warm(client)
                await client.put("w", "v")
                assert (await watch.next()).events[0].value == b"v"

    runner.run(fly())


def test_a_request_that_is_cancelled_or_late_is_over(runner, pausable, prefix):
    async def fly():
        async with keystead.AsyncClient(pausable.url, namespace=prefix) as client:
            await warm(client)
            pausable.pause()
            get = asyncio.ensure_future(client.get("k"))
            await asyncio.sleep(0.01)
            get.cancel()
            with pytest.raises(asyncio.CancelledError):
                await get
            pausable.resume()
            await warm(client)
            pausable.pause()
            # The loop does nothing else, so it must be woken.
            with pytest.raises(keystead.DeadlineExceeded):
                await client.with_options(deadline=0.1).get("k")
            pausable.resume()
            await warm(client)

    runner.run(fly())


def test_a_loop_that_is_closed_with_a_request_under_way_disturbs_no_other(pausable, prefix):
    client = keystead.AsyncClient(pausable.url, namespace=prefix)
    for new_event_loop in (asyncio.new_event_loop, uvloop.new_event_loop):
        loop = new_event_loop()
        loop.set_exception_handler(lambda *_: None)
        loop.run_until_complete(warm(client))
        pausable.pause()
        put = loop.create_task(client.put("k", "v"))
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
        pausable.resume()
        client.sync.put("k", "w")
        asyncio.run(warm(client))
        del put, loop
    asyncio.run(client.close())


def test_a_process_ends_with_a_request_under_way(pausable, prefix):
    told = run(
        """
        import asyncio, sys, keystead
        from servers import stop
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)
        client = keystead.AsyncClient(sys.argv[1], namespace=sys.argv[2])
        async def warm():
            for _ in range(40):
                await client.get("nothing")
        loop.run_until_complete(warm())
        stop(int(sys.argv[3]))
        put = loop.create_task(client.put("k", "v"))
        loop.run_until_complete(asyncio.sleep(0.01))
        assert not put.done()
        print("ends")
        """,
        pausable.url,
        prefix,
        str(pausable.server.pid),
    )
    assert told == ["ends"]
    pausable.resume()


def test_a_child_has_nothing_of_its_parents_request(pausable, prefix):
    told = run(
        """
        import asyncio, os, signal, sys, keystead
        from servers import stop
        client = keystead.AsyncClient(sys.argv[1], namespace=sys.argv[2])
        server = int(sys.argv[3])
        async def work():
            for _ in range(40):
                await client.get("nothing")
            stop(server)
            put = asyncio.ensure_future(client.put("parent", "v"))
            await asyncio.sleep(0.01)
            assert not put.done()
            child = os.fork()
            if child == 0:
                try:
                    os.kill(server, signal.SIGCONT)
                    asyncio.events._set_running_loop(None)
                    asyncio.set_event_loop(None)
                    async def work():
                        for _ in range(40):
                            await client.get("nothing")
                        await client.put("child", "v")
                    loop = asyncio.new_event_loop()
                    loop.run_until_complete(work())
                    client.sync.put("child", "w")
                    os._exit(0)
                except BaseException:
                    import traceback
                    traceback.print_exc()
                    os._exit(1)
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert status == 0, status
            await put
            assert (await client.get("child")).value == b"w"
            assert (await client.get("parent")).value == b"v"
            for _ in range(40):
                await client.get("nothing")
        asyncio.run(work())
        print("both")
        """,
        pausable.url,
        prefix,
        str(pausable.server.pid),
    )
    assert told == ["both"]


def test_ctrl_c_ends_a_request_that_waits(pausable, prefix):
    program = textwrap.dedent("""
        import asyncio, sys, time, keystead
        async def main():
            client = keystead.AsyncClient(sys.argv[1], namespace=sys.argv[2])
            for _ in range(40):
                await client.get("nothing")
            print("ready", flush=True)
            sys.stdin.readline()
            await client.get("nothing")
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        except keystead.KeysteadError as error:
            print(repr(error), "at", time.monotonic(), flush=True)
        """)
    command = [sys.executable, "-c", program, pausable.url, prefix]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        # From here, where it is known when nobody answers any more.
        pausable.pause()
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(0.1)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n", f"the signal was sent at {began}"
        # Not the deadline of the request.
        assert time.monotonic() - began < 4
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.stdin.close()
        process.stdout.close()
