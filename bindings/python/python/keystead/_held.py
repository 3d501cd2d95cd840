"""What can be lost while a block runs: the block is told, and never ends as if nothing had happened."""

import asyncio

from ._modes import OnLoop


class CancelledOnLoss:
    """Runs beside the body of an `async with` and cancels it when what it needs is lost."""

    __slots__ = ("_body", "_given_up", "_lost", "_requests", "_watcher")

    def __init__(self, lost, given_up):
        """`lost` is the call that waits for the loss, `given_up` says that it was the body's own doing."""
        self._lost = False
        self._given_up = given_up
        self._body = asyncio.current_task()
        self._requests = self._body.cancelling()
        self._watcher = asyncio.ensure_future(self._watch(lost))

    async def _watch(self, lost):
        await OnLoop._run(lost)
        if not self._given_up():
            self._lost = True
            self._body.cancel()

    def end(self, error):
        """The body has ended with `error`. True when it was this that cancelled it, and nobody else did."""
        self._watcher.cancel()
        if not self._lost:
            return False
        cancelled_by_others = self._body.uncancel() > self._requests
        return not cancelled_by_others and (error is None or isinstance(error, asyncio.CancelledError))
