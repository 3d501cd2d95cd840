"""Locks, and the guard of whatever is held: a lock, a permit, a leadership."""

import asyncio
import threading

from ._errors import KeysteadError
from ._held import CancelledOnLoss
from ._modes import Blocking, OnLoop, Opening
from ._values import State


class GuardVerbs:
    """What whoever holds a lock holds. `put` and `txn` write as the holder or not at all, whatever this process believes; what is written
    elsewhere carries `fencing_token`.

    As a context manager it is released at the end of the block, which raises `LockLost` when it was lost within; in asyncio the
    body is cancelled at that moment. Forgetting it releases it, in the background.
    """

    def __init__(self, native):
        self._native = native

    @property
    def fencing_token(self):
        """A number that is higher for every later holder."""
        return self._native.fencing_token

    @property
    def key(self):
        """The key that stands for it, as bytes."""
        return self._native.key

    @property
    def lease(self):
        """The id of the lease that the key is attached to."""
        return self._native.lease

    @property
    def state(self):
        """What it is worth at this moment, by the clock: a `State`. No server is asked."""
        return State(*self._native.state)

    @property
    def held(self):
        """Whether it is held, by the clock. No server is asked."""
        return self.state.name != "lost"

    def check(self):
        """Raises `LockLost` unless it is held, by the clock. No server is asked."""
        self._native.check()

    def lost(self, timeout=None):
        """Waits until it is lost or released, and says why, as `State.loss` does.

        Raises `DeadlineExceeded` when it was not lost within `timeout` seconds.
        """
        return self._run(self._native.lost(timeout))

    def put(self, key, value, *, lease=None, prev_kv=False):
        """Writes one key if it is held, in one step. Raises `LockLost`: nothing was written."""
        return self._run(self._native.put(key, value, lease, prev_kv))

    def txn(self, when=(), then=(), otherwise=()):
        """Runs a transaction of at most 127 operations if it is held, in one step. Raises `LockLost`: neither branch ran."""
        return self._run(self._native.txn(list(when), list(then), list(otherwise)))

    def __repr__(self):
        state = "released" if self._native.released else self.state.name
        return f"<{type(self).__name__} of {self.key!r}, fencing token {self.fencing_token}, {state}>"

    def _release(self):
        """Raises `LockLost` when it had been lost before. Releasing it again does nothing."""
        return self._run(self._native.release())


class _BlockingGuard(GuardVerbs, Blocking):
    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if self._native.released:
            return
        if kind is None:
            self._native.check()
            self._release()
            return
        # What the body raised says more than what becomes of the lock.
        try:
            self._release()
        except KeysteadError as failed:
            error.add_note(f"releasing what was held failed, too: {failed}")


class _AsyncGuard(GuardVerbs, OnLoop):
    def __init__(self, native):
        super().__init__(native)
        self._body = None

    async def __aenter__(self):
        self._body = CancelledOnLoss(self._native.lost(None), lambda: self._native.released)
        return self

    async def __aexit__(self, kind, error, traceback):
        released = self._native.released
        cancelled = self._body.end(error)
        if released and not cancelled:
            return
        if kind is None or cancelled:
            try:
                self._native.check()
            except KeysteadError as lost:
                raise lost from error
            await self._release()
            return
        try:
            await self._release()
        except KeysteadError as failed:
            error.add_note(f"releasing what was held failed, too: {failed}")


class Guard(_BlockingGuard):
    __doc__ = GuardVerbs.__doc__

    def unlock(self):
        """Unlocks it. Unlocking it again does nothing. Raises `LockLost` when it had been lost before."""
        self._release()


class AsyncGuard(_AsyncGuard):
    __doc__ = GuardVerbs.__doc__

    async def unlock(self):
        """Unlocks it. Unlocking it again does nothing. Raises `LockLost` when it had been lost before."""
        await self._release()


class Lock(Blocking):
    """A lock by name. Who has it is decided by the server, in the order in which they asked; it excludes Go's `concurrency.Mutex`
    and etcdctl's `lock` of the same name, too.

    As a context manager it is taken at the beginning of the block, which raises `LockTimeout` when it was not free within the
    timeout and never runs without it, and gives the `Guard`. One lock may be used by many threads.
    """

    def __init__(self, native, timeout):
        self._native = native
        self._timeout = timeout
        self._entered = threading.local()

    def __repr__(self):
        return f"<{type(self).__name__} {self._native.name!r}>"

    def lock(self, timeout=None):
        """Takes it, and gives its `Guard`. Raises `LockTimeout` when it was not free within `timeout` seconds, by default those
        of the lock; 0 does not wait."""
        return Guard(self._native.lock(self._timeout if timeout is None else timeout).wait())

    def try_lock(self):
        """Takes it if it is free, else gives None; then it was at no time in the queue."""
        return self._run(self._native.try_lock(), perhaps(Guard))

    def __enter__(self):
        guard = self.lock()
        entered = self._entered.__dict__.setdefault("guards", [])
        entered.append(guard)
        return guard.__enter__()

    def __exit__(self, kind, error, traceback):
        return self._entered.guards.pop().__exit__(kind, error, traceback)


class AsyncLock(OnLoop):
    """A lock by name. Who has it is decided by the server, in the order in which they asked; it excludes Go's `concurrency.Mutex`
    and etcdctl's `lock` of the same name, too.

    As a context manager it is taken at the beginning of the block, which raises `LockTimeout` when it was not free within the
    timeout and never runs without it, and gives the `AsyncGuard`; the body is cancelled when it is lost. One lock may be used by
    many tasks.
    """

    def __init__(self, native, timeout):
        self._native = native
        self._timeout = timeout
        self._entered = {}

    def __repr__(self):
        return f"<{type(self).__name__} {self._native.name!r}>"

    def lock(self, timeout=None):
        """Takes it: `await` it for its `AsyncGuard`, or enter it. Raises `LockTimeout` when it was not free within `timeout`
        seconds, by default those of the lock; 0 does not wait. Cancelling it leaves nothing behind."""
        return Opening(self._native.lock(self._timeout if timeout is None else timeout), AsyncGuard)

    def try_lock(self):
        """Takes it if it is free, else gives None; then it was at no time in the queue."""
        return self._run(self._native.try_lock(), perhaps(AsyncGuard))

    async def __aenter__(self):
        guard = await self.lock()
        self._entered.setdefault(asyncio.current_task(), []).append(guard)
        return await guard.__aenter__()

    async def __aexit__(self, kind, error, traceback):
        task = asyncio.current_task()
        guards = self._entered[task]
        guard = guards.pop()
        if not guards:
            del self._entered[task]
        return await guard.__aexit__(kind, error, traceback)


def perhaps(wrap):
    """`wrap` for an answer that may be None."""
    return lambda native: None if native is None else wrap(native)
