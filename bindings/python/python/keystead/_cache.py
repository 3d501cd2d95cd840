"""Keys in memory, in step with the store."""

from collections.abc import Mapping

from ._errors import KeysteadError
from ._modes import Blocking, OnLoop
from ._values import Lag, cache_notice


class CacheVerbs(Mapping):
    """Some keys in memory: those of one revision at every moment. It is a mapping from keys, `str` or `bytes`, to `KeyValue`s;
    reading it asks nobody and shows the keys as they were `lag().staleness` seconds ago. What was written before a certain moment
    is there after `sync()`.

    As a context manager it is closed at the end of the block; forgetting it closes it, too.
    """

    def __init__(self, native):
        self._native = native

    def __getitem__(self, key):
        if (found := self._native.get(key)) is None:
            raise KeyError(key)
        return found

    def __contains__(self, key):
        return self._native.get(key) is not None

    def __len__(self):
        return self._native.len()

    def __iter__(self):
        return iter([kv.key for kv in self._native.all()[1]])

    def range(self, key=None, *, end=None, prefix=None, from_key=None):
        """Some of its keys at one revision: (revision, list of `KeyValue`). Asks nobody."""
        return self._native.range(key, end, prefix, from_key)

    def lag(self):
        """How far behind it is: a `Lag`."""
        return Lag(*self._native.lag())

    def sync(self):
        """Waits until it has everything that was written before: gives the revision."""
        return self._run(self._native.sync())

    def reach(self, revision):
        """Waits until it has everything up to `revision`."""
        return self._run(self._native.reach(revision))

    def subscribe(self):
        """Its news: first all keys, then every change. Iterate over it."""
        return self._Subscription(self._native.subscribe())

    def close(self):
        """Ends it, with its subscriptions: the keys leave memory, and whatever is asked of it from now on raises `Closed`. Closing it again
        does nothing. Never blocks."""
        self._native.close()

    def __repr__(self):
        try:
            kept = f"of {len(self)} keys"
        except KeysteadError:
            kept = "that has ended"
        return f"<{type(self).__name__} {kept}>"

    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other


class Cache(CacheVerbs, Blocking):
    __doc__ = CacheVerbs.__doc__

    def get(self, key, default=None, *, linearizable=False):
        """One key, or `default`. With `linearizable` it is as it is now, whoever wrote it, which asks the store once for its revision."""
        found = self._native.get_linearizable(key).wait() if linearizable else self._native.get(key)
        return default if found is None else found

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.close()


class AsyncCache(CacheVerbs, OnLoop):
    __doc__ = CacheVerbs.__doc__

    def get(self, key, default=None):
        """One key, or `default`. Asks nobody."""
        found = self._native.get(key)
        return default if found is None else found

    def get_linearizable(self, key):
        """One key as it is now, whoever wrote it, or None. Asks the store once for its revision."""
        return self._run(self._native.get_linearizable(key))

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, error, traceback):
        self.close()


class SubscriptionVerbs:
    """The news of a cache: iterating gives `CacheNotice`s, first all keys, then every change; all keys again to a reader so slow
    that it would have missed some. As a context manager it is cancelled at the end of the block."""

    def __init__(self, native):
        self._native = native
        self._taken = []

    def cancel(self):
        """Ends it: nothing more comes. Never blocks."""
        self._taken = []
        self._native.cancel()

    def _first(self, batch):
        if batch is None:
            return None
        self._taken = [cache_notice(each) for each in batch[:0:-1]]
        return cache_notice(batch[0])


class CacheSubscription(SubscriptionVerbs, Blocking):
    __doc__ = SubscriptionVerbs.__doc__

    def next(self, timeout=None):
        """Waits for the next `CacheNotice`; None when it was cancelled. Raises `DeadlineExceeded` after `timeout` seconds."""
        if self._taken:
            return self._taken.pop()
        return self._first(self._native.next_batch(1000, timeout).wait())

    def __iter__(self):
        return self

    def __next__(self):
        if (notice := self.next()) is None:
            raise StopIteration
        return notice

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.cancel()


class AsyncCacheSubscription(SubscriptionVerbs, OnLoop):
    __doc__ = SubscriptionVerbs.__doc__

    async def next(self, timeout=None):
        """Waits for the next `CacheNotice`; None when it was cancelled. Raises `DeadlineExceeded` after `timeout` seconds."""
        if self._taken:
            return self._taken.pop()
        return self._first(await self._run(self._native.next_batch(1000, timeout)))

    def __aiter__(self):
        return self

    async def __anext__(self):
        if (notice := await self.next()) is None:
            raise StopAsyncIteration
        return notice

    async def __aenter__(self):
        return self

    async def __aexit__(self, kind, error, traceback):
        self.cancel()


Cache._Subscription = CacheSubscription
AsyncCache._Subscription = AsyncCacheSubscription
