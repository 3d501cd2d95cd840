"""The two faces of the client, so that a scenario is written once: `do` gives the answer of a call, whichever way it is run."""

import asyncio
import contextlib

import keystead


class Sync:
    """Threads that wait."""

    name = "sync"

    def connect(self, endpoints, **options):
        return keystead.Client(endpoints, **options)

    def do(self, answer):
        return answer

    def function(self, steps):
        """A function of a generator, which yields calls and is sent their answers."""

        def run(*given):
            running, answer = steps(*given), None
            with contextlib.suppress(StopIteration):
                while True:
                    answer = running.send(answer)

        return run

    @contextlib.contextmanager
    def entered(self, manager):
        with manager as entered:
            yield entered

    def take(self, iterable, count):
        iterator = iter(iterable)
        return [next(iterator) for _ in range(count)]

    def all(self, iterable):
        return list(iterable)

    def close(self):
        pass


class Asyncio:
    """An event loop of its own."""

    name = "asyncio"

    def __init__(self):
        self.loop = asyncio.new_event_loop()

    def connect(self, endpoints, **options):
        return keystead.AsyncClient(endpoints, **options)

    def do(self, call):
        async def awaited():
            return await call

        return self.loop.run_until_complete(awaited())

    def function(self, steps):
        async def run(*given):
            running, answer = steps(*given), None
            with contextlib.suppress(StopIteration):
                while True:
                    answer = await running.send(answer)

        return run

    @contextlib.contextmanager
    def entered(self, manager):
        """Enters and leaves in one task, as `async with` does: the body is that task's, which waits for the test's."""
        entered, leave = self.loop.create_future(), self.loop.create_future()
        body = self.loop.create_task(self._body(manager, entered, leave))
        self.loop.run_until_complete(asyncio.wait([entered, body], return_when=asyncio.FIRST_COMPLETED))
        if not entered.done():
            body.result()
        try:
            yield entered.result()
        except BaseException as error:
            if not leave.done():
                leave.set_exception(error)
        if not leave.done():
            leave.set_result(None)
        self.loop.run_until_complete(body)

    @staticmethod
    async def _body(manager, entered, leave):
        async with manager as value:
            entered.set_result(value)
            await leave

    def take(self, iterable, count):
        iterator = aiter(iterable)
        return [self.do(anext(iterator)) for _ in range(count)]

    def all(self, iterable):
        async def taken():
            return [each async for each in iterable]

        return self.loop.run_until_complete(taken())

    def close(self):
        self.loop.close()
