"""The exceptions: one tree under `KeysteadError`, and the native class too where Python has one."""

import enum
from typing import Any


class Outcome(enum.Enum):
    """Whether a call that failed changed anything."""

    NOT_APPLIED = "not_applied"
    """It surely changed nothing and never will."""
    APPLIED = "applied"
    """It was done, though the call failed."""
    UNKNOWN = "unknown"
    """It may have been done, or may yet be. The client never sends such a call again by itself."""


class KeysteadError(Exception):
    """What every call may raise.

    `outcome` says whether the call changed anything, `retryable` that the same call may be sent again (it could succeed, and cannot be
    done twice), `code` is the gRPC code as a number, `endpoint` who answered, or "".
    """

    outcome: Outcome = Outcome.NOT_APPLIED
    retryable: bool = False
    code: int = 2
    endpoint: str = ""

    def __str__(self) -> str:
        text = str(self.args[0]) if self.args else ""
        if self.endpoint:
            text += f" (from {self.endpoint})"
        if self.outcome is Outcome.UNKNOWN:
            text += "; whether it was applied is unknown"
        elif self.outcome is Outcome.APPLIED:
            text += "; it was applied"
        return text


class Unavailable(KeysteadError, ConnectionError):
    """No member could be reached, or the one reached could not serve."""


class DeadlineExceeded(KeysteadError, TimeoutError):
    """The call's deadline passed, or the time that the caller wanted to wait."""


class LockTimeout(DeadlineExceeded):
    """The lock was not free in the time that the caller wanted to wait. Nothing is held, and nothing waits any more."""


class Cancelled(KeysteadError):
    """The server gave the call up."""


class Compacted(KeysteadError):
    """The revision asked for has been compacted."""


class FutureRevision(KeysteadError):
    """The revision asked for is above the store's."""


class LeaseNotFound(KeysteadError, LookupError):
    """There is no such lease, or the session is over."""


class SessionLost(LeaseNotFound):
    """The session ended while its block ran."""


class LockLost(KeysteadError):
    """The lock or the leadership is no longer held. What was guarded by it was not written."""


class NotLeader(KeysteadError):
    """Only the leader does this."""


class Unauthenticated(KeysteadError, PermissionError):
    """The token or the password was refused."""


class PermissionDenied(KeysteadError, PermissionError):
    """The user may not do this."""


class NoSpace(KeysteadError):
    """The store is full."""


class TooManyRequests(KeysteadError):
    """The server has more than it can keep up with."""


class TooLarge(KeysteadError):
    """The request is larger than the server takes, or a cache than it may be."""


class InvalidArgument(KeysteadError, ValueError):
    """The request can never succeed as it is."""


class NotFound(KeysteadError, LookupError):
    """What was asked for by name is not there."""


class FailedPrecondition(KeysteadError):
    """The state of the server does not allow it."""


class CompareFailed(KeysteadError):
    """A key was not as expected. `current` is how it is: a `KeyValue`, or None when it is not there."""

    current: Any = None


class Unimplemented(KeysteadError, NotImplementedError):
    """This server does not have the call."""


class Corrupt(KeysteadError):
    """The server's data is damaged."""


class FileFailed(KeysteadError, OSError):
    """A file here could not be read or written."""


class Closed(KeysteadError):
    """The client was closed, or the process is about to end."""


class Forked(KeysteadError):
    """It belongs to the process that this one was forked from; make another here."""


class Internal(KeysteadError):
    """A bug, here or there."""


# By the facade's numbers, which never change.
_KINDS: dict[int, type[KeysteadError]] = {
    1: Unavailable,
    2: DeadlineExceeded,
    3: Cancelled,
    4: Compacted,
    5: FutureRevision,
    6: LeaseNotFound,
    7: LockLost,
    8: NotLeader,
    9: Unauthenticated,
    10: PermissionDenied,
    11: NoSpace,
    12: TooManyRequests,
    13: TooLarge,
    14: InvalidArgument,
    15: NotFound,
    16: FailedPrecondition,
    17: CompareFailed,
    18: Unimplemented,
    19: Corrupt,
    20: FileFailed,
    21: Closed,
    22: Internal,
    23: LockTimeout,
    24: Forked,
    25: Cancelled,
}


def from_native(
    kind: int, message: str, code: int, outcome: str, retryable: bool, endpoint: str, current: Any
) -> KeysteadError:
    """The exception for an error of the native half, which calls this."""
    error = _KINDS.get(kind, Internal)(message)
    error.code = code
    error.outcome = Outcome(outcome)
    error.retryable = retryable
    error.endpoint = endpoint
    if isinstance(error, CompareFailed):
        error.current = current
    return error
