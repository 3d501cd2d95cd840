"""A member process for scripts and tests: `keystead.Server()` starts one on ports of its own and ends it.

Used by the pytest plugin too. What it knows of the member is the command line of `serve`; it never speaks to it, but hands
out clients that do.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

if TYPE_CHECKING:
    from keystead import AsyncClient, Client, ClientOptions, ConnectOptions

__all__ = ["Server", "ServerStartError"]

_HOST = "127.0.0.1"
# How long a member that was told to stop may take before it is killed. It drains for two seconds, then flushes.
_STOP_SECONDS = 20.0
# How often a member that has not said that it is ready is looked at: it may have ended instead.
_LOOK_SECONDS = 0.05
# What a member sets aside on the disk follows from these: some 90 MB for one that lives for a test, 330 MB by default.
_TEMPORARY = ("--wal-segment-bytes=8388608", "--unflushed-limit-bytes=33554432")
# A socket's path has room for 107 bytes.
_LONGEST_DIRECTORY = 80


class ServerStartError(RuntimeError):
    """The member ended, or was not ready in time, when it was started. No process is left, and `log` is what it logged."""

    log: str

    def __init__(self, reason: str, log: str) -> None:
        super().__init__(f"{reason}; its log:\n{log}" if log else f"{reason}; it logged nothing")
        self.log = log


class Server:
    """A member of its own: a process on two free ports of the loopback interface, ended with the `with` block.

    It never outlives this process, whatever ends that one. Ports stay its own until it is closed, so a member that was killed
    comes back at the same address. A forked child does not own it: there `client()` works, and nothing ends it.

    One thread at a time starts and stops it; clients may be made in any.

    Args:
        directory: where the data is, kept afterwards; without it a temporary one, which goes when the server is closed.
        binary: the program to run; without it, in this order: the environment variable `KEYSTEAD_BIN`, the package
            `keystead-server`, `keystead` on PATH. One that is named `etcd` is started with etcd's command line, and outlives
            this process when that is killed.
        arguments: more arguments of `keystead serve`, such as `["--max-txn-ops=1000"]`; they win over what this class passes.
        environment: more variables for it. It is not given this process's `ETCD_*`, which would set its flags.
        start_timeout: seconds that it may take until it serves.

    Example:
        >>> with keystead.Server() as server, server.client() as client:
        ...     client.put("greeting", "hello")

        >>> async with keystead.Server() as server, server.async_client() as client:
        ...     await client.put("greeting", "hello")
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        binary: str | os.PathLike[str] | None = None,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        start_timeout: float = 60.0,
    ) -> None:
        if isinstance(arguments, str):
            raise TypeError("arguments is a list of words, not one text")
        if start_timeout <= 0:
            raise ValueError("start_timeout is a number of seconds above 0")
        self._directory = None if directory is None else Path(directory).absolute()
        self._binary = None if binary is None else Path(binary)
        self._arguments = list(arguments)
        self._environment = dict(environment or {})
        self._start_timeout = start_timeout
        self._held: _Held | None = None
        self._let_go: Callable[[], object] = lambda: None
        self._log = ""

    def start(self) -> Self:
        """Starts the member and returns once it serves; does nothing when it runs. On the ports and data it had before.

        Raises:
            FileNotFoundError: there is no binary; the text says how to get one.
            ServerStartError: it ended or was not ready in time; the text has its log.
        """
        if self._held is None:
            self._held = _Held.take(self._directory)
            self._let_go = weakref.finalize(self, self._held.let_go)
        if self._held.is_running():
            return self
        program = _find(self._binary)
        try:
            self._held.run(self._command(program, self._held), self._variables(), self._start_timeout)
        except BaseException:
            self._held.end(signal.SIGKILL)
            raise
        return self

    def stop(self) -> None:
        """Asks the member to end (SIGTERM) and waits until it has; one that does not within 20 s is killed. Data and ports stay."""
        if self._held is not None:
            self._held.end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the member as a crash would (SIGKILL) and waits until it is gone. Data and ports stay."""
        if self._held is not None:
            self._held.end(signal.SIGKILL)

    def restart(self) -> Self:
        """Stops the member where it runs, and starts it on the same ports and data.

        Raises:
            ServerStartError: as `start`.
        """
        self.stop()
        return self.start()

    def close(self) -> None:
        """Stops the member and gives back its ports; a temporary directory goes. `log` stays. May be called again."""
        if self._held is not None:
            self.stop()
            self._log = self._held.log()
            self._let_go()
            self._held = None

    @property
    def endpoint(self) -> str:
        """The URL at which clients reach it, such as `http://127.0.0.1:40123`. The same from the first start until it is closed.

        Raises:
            RuntimeError: it was not started, or is closed.
        """
        return f"http://{_HOST}:{self._owned().client_port}"

    @property
    def pid(self) -> int | None:
        """The number of the running process; None while there is none."""
        return None if self._held is None else self._held.pid()

    @property
    def directory(self) -> Path:
        """The directory of the data.

        Raises:
            RuntimeError: it was not started, or is closed.
        """
        return self._owned().data

    @property
    def log(self) -> str:
        """What it has logged, over all its starts: lines of JSON."""
        return self._log if self._held is None else self._held.log()

    def client(self, **options: Unpack[ClientOptions]) -> Client:
        """A client of this member; `options` are those of `keystead.Client`. Whoever asked for it closes it.

        Raises:
            RuntimeError: the server was not started, or is closed.
        """
        from keystead import Client

        return Client([self.endpoint], **options)

    def async_client(self, **options: Unpack[ConnectOptions]) -> AsyncClient:
        """The same for asyncio.

        Raises:
            RuntimeError: the server was not started, or is closed.
        """
        from keystead import AsyncClient

        return AsyncClient([self.endpoint], **options)

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        entering = asyncio.ensure_future(asyncio.to_thread(self.__enter__))
        try:
            return await asyncio.shield(entering)
        except asyncio.CancelledError:
            # The thread can't be: what it starts is ended when it is there.
            await asyncio.wait([entering])
            await asyncio.to_thread(self.close)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Whoever is cancelled meanwhile still has a server that is closed.
        await asyncio.shield(asyncio.to_thread(self.close))

    def __repr__(self) -> str:
        where = "closed" if self._held is None else f"{self.endpoint} pid={self.pid}"
        return f"<keystead.Server {where}>"

    def _owned(self) -> _Held:
        if self._held is None:
            raise RuntimeError("the server was not started, or is closed: use it in a with block, or call start()")
        return self._held

    def _command(self, program: Path, held: _Held) -> list[str]:
        client, peer = (f"http://{_HOST}:{port}" for port in (held.client_port, held.peer_port))
        is_etcd = program.name == "etcd"
        small = () if is_etcd or self._directory is not None else _TEMPORARY
        return [
            str(program),
            *(() if is_etcd else ("serve", "--stop-with-stdin")),
            *small,
            f"--data-dir={held.data}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            *self._arguments,
        ]

    def _variables(self) -> dict[str, str]:
        inherited = {name: text for name, text in os.environ.items() if not name.startswith("ETCD_")}
        return inherited | self._environment


class _Held:
    """What a server holds while it is not closed: two ports, the directory of its run, and the process while there is one."""

    def __init__(self, run: Path, data: Path, ports: list[socket.socket]) -> None:
        self.data = data
        self._run = run
        self._ports = ports
        self._numbers = [port.getsockname()[1] for port in ports]
        self._owner = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        # Kept open, so that it can be read whatever becomes of the directory.
        self._log = (run / "log").open("ab+", buffering=0)
        _all_held.add(self)

    @staticmethod
    def take(directory: Path | None) -> _Held:
        parent = tempfile.gettempdir()
        run = Path(tempfile.mkdtemp(prefix="keystead-", dir=parent if len(parent) < _LONGEST_DIRECTORY else "/tmp"))
        return _Held(run, directory or run / "data", [_reserve_port(), _reserve_port()])

    @property
    def client_port(self) -> int:
        return int(self._numbers[0])

    @property
    def peer_port(self) -> int:
        return int(self._numbers[1])

    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self.is_running() else None

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def run(self, command: list[str], environment: dict[str, str], patience: float) -> None:
        """Starts the process and waits until it says that it is ready, in the way in which services tell systemd."""
        self.end(signal.SIGKILL)
        place = self._run / "notify"
        place.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(str(place))
            ready.settimeout(_LOOK_SECONDS)
            begin = time.monotonic()
            # The other end of its standard input closes when this process ends, by whatever: it stops then.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
                env=environment | {"NOTIFY_SOCKET": str(place)},
                # A Ctrl-C at the terminal is for this process, which ends the other one.
                start_new_session=True,
            )
            while not _says_ready(ready):
                ended = self._process.poll()
                if ended is not None:
                    raise ServerStartError(f"{command[0]} ended with {ended} instead of serving", self.log())
                if time.monotonic() - begin > patience:
                    raise ServerStartError(f"{command[0]} does not serve after {patience:g} s", self.log())

    def end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Nothing, or the only way that is left. Nobody is interrupted before the process is gone.
            process.kill()
            process.wait()
            _close_stdin(process)

    def let_go(self) -> None:
        """Ends the process at once and removes what is temporary; in a forked child nothing, for it is not the owner."""
        if os.getpid() != self._owner:
            return
        self.end(signal.SIGKILL)
        for port in self._ports:
            port.close()
        self._log.close()
        shutil.rmtree(self._run, ignore_errors=True)

    def disown(self) -> None:
        """In a forked child: the parent's process is not ours to end, nor are its life line and ports ours to hold."""
        process, self._process = self._process, None
        if process is not None:
            _close_stdin(process)
            # It is no child of this process: nothing is to wait for it.
            process.returncode = 0
        for port in self._ports:
            port.close()


