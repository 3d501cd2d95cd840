"""The two ways to run a call. Everything else is written once: a class of verbs, with one of these beside it.

`_run` runs a call; `_open` runs one whose answer is used as a context manager, and in asyncio gives something that can be awaited as well.
"""

import asyncio
import os
import weakref
from collections.abc import Coroutine

from . import _native


class Blocking:
    """The calling thread waits; others run meanwhile, and signals interrupt it."""

    @staticmethod
    def _run(call, wrap=None):
        answer = call.wait()
        return answer if wrap is None else wrap(answer)

    _open = _run


class OnLoop:
    """The running event loop is told."""

    @staticmethod
    async def _run(call, wrap=None):
        loop = asyncio.get_running_loop()
        queue = _queue(loop)
        future = loop.create_future()
        token = queue.submit(call, future)
        try:
            answer = await future
        except asyncio.CancelledError:
            queue.cancel(token)
            raise
        return answer if wrap is None else wrap(answer)

    @staticmethod
    def _open(call, wrap):
        return Opening(call, wrap)


class Opening(Coroutine):
    """What is being opened: `await` it, or enter it with `async with`. It is a coroutine, of which tasks can be made."""

    __slots__ = ("_opened", "_running")

    def __init__(self, call, wrap):
        self._running = OnLoop._run(call, wrap)
        self._opened = None

    def send(self, value):
        return self._running.send(value)

    def throw(self, *error):
        return self._running.throw(*error)

    def close(self):
        self._running.close()

    def __await__(self):
        return self._running.__await__()

    async def __aenter__(self):
        self._opened = await self
        return await self._opened.__aenter__()

    async def __aexit__(self, kind, error, traceback):
        return await self._opened.__aexit__(kind, error, traceback)


# One queue, and so one descriptor, for each loop of this process. By identity, for a loop need not be hashable.
_queues = {}
# Those of the parent, which a child must not even free.
_of_parent = []


def _queue(loop):
    entry = _queues.get(id(loop))
    if entry is not None and entry[0]() is loop:
        return entry[1]
    queue = _native.Loop()
    loop.add_reader(queue.fileno(), queue.drain)
    number = id(loop)

    def forget(reference):
        if (known := _queues.get(number)) is not None and known[0] is reference:
            del _queues[number]

    _queues[number] = (weakref.ref(loop, forget), queue)
    return queue


def _in_child():
    global _queues
    _of_parent.append(_queues)
    _queues = {}


os.register_at_fork(after_in_child=_in_child)
