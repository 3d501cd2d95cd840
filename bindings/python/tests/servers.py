"""Members for tests: Keystead's, and etcd's where tests/oracle/build has been run. Both take the same flags."""

import os
import pathlib
import signal
import socket
import time

import keystead

REPOSITORY = pathlib.Path(__file__).parents[3]
ETCD = REPOSITORY / "tests/oracle/bin/etcd"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def stop(process):
    """Has a process stand still, whoever started it."""
    os.kill(process, signal.SIGSTOP)
    # A signal is sent before it is followed: a thread that runs goes on until it is told.
    until(lambda: states(process) == {"T"}, "halt")


def states(process):
    """Those of its threads, in the system's letters."""
    threads = pathlib.Path(f"/proc/{process}/task").iterdir()
    return {(thread / "stat").read_text().rpartition(")")[2].split()[0] for thread in threads}


class Member:
    """A member of its own cluster, on ports that nobody else has."""

    def __init__(self, kind):
        self.kind = kind
        self.server = keystead.Server(binary=ETCD if kind == "etcd" else None).start()
        self.url = self.server.endpoint

    def start(self):
        self.server.start()

    def kill(self):
        """Ends it as a power cut does."""
        self.server.kill()

    def pause(self):
        stop(self.server.pid)

    def resume(self):
        os.kill(self.server.pid, signal.SIGCONT)

    def close(self):
        # Also when it is paused.
        self.kill()
        self.server.close()


def until(condition, what, limit=60.0):
    """Waits for a condition, as long as a busy machine needs."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {limit} s"
        time.sleep(0.01)
