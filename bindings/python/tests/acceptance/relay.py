"""A TCP relay before a member: it carries bytes until it is told to swallow them or to close every connection.

What a client sees then is a network that fails, while the member lives on.
"""

from __future__ import annotations

import contextlib
import enum
import selectors
import socket
import threading
from types import TracebackType
from typing import Self


class Mode(enum.Enum):
    """What becomes of bytes and connections."""

    OPEN = enum.auto()
    SWALLOW = enum.auto()
    CUT = enum.auto()


class Relay:
    """One thread that ends with the `with` block."""

    def __init__(self, target: str) -> None:
        host, port = target.removeprefix("http://").rsplit(":", 1)
        self._target = (host, int(port))
        self._mode = Mode.OPEN
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._wake, self._woken = socket.socketpair()
        self._others: dict[socket.socket, socket.socket] = {}
        self._thread = threading.Thread(target=self._carry, daemon=True)

    @property
    def endpoint(self) -> str:
        """Where clients connect to."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def set(self, mode: Mode) -> None:
        """From now on, for the connections that are open too."""
        self._mode = mode
        self._wake.send(b"!")

    def __enter__(self) -> Self:
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._wake.close()
        self._thread.join()
        while self._others:
            self._close(next(iter(self._others)))
        self._listener.close()
        self._woken.close()
        self._selector.close()

    def _carry(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._woken:
                    if not self._woken.recv(1024):
                        return
                    if self._mode is Mode.CUT:
                        while self._others:
                            self._close(next(iter(self._others)))
                elif key.fileobj is self._listener:
                    self._take(self._listener.accept()[0])
                elif isinstance(key.fileobj, socket.socket):
                    self._carry_once(key.fileobj)

    def _take(self, near: socket.socket) -> None:
        if self._mode is Mode.CUT:
            near.close()
            return
        try:
            far = socket.create_connection(self._target)
        except OSError:
            near.close()
            return
        for here, there in ((near, far), (far, near)):
            here.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._others[here] = there
            self._selector.register(here, selectors.EVENT_READ)

    def _carry_once(self, here: socket.socket) -> None:
        there = self._others.get(here)
        if there is None:
            return
        try:
            read = here.recv(1 << 16)
            if self._mode is Mode.SWALLOW:
                if not read:
                    # Even its end is swallowed: the other side hears nothing.
                    self._selector.unregister(here)
                return
            if read:
                there.sendall(read)
                return
        except OSError:
            pass
        self._close(here)

    def _close(self, here: socket.socket) -> None:
        for side in (here, self._others.pop(here, None)):
            if side is not None:
                self._others.pop(side, None)
                with contextlib.suppress(KeyError):
                    self._selector.unregister(side)
                side.close()
