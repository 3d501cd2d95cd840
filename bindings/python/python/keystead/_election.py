"""Elections."""

from ._lock import _AsyncGuard, _BlockingGuard
from ._modes import Blocking, OnLoop
from ._values import LeaderEvent


class LeadershipVerbs:
    """An election that is won. What it can do besides proclaiming and resigning is said at `Guard`; at the end of a block it resigns."""

    @property
    def term(self):
        """The term of office: higher for every later leader. It is the fencing token."""
        return self._native.fencing_token

    def proclaim(self, value):
        """Says something else to those who observe. Raises `LockLost` when it does not lead any more: nothing was said."""
        return self._run(self._native.proclaim(value))

    def resign(self):
        """Steps down, so that the next candidate leads. Resigning again does nothing. Raises `LockLost` when it did not lead any more."""
        return self._release()


class Leadership(LeadershipVerbs, _BlockingGuard):
    __doc__ = LeadershipVerbs.__doc__


class AsyncLeadership(LeadershipVerbs, _AsyncGuard):
    __doc__ = LeadershipVerbs.__doc__


class ElectionVerbs:
    """An election by name. Candidates lead in the order in which they campaigned; those of Go's `concurrency.Election` of the
    same name stand in the same queue."""

    def __init__(self, native):
        self._native = native

    def __repr__(self):
        return f"<{type(self).__name__} {self._native.name!r}>"

    def campaign(self, value, timeout=None):
        """Stands as a candidate with `value`, and waits until it leads: gives the leadership, which is a context manager.

        Raises `LockTimeout` when it did not lead within `timeout` seconds; then it is no candidate any more.
        """
        return self._open(self._native.campaign(value, timeout), self._Leadership)

    def leader(self):
        """Who leads: the leader's key, whose value is what was proclaimed last; None when nobody does."""
        return self._run(self._native.leader())

    def observe(self):
        """Tells who leads now, then every change: iterate over it."""
        return self._Observer(self._native.observe())


class LeaderObserver(Blocking):
    """Tells who leads, as it changes: iterating gives `LeaderEvent`s, without an end."""

    def __init__(self, native):
        self._native = native

    def next(self, timeout=None):
        """Waits for the next `LeaderEvent`. Raises `DeadlineExceeded` when there was none within `timeout` seconds."""
        return self._run(self._native.next(timeout), LeaderEvent._make)

    def __iter__(self):
        return self

    def __next__(self):
        return self.next()


class AsyncLeaderObserver(OnLoop):
    __doc__ = LeaderObserver.__doc__

    def __init__(self, native):
        self._native = native

    def next(self, timeout=None):
        """Waits for the next `LeaderEvent`. Raises `DeadlineExceeded` when there was none within `timeout` seconds."""
        return self._run(self._native.next(timeout), LeaderEvent._make)

    def __aiter__(self):
        return self

    async def __anext__(self):
        return await self.next()


class Election(ElectionVerbs, Blocking):
    __doc__ = ElectionVerbs.__doc__
    _Leadership = Leadership
    _Observer = LeaderObserver


class AsyncElection(ElectionVerbs, OnLoop):
    __doc__ = ElectionVerbs.__doc__
    _Leadership = AsyncLeadership
    _Observer = AsyncLeaderObserver
