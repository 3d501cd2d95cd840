"""What is particular to event loops: many calls in flight, cancelled ones, other loops, and one descriptor for all."""

import asyncio
import pathlib
import threading

import pytest
import uvloop

import keystead


@pytest.fixture(params=[asyncio, uvloop], ids=["asyncio", "uvloop"])
def runner(request):
    with asyncio.Runner(loop_factory=request.param.new_event_loop) as runner:
        yield runner


def descriptors():
    return len(list(pathlib.Path("/proc/self/fd").iterdir()))


def test_many_calls_fly_at_once_by_one_descriptor(runner, keystead_member, prefix):
    async def fly():
        async with keystead.AsyncClient(keystead_member.url, namespace=prefix) as client:
            await asyncio.gather(*(client.put(f"k/{number}", str(number)) for number in range(100)))
            before = descriptors()
            found = await asyncio.gather(*(client.get(f"k/{number}") for number in range(1000)))
            assert [None if kv is None else int(kv.value) for kv in found] == [*range(100), *[None] * 900]
            # The other face, on threads, has its own way.
            assert await asyncio.to_thread(client.sync.get, "k/7") is not None
            # Those of earlier loops may go meanwhile.
            assert descriptors() <= before

    runner.run(fly())


def test_a_cancelled_call_disturbs_no_other(runner, keystead_member, prefix):
    async def fly():
        async with keystead.AsyncClient(keystead_member.url, namespace=prefix) as client:
            await client.put("k", "v")
            calls = [asyncio.ensure_future(client.get("k")) for _ in range(300)]
            await asyncio.sleep(0)
            for call in calls[::3]:
                call.cancel()
            done = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in done[::3])
            assert all(kv.value == b"v" for kv in done[1::3] + done[2::3])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await client.barrier("b").wait() if await client.barrier("b").hold() else None

    runner.run(fly())


def test_what_is_being_opened_can_be_a_task(runner, keystead_member, prefix):
    async def fly():
        async with keystead.AsyncClient(keystead_member.url, namespace=prefix) as client:
            async with asyncio.TaskGroup() as group:
                lock = group.create_task(client.lock("k").lock())
                cache = group.create_task(client.cache(prefix=""))
            assert lock.result().held and len(cache.result()) == 1
            waiting = asyncio.create_task(client.lock("k").lock())
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            opening = client.watch("k")
            (await opening).cancel()
            with pytest.raises(RuntimeError):
                await opening
            with pytest.warns(RuntimeWarning, match="never awaited"):
                client.watch("k")

    runner.run(fly())


def test_an_error_reaches_the_one_who_waits(runner, keystead_member, prefix):
    async def fly():
        async with keystead.AsyncClient(keystead_member.url, namespace=prefix) as client:
            with pytest.raises(keystead.LeaseNotFound):
                await client.put("k", "v", lease=1)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(client.get("k")) for _ in range(10)]
            assert [task.result() for task in tasks] == [None] * 10

    runner.run(fly())


def test_loops_of_many_threads_share_a_client(keystead_member, prefix):
    client = keystead.AsyncClient(keystead_member.url, namespace=prefix)
    counted = []

    def loop(number):
        async def count():
            for _ in range(20):
                await client.update("n", lambda now: str(int(now.value if now else 0) + 1))

        asyncio.run(count())
        counted.append(number)

    threads = [threading.Thread(target=loop, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(counted) == [0, 1, 2, 3]
    assert asyncio.run(client.get("n")).value == b"80"
    asyncio.run(client.close())


async def test_a_watch_wakes_its_task(member, prefix):
    async with (
        keystead.AsyncClient(member.url, namespace=prefix) as client,
        client.watch(prefix="k/") as watch,
    ):

        async def write():
            for number in range(100):
                await client.put(f"k/{number:02}", "v")

        writing = asyncio.create_task(write())
        keys = []
        async for event in watch.events():
            keys.append(event.key)
            if len(keys) == 100:
                break
        await writing
        assert keys == [f"k/{number:02}".encode() for number in range(100)]
