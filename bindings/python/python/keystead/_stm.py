"""One run of a function that reads and writes as if nobody else were there."""

from ._modes import Blocking, OnLoop


class StmVerbs:
    """One run of a function that was given to `stm`. It sees its own writes; they are done when the function has returned, and then
    the run is over.
    """

    def __init__(self, native):
        self._native = native

    def get(self, key):
        """Reads a key: its value, or None when it is not there."""
        return self._run(self._native.get(key))

    def range(self, key=None, *, end=None, prefix=None, from_key=None):
        """Reads keys: a list of pairs of a key and its value. A key that somebody adds before the commit is a conflict, too."""
        return self._run(self._native.range(key, end, prefix, from_key))

    def put(self, key, value, *, lease=None):
        """Writes a key at the commit. `lease` is a lease, a session or the id of a lease. Never blocks."""
        self._native.put(key, value, lease)

    def delete(self, key):
        """Removes a key at the commit; it need not be there. Never blocks."""
        self._native.delete(key)


class Stm(StmVerbs, Blocking):
    __doc__ = StmVerbs.__doc__


class AsyncStm(StmVerbs, OnLoop):
    __doc__ = StmVerbs.__doc__
