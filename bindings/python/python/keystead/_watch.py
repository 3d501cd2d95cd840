"""Watches and scans: what comes a part at a time."""

from ._errors import Compacted
from ._modes import Blocking, OnLoop
from ._native import Diff, Event, Events, Reset
from ._values import Lag


class WatchVerbs:
    """A running watch. It goes on through everything that passes by itself.

    Iterating gives notices: `Events` (what one revision changed), `Progress`, `Disconnected`, `Resumed`, `Reset` (pages of the
    state, when history was compacted or the cluster restored) and `Diff`. `events()` gives single changes. Safe to use from any
    number of threads or tasks: each thing goes to one of them.
    """

    def __init__(self, native):
        self._native = native
        # What was taken and not handed out yet, in reverse.
        self._taken = []

    def cancel(self):
        """Ends the watch: nothing more comes, not even what waits. Never blocks."""
        self._taken = []
        self._native.cancel()

    def lag(self):
        """How far behind it is: a `Lag`."""
        lag = self._native.lag()
        return Lag(0, float("inf"), 0, False) if lag is None else Lag(*lag)

    def __repr__(self):
        lag = self.lag()
        return (
            f"<{type(self).__name__} at revision {lag.revision}, {'connected' if lag.connected else 'not connected'}>"
        )

    def _rest(self):
        rest, self._taken = self._taken[::-1], []
        return rest

    def _first(self, batch):
        if batch is None:
            return None
        self._taken = batch[:0:-1]
        return batch[0]


def _changes(notice):
    """The single changes of a notice."""
    kind = type(notice)
    if kind is Events or kind is Diff:
        return notice.events
    if kind is Reset:
        if notice.cause != "begun":
            raise Compacted(
                f"what happened before revision {notice.revision} is not known any more ({notice.cause}); "
                "iterate over the watch itself to be told the state"
            )
        return [Event.of_state(kv) for kv in notice.kvs]
    return ()


class Watch(WatchVerbs, Blocking):
    __doc__ = WatchVerbs.__doc__

    def next(self, timeout=None):
        """Waits for the next notice; None when the watch has ended.

        Raises why the watch ended, once; `DeadlineExceeded` when nothing came within `timeout` seconds.
        """
        if self._taken:
            return self._taken.pop()
        return self._first(self._native.next_batch(1000, timeout).wait())

    def next_batch(self, most=1000, timeout=None):
        """The same with as much as has come, up to `most` changes or little more: a list."""
        if self._taken:
            return self._rest()
        return self._native.next_batch(most, timeout).wait()

    def events(self):
        """Iterates over single changes, each an `Event`. With `state_first` it begins with a put for each key that is there.

        Raises `Compacted` when changes are missing, which iterating over the watch itself tells as a `Reset`.
        """
        while (batch := self.next_batch()) is not None:
            for notice in batch:
                yield from _changes(notice)

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


class AsyncWatch(WatchVerbs, OnLoop):
    __doc__ = WatchVerbs.__doc__

    async def next(self, timeout=None):
        """Waits for the next notice; None when the watch has ended.

        Raises why the watch ended, once; `DeadlineExceeded` when nothing came within `timeout` seconds. Cancelling it loses nothing.
        """
        if self._taken:
            return self._taken.pop()
        return self._first(await self._run(self._native.next_batch(1000, timeout)))

    async def next_batch(self, most=1000, timeout=None):
        """The same with as much as has come, up to `most` changes or little more: a list."""
        if self._taken:
            return self._rest()
        return await self._run(self._native.next_batch(most, timeout))

    async def events(self):
        """Iterates over single changes, each an `Event`. With `state_first` it begins with a put for each key that is there.

        Raises `Compacted` when changes are missing, which iterating over the watch itself tells as a `Reset`.
        """
        while (batch := await self.next_batch()) is not None:
            for notice in batch:
                for change in _changes(notice):
                    yield change

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


class Scan(Blocking):
    """The keys of a scan, one after the other, all at one revision. Nothing is read before the first is asked for."""

    def __init__(self, native):
        self._native = native
        self._page = iter(())

    def pages(self):
        """Iterates over what is left by pages, each a list of `KeyValue`."""
        if rest := list(self._page):
            yield rest
        while (page := self._native.next_batch().wait()) is not None:
            yield page

    def __iter__(self):
        return self

    def __next__(self):
        while True:
            for kv in self._page:
                return kv
            page = self._native.next_batch().wait()
            if page is None:
                raise StopIteration
            self._page = iter(page)


class AsyncScan(OnLoop):
    __doc__ = Scan.__doc__

    def __init__(self, native):
        self._native = native
        self._page = iter(())

    async def pages(self):
        """Iterates over what is left by pages, each a list of `KeyValue`."""
        if rest := list(self._page):
            yield rest
        while (page := await self._run(self._native.next_batch())) is not None:
            yield page

    def __aiter__(self):
        return self

    async def __anext__(self):
        while True:
            for kv in self._page:
                return kv
            page = await self._run(self._native.next_batch())
            if page is None:
                raise StopAsyncIteration
            self._page = iter(page)
