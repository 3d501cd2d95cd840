"""`keystead.Server`: a member that is there when it says so, comes back where it was, and never outlives who started it."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keystead import AsyncClient, Client, ClientOptions, ConnectOptions, Server, ServerStartError

# Nothing here takes a tenth of it, unless the machine is busy.
PATIENCE = 60.0


def wait_until(holds: Callable[[], bool], what: str) -> None:
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin < PATIENCE, f"not within {PATIENCE} s: {what}"
        time.sleep(0.005)


def runs(pid: int) -> bool:
    """Whether the process is there, and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def is_gone(pid: int) -> bool:
    """Whether not even a zombie is left."""
    return not Path(f"/proc/{pid}").exists()


def listens(endpoint: str) -> bool:
    host, port = endpoint.removeprefix("http://").split(":")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return False
    return True


def run_python(program: str, temporary: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(temporary)},
    )


@pytest.fixture
def temporary() -> Iterator[Path]:
    """For programs that are killed: what they leave behind goes."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


def fake_binary(directory: Path, script: str, name: str = "keystead") -> Path:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_it_serves_when_the_block_begins_and_is_gone_when_it_has_ended() -> None:
    with Server() as server:
        pid, endpoint, directory = server.pid, server.endpoint, server.directory
        assert pid is not None
        with server.client() as client:
            client.put("greeting", "hello")
        assert directory.is_dir()
    assert server.pid is None
    assert is_gone(pid)
    assert not listens(endpoint)
    assert not directory.parent.exists()
    assert "ready to serve client requests" in server.log
    with pytest.raises(RuntimeError, match="not started, or is closed"):
        _ = server.endpoint


@pytest.mark.parametrize("how", ["restart", "kill", "stop"])
def test_it_comes_back_at_the_same_address_with_what_was_written(how: str) -> None:
    with Server() as server, server.client() as client:
        pid, endpoint = server.pid, server.endpoint
        client.put("greeting", "hello")
        if how == "restart":
            server.restart()
        else:
            getattr(server, how)()
            assert server.pid is None
            assert not listens(endpoint)
            server.start()
        assert pid is not None
        assert is_gone(pid)
        assert server.endpoint == endpoint
        assert server.pid not in (None, pid)
        with server.client() as another:
            greeting = another.get("greeting")
            assert greeting is not None
            assert greeting.value == b"hello"


def test_starting_what_runs_changes_nothing() -> None:
    with Server() as server:
        pid = server.pid
        assert server.start() is server
        assert server.pid == pid


def test_a_member_that_died_is_told_and_can_be_started_again() -> None:
    with Server() as server:
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: server.pid is None, "the member is dead")
        server.start()
        assert listens(server.endpoint)


def test_a_given_directory_stays_and_serves_again_on_other_ports(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Server(data) as server, server.client() as client:
        assert server.directory == data
        client.put("greeting", "hello")
    assert data.is_dir()
    with Server(data) as server, server.client() as client:
        greeting = client.get("greeting")
        assert greeting is not None


async def test_asyncio_starts_and_ends_it_without_holding_up_the_loop() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    ticking = asyncio.create_task(tick())
    async with Server() as server:
        assert ticks > 3, "the loop turns while the member starts"
        pid = server.pid
        async with server.async_client() as client:
            await client.put("greeting", "hello")
    ticking.cancel()
    assert pid is not None
    assert is_gone(pid)


async def test_a_cancelled_start_leaves_no_member() -> None:
    server = Server()
    starting = asyncio.create_task(server.__aenter__())
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert server.pid is None
    with pytest.raises(RuntimeError, match="closed"):
        _ = server.endpoint


def test_many_at_once_have_ports_of_their_own() -> None:
    servers = [Server() for _ in range(6)]
    threads = [threading.Thread(target=server.start) for server in servers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert len({server.endpoint for server in servers}) == len(servers)
        assert all(listens(server.endpoint) for server in servers), "a member outlives the thread that started it"
    finally:
        for server in servers:
            server.close()


def test_a_port_stays_its_own_while_the_member_is_down() -> None:
    with Server() as server:
        server.kill()
        host, port = server.endpoint.removeprefix("http://").split(":")
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind((host, int(port)))


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_it_does_not_outlive_a_process_that_is_killed(end: signal.Signals, temporary: Path) -> None:
    program = """
        import keystead, time
        server = keystead.Server().start()
        print(server.pid, flush=True)
        time.sleep(1000)
    """
    with run_python(program, temporary) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert runs(pid)
        parent.send_signal(end)
        parent.wait()
        wait_until(lambda: not runs(pid), "the member has ended")


@pytest.mark.parametrize("ending", ["", "del server; import gc; gc.collect(); input()", "raise SystemExit(3)"])
def test_it_ends_with_its_last_reference_and_with_the_interpreter(ending: str, temporary: Path) -> None:
    program = f"""
        import keystead
        server = keystead.Server().start()
        print(server.pid, server.directory, flush=True)
        {ending}
    """
    with run_python(program, temporary) as parent:
        assert parent.stdout is not None
        pid, directory = parent.stdout.readline().split()
        wait_until(lambda: not runs(int(pid)), "the member has ended")
        wait_until(lambda: not Path(directory).parent.exists(), "its directory is gone")


def test_a_forked_child_neither_ends_it_nor_keeps_it(temporary: Path) -> None:
    program = """
        import os, sys, time
        import keystead
        server = keystead.Server().start()
        child = os.fork()
        if child == 0:
            assert server.pid is None
            assert server.endpoint
            server.close()
            os._exit(0) if sys.stdin.readline() else time.sleep(1000)
        print(server.pid, child, flush=True)
        os.kill(server.pid, 0)
        time.sleep(1000)
    """
    with run_python(program, temporary) as parent:
        assert parent.stdout is not None
        pid, child = map(int, parent.stdout.readline().split())
        assert runs(pid)
        try:
            parent.kill()
            wait_until(lambda: not runs(pid), "the member ends though the child lives")
            assert runs(child)
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_member_that_refuses_to_start_shows_its_log() -> None:
    server = Server(arguments=["--heartbeat-interval=0"])
    with pytest.raises(ServerStartError, match="ended with 1") as raised:
        server.start()
    assert "--heartbeat-interval must be >0" in raised.value.log
    assert "--heartbeat-interval must be >0" in str(raised.value)
    assert server.pid is None
    server.close()


def test_a_member_that_never_serves_is_ended(tmp_path: Path) -> None:
    binary = fake_binary(tmp_path, "echo $$; exec sleep 1000")
    server = Server(binary=binary, start_timeout=0.3)
    with pytest.raises(ServerStartError, match=r"does not serve after 0\.3 s") as raised:
        server.start()
    assert is_gone(int(raised.value.log))
    server.close()


def test_arguments_and_variables_reach_the_member(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_NAME", "from the shell")
    with Server(arguments=["--max-txn-ops=3"], environment={"ETCD_MAX_LEARNERS": "2"}) as server:
        assert server.pid is not None
        words = Path(f"/proc/{server.pid}/cmdline").read_bytes().split(b"\0")
        assert b"--max-txn-ops=3" in words
        variables = Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")
        assert b"ETCD_MAX_LEARNERS=2" in variables
        assert not any(variable.startswith(b"ETCD_NAME=") for variable in variables)


def test_the_binary_is_found_by_argument_then_variable_then_wheel_then_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def started() -> str:
        server = Server(start_timeout=PATIENCE)
        with pytest.raises(ServerStartError) as raised:
            server.start()
        server.close()
        return raised.value.log.strip()

    fake_binary(tmp_path, "echo on PATH; exit 1")
    named = fake_binary(tmp_path, "echo named; exit 1", "named")
    monkeypatch.setenv("KEYSTEAD_BIN", str(named))
    assert started() == "named"
    with pytest.raises(ServerStartError, match="argument"):
        Server(binary=fake_binary(tmp_path, "echo argument; exit 1", "argument")).start()

    monkeypatch.delenv("KEYSTEAD_BIN")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    wheel = type(sys)("keystead_server")
    monkeypatch.setitem(sys.modules, "keystead_server", wheel)
    wheel.find_keystead = lambda: fake_binary(tmp_path, "echo wheel; exit 1", "wheel")  # type: ignore[attr-defined]
    assert started() == "wheel"
    monkeypatch.setitem(sys.modules, "keystead_server", None)
    assert started() == "on PATH"

    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(FileNotFoundError, match=re.escape("pip install keystead[server]")):
        Server().start()


def test_a_binary_that_is_none_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match=r"binary names no program.*/nowhere/keystead"):
        Server(binary="/nowhere/keystead").start()
    monkeypatch.setenv("KEYSTEAD_BIN", "/nowhere/else")
    with pytest.raises(FileNotFoundError, match=r"KEYSTEAD_BIN names no program.*/nowhere/else"):
        Server().start()


def test_arguments_of_the_wrong_kind_are_refused_at_once() -> None:
    with pytest.raises(TypeError, match="list of words"):
        Server(arguments="--max-txn-ops=3")
    with pytest.raises(ValueError, match="start_timeout"):
        Server(start_timeout=0)


def test_a_long_temporary_directory_is_no_hindrance(tmp_path: Path) -> None:
    long = tmp_path / ("long" * 30)
    long.mkdir()
    program = """
        import keystead
        with keystead.Server() as server:
            print(server.pid, flush=True)
    """
    with run_python(program, long) as started:
        assert started.wait() == 0


def test_its_clients_take_the_options_of_every_client(server: Server) -> None:
    """Type checkers know them: a wrong one is ignored here, and mypy refuses to ignore what is none."""
    for kind, options in [(Client, ClientOptions), (AsyncClient, ConnectOptions)]:
        taken = set(inspect.signature(kind).parameters) - {"endpoints"}
        assert taken == set(inspect.get_annotations(ConnectOptions)) | set(inspect.get_annotations(options))
    with server.client(deadline="30s", namespace=b"typed/", lazy=True) as client:
        client.put("k", "v")
    with pytest.raises(TypeError):
        server.client(dead_line="30s")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        server.client(deadline=[])  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        server.async_client(lazy=True)  # type: ignore[call-arg]