_all_held: weakref.WeakSet[_Held] = weakref.WeakSet()


def _disown_all() -> None:
    for held in list(_all_held):
        held.disown()


os.register_at_fork(after_in_child=_disown_all)


def _close_stdin(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()


def _says_ready(ready: socket.socket) -> bool:
    """Whether the member's word that it serves came within a moment."""
    try:
        return b"READY=1" in ready.recv(4096).split(b"\n")
    except TimeoutError:
        return False


def _reserve_port() -> socket.socket:
    """A free port that stays ours: bound and never listened on, it is given to nobody but who asks for this very number."""
    port = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # The member sets it too, and so may listen there as long as nobody else does.
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port.bind((_HOST, 0))
    except BaseException:
        port.close()
        raise
    return port


def _find(chosen: Path | None) -> Path:
    """The binary to run, as `Server` says."""
    if chosen is not None:
        return _existing(chosen, "binary")
    named = os.environ.get("KEYSTEAD_BIN")
    if named:
        return _existing(Path(named), "KEYSTEAD_BIN")
    for find in (_of_the_wheel, _on_path):
        found = find()
        if found is not None:
            return found
    raise FileNotFoundError(
        "there is no keystead binary to start: `pip install keystead[server]` brings one, KEYSTEAD_BIN or the argument `binary` "
        "name one, `keystead` on PATH is taken too; from the sources `cargo build --release` makes target/release/keystead"
    )


def _existing(path: Path, what: str) -> Path:
    found = shutil.which(path)
    if found is None:
        raise FileNotFoundError(f"{what} names no program that can be run: {path}")
    return Path(found).absolute()


def _of_the_wheel() -> Path | None:
    try:
        from keystead_server import find_keystead
    except ImportError:
        return None
    try:
        return find_keystead()
    except FileNotFoundError:
        return None


def _on_path() -> Path | None:
    found = shutil.which("keystead")
    return None if found is None else Path(found).absolute()
