"""Sessions, and leases that nobody keeps alive."""

import threading

from ._errors import SessionLost
from ._held import CancelledOnLoss
from ._modes import Blocking, OnLoop
from ._values import State, TimeToLive


class SessionVerbs:
    """A lease that is kept alive until this is closed or forgotten. What is attached to it goes when this process does.

    As a context manager it is closed at the end of the block, which raises `SessionLost` when the session was lost within; in
    asyncio the body is cancelled at that moment.
    """

    def __init__(self, native):
        self._native = native
        self._closed = False

    @property
    def lease(self):
        """The id of its lease."""
        return self._native.lease

    @property
    def ttl(self):
        """The TTL of its lease in seconds, as the server granted it."""
        return self._native.ttl

    @property
    def state(self):
        """What it is worth at this moment, by the clock: a `State`. No server is asked."""
        return State(*self._native.state)

    @property
    def remaining(self):
        """So many seconds it stays ours even if no renewal should get through; 0 when it is lost."""
        return self._native.remaining

    def lost(self, timeout=None):
        """Waits until it is lost, and says why, as `State.loss` does. While this process runs, that is before the server ends the lease.

        Raises `DeadlineExceeded` when it was not lost within `timeout` seconds.
        """
        return self._run(self._native.lost(timeout))

    def put(self, key, value):
        """Writes a key that goes when the session does. Raises `LeaseNotFound` when it is over."""
        return self._run(self._native.put(key, value))

    def close(self):
        """Ends it: what is attached to it goes, and whoever waited for that goes on. Closing it again does nothing."""
        self._closed = True
        return self._run(self._native.close())

    def __repr__(self):
        state = "closed" if self._closed else self.state.name
        return f"<{type(self).__name__} with lease {self.lease:x}, {state}>"

    def _loss(self):
        return None if self._closed else self.state.loss


def _lost(loss):
    return SessionLost(f"the session was lost: {loss}")


class Session(SessionVerbs, Blocking):
    __doc__ = SessionVerbs.__doc__

    def on_lost(self, callback):
        """Calls `callback` with the reason when it is lost or closed, on a thread of its own."""
        if not callable(callback):
            raise TypeError(f"expected what can be called with the reason, not {type(callback).__name__}")
        native = self._native
        waiter = threading.Thread(
            target=lambda: callback(native.lost(None).wait()), name="keystead-on-lost", daemon=True
        )
        waiter.start()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if (loss := self._loss()) is not None:
            if kind is None:
                raise _lost(loss)
            return
        self.close()


class AsyncSession(SessionVerbs, OnLoop):
    __doc__ = SessionVerbs.__doc__

    def __init__(self, native):
        super().__init__(native)
        self._body = None

    async def __aenter__(self):
        self._body = CancelledOnLoss(self._native.lost(None), lambda: self._closed)
        return self

    async def __aexit__(self, kind, error, traceback):
        cancelled = self._body.end(error)
        if (loss := self._loss()) is not None:
            if cancelled or kind is None:
                raise _lost(loss) from error
            return
        await self.close()


class LeaseVerbs:
    """A lease that nobody keeps alive: it ends after its TTL, or as long after `keep_alive`."""

    def __init__(self, client, lease, ttl):
        self._client = client
        self.lease = lease
        self.ttl = ttl

    def keep_alive(self):
        """Renews it, once: gives the seconds it has now. Raises `LeaseNotFound`."""
        return self._run(self._client.keep_alive_once(self.lease))

    def time_to_live(self, *, keys=False):
        """How long it has, and what is attached to it when `keys` is true: a `TimeToLive`."""
        return self._run(self._client.time_to_live(self.lease, keys), TimeToLive._make)

    def revoke(self):
        """Ends it: what is attached to it goes. Raises `LeaseNotFound`."""
        return self._run(self._client.revoke(self.lease))

    def __repr__(self):
        return f"<{type(self).__name__} {self.lease:x} of {self.ttl:g} s>"


class Lease(LeaseVerbs, Blocking):
    __doc__ = LeaseVerbs.__doc__


class AsyncLease(LeaseVerbs, OnLoop):
    __doc__ = LeaseVerbs.__doc__
