"""Reader-writer locks, semaphores, barriers and queues, in the key layouts of Go's recipes."""

from ._lock import AsyncGuard, Guard, perhaps
from ._modes import Blocking, OnLoop


class RwLockVerbs:
    """A reader-writer lock by name: many readers, or one writer, in the order in which they asked."""

    def __init__(self, native):
        self._native = native

    def __repr__(self):
        return f"<{type(self).__name__} {self._native.name!r}>"

    def read(self, timeout=None):
        """Takes it beside other readers: gives a guard. Raises `LockTimeout` when it was not free within `timeout` seconds; 0 does not
        wait."""
        return self._open(self._native.read(timeout), self._Guard)

    def try_read(self):
        """The same if it is free, else None."""
        return self._run(self._native.try_read(), perhaps(self._Guard))

    def write(self, timeout=None):
        """Takes it alone: gives a guard. Raises `LockTimeout` when it was not free within `timeout` seconds; 0 does not wait."""
        return self._open(self._native.write(timeout), self._Guard)

    def try_write(self):
        """The same if it is free, else None."""
        return self._run(self._native.try_write(), perhaps(self._Guard))


class SemaphoreVerbs:
    """A semaphore by name. All who use it name the same number of permits."""

    def __init__(self, native):
        self._native = native

    def __repr__(self):
        return f"<{type(self).__name__} {self._native.name!r}>"

    def acquire(self, timeout=None):
        """Takes a permit: gives a guard. Raises `LockTimeout` when none was free within `timeout` seconds; 0 does not wait."""
        return self._open(self._native.acquire(timeout), self._Guard)

    def try_acquire(self):
        """The same if one is free, else None."""
        return self._run(self._native.try_acquire(), perhaps(self._Guard))


class BarrierVerbs:
    """A barrier by name: while somebody holds it up, everybody waits."""

    def __init__(self, native):
        self._native = native

    def __repr__(self):
        return f"<{type(self).__name__} {self._native.name!r}>"

    def hold(self):
        """Raises it; True when it was down before."""
        return self._run(self._native.hold())

    def release(self):
        """Lowers it, whoever raised it, so that everybody goes on; True when it was up."""
        return self._run(self._native.release())

    def wait(self, timeout=None):
        """Waits until it is down. Raises `DeadlineExceeded` when it was still up after `timeout` seconds; 0 does not wait."""
        return self._run(self._native.wait(timeout))


class QueueVerbs:
    """A queue by name: each item goes to one of those who take, in the order in which they were put."""

    def __init__(self, native):
        self._native = native

    def __repr__(self):
        return f"<{type(self).__name__} {self._native.name!r}>"

    def enqueue(self, item):
        """Puts an item at the end. Where the outcome of a failure is unknown, putting it again may put it twice."""
        return self._run(self._native.enqueue(item))

    def dequeue(self, timeout=None):
        """Takes the first item, as bytes, and waits for one. Raises `DeadlineExceeded` when there was none within `timeout` seconds; 0 does
        not wait.

        No item is lost to the timeout; interrupting or cancelling it while it takes one may lose that one.
        """
        return self._run(self._native.dequeue(timeout))


class RwLock(RwLockVerbs, Blocking):
    __doc__ = RwLockVerbs.__doc__
    _Guard = Guard


class AsyncRwLock(RwLockVerbs, OnLoop):
    __doc__ = RwLockVerbs.__doc__
    _Guard = AsyncGuard


class Semaphore(SemaphoreVerbs, Blocking):
    __doc__ = SemaphoreVerbs.__doc__
    _Guard = Guard


class AsyncSemaphore(SemaphoreVerbs, OnLoop):
    __doc__ = SemaphoreVerbs.__doc__
    _Guard = AsyncGuard


class Barrier(BarrierVerbs, Blocking):
    __doc__ = BarrierVerbs.__doc__


class AsyncBarrier(BarrierVerbs, OnLoop):
    __doc__ = BarrierVerbs.__doc__


class Queue(QueueVerbs, Blocking):
    __doc__ = QueueVerbs.__doc__


class AsyncQueue(QueueVerbs, OnLoop):
    __doc__ = QueueVerbs.__doc__
