"""Members for tests: Keystead's, and etcd's where tests/oracle/build has been run. Both take the same flags."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import keystead

REPOSITORY = pathlib.Path(__file__).parents[3]
ETCD = REPOSITORY / "tests/oracle/bin/etcd"


def keystead_binary():
    """The member's binary: KEYSTEAD_BIN, or the build of this repository."""
    if named := os.environ.get("KEYSTEAD_BIN"):
        return named
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    built = [target / kind / "keystead" for kind in ("release", "debug")]
    return next(str(binary) for binary in built if binary.exists())


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Member:
    """A member of its own cluster, on ports that nobody else has."""

    def __init__(self, kind):
        self.kind = kind
        self.directory = tempfile.mkdtemp(prefix=f"python-tests.{kind}")
        self.url = f"http://127.0.0.1:{free_port()}"
        self.peer_url = f"http://127.0.0.1:{free_port()}"
        self.process = None
        self.start()

    def start(self):
        program = [keystead_binary(), "serve"] if self.kind == "keystead" else [str(ETCD)]
        flags = [
            f"--data-dir={self.directory}/data",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--initial-cluster=default={self.peer_url}",
        ]
        with pathlib.Path(f"{self.directory}/log").open("ab") as log:
            self.process = subprocess.Popen([*program, *flags], stdout=log, stderr=log)
        until(self._serves, f"a member of {self.kind}")

    def _serves(self):
        assert self.process.poll() is None, pathlib.Path(f"{self.directory}/log").read_text()
        try:
            with keystead.Client(self.url) as client:
                return client.get("ready") is None
        except keystead.KeysteadError:
            return False

    def kill(self):
        """Ends it as a power cut does."""
        self.process.kill()
        self.process.wait()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def close(self):
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def until(condition, what, limit=60.0):
    """Waits for a condition, as long as a busy machine needs."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {limit} s"
        time.sleep(0.01)
