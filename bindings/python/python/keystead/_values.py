"""Plain values: what is compared and done in a transaction, and the rarer answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple, Protocol, TypeAlias, TypedDict

from . import _native
from ._native import Compare, Header, KeyValue, Op

Data: TypeAlias = str | bytes | bytearray
"""A key, a value or a name: `str` stands for its UTF-8."""

Length: TypeAlias = float | str | timedelta
"""A length of time: seconds as a number, a `timedelta`, or a text such as "10s", "500ms" or "1h30m"."""


class ConnectOptions(TypedDict, total=False):
    """How a client connects, whichever its face. See `Client`."""

    user: str | None
    password: str | None
    ca: str | None
    cert: str | None
    key: str | None
    server_name: str | None
    insecure_skip_verify: bool | None
    namespace: Data | None
    deadline: Length | None
    requires_leader: bool | None
    dial_timeout: Length | None
    sync_interval: Length | None
    nameservers: Sequence[str] | None
    from_env: bool


class ClientOptions(ConnectOptions, total=False):
    """How a `Client` connects, and whether with its first call alone."""

    lazy: bool


class HasLease(Protocol):
    """A lease, a session, a guard."""

    @property
    def lease(self) -> int: ...


class Key:
    """A key, or the keys below a prefix, to be compared in a transaction.

    >>> Key("config").mod_revision == 7
    >>> Key("owner").missing()

    A compare over a prefix holds when it does for each key that is there.
    """

    __slots__ = ("_end", "_key", "_prefix")

    def __init__(self, key: Data | None = None, *, end: Data | None = None, prefix: Data | None = None) -> None:
        self._key, self._end, self._prefix = key, end, prefix

    @property
    def value(self) -> Operand:
        """The value, byte by byte. A compare with the value of a key that is not there fails."""
        return Operand(self, "value")

    @property
    def version(self) -> Operand:
        """How often it was written since it was created; 0 when it is not there."""
        return Operand(self, "version")

    @property
    def create_revision(self) -> Operand:
        """The revision at which it was created; 0 when it is not there."""
        return Operand(self, "create_revision")

    @property
    def mod_revision(self) -> Operand:
        """The revision of the last write to it; 0 when it is not there."""
        return Operand(self, "mod_revision")

    @property
    def lease(self) -> Operand:
        """The lease that it is attached to; 0 for none."""
        return Operand(self, "lease")

    def exists(self) -> Compare:
        """The key is there."""
        return self.create_revision > 0

    def missing(self) -> Compare:
        """The key is not there."""
        return self.create_revision == 0


class Operand:
    """Something of a key: `==`, `!=`, `<` or `>` make a compare of it."""

    __slots__ = ("_field", "_key")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, key: Key, field: str) -> None:
        self._key, self._field = key, field

    def _compare(self, relation: str, operand: object) -> Compare:
        key = self._key
        return Compare(key._key, key._end, key._prefix, self._field, relation, operand)

    def __eq__(self, other: object) -> Compare:  # type: ignore[override]
        return self._compare("==", other)

    def __ne__(self, other: object) -> Compare:  # type: ignore[override]
        return self._compare("!=", other)

    def __lt__(self, other: object) -> Compare:
        return self._compare("<", other)

    def __gt__(self, other: object) -> Compare:
        return self._compare(">", other)


def Put(
    key: Data,
    value: Data | None = None,
    *,
    lease: int | HasLease | None = None,
    prev_kv: bool = False,
    ignore_value: bool = False,
    ignore_lease: bool = False,
) -> Op:
    """A write, within a transaction. See `Client.put`."""
    return Op.put(key, value, lease, prev_kv, ignore_value, ignore_lease)


def Get(
    key: Data | None = None,
    *,
    end: Data | None = None,
    prefix: Data | None = None,
    from_key: Data | None = None,
    limit: int = 0,
    sort_by: str | None = None,
    descending: bool = False,
    keys_only: bool = False,
    count_only: bool = False,
) -> Op:
    """A read, within a transaction. See `Client.range`."""
    return Op.get(key, end, prefix, from_key, limit, sort_by, descending, keys_only, count_only)


def Delete(
    key: Data | None = None,
    *,
    end: Data | None = None,
    prefix: Data | None = None,
    from_key: Data | None = None,
    prev_kv: bool = False,
) -> Op:
    """A removal, within a transaction. See `Client.delete`."""
    return Op.delete(key, end, prefix, from_key, prev_kv)


def Txn(when: Sequence[Compare] = (), then: Sequence[Op] = (), otherwise: Sequence[Op] = ()) -> Op:
    """A transaction within a transaction. See `Client.txn`."""
    return Op.txn(list(when), list(then), list(otherwise))


class Lag(NamedTuple):
    """How far behind a watch or a cache is."""

    revision: int
    """Everything up to here has been told; 0 while nothing is known."""
    staleness: float
    """So many seconds ago it was certain, last, that what was told is all there is."""
    buffered_bytes: int
    """What waits to be taken."""
    connected: bool
    """It is on a stream at this moment."""


class State(NamedTuple):
    """What a session or a lock is worth at this moment, by the clock."""

    name: str
    """"active", "suspect" (a renewal is overdue) or "lost"."""
    loss: str | None
    """Why it is lost: "expired", "revoked", "forgotten", "auth_failed", "paused" or "forked"."""


class TimeToLive(NamedTuple):
    """What a lease has left."""

    lease: int
    remaining: float | None
    """Seconds; None when there is no such lease."""
    granted: float
    """Seconds."""
    keys: list[bytes]
    """What is attached to it, when that was asked for."""


class LeaderEvent(NamedTuple):
    """What an observer of an election is told."""

    kind: str
    """"leader", "no_leader" or "disconnected" (what was told last may no longer be so)."""
    kv: KeyValue | None
    """The leader's key: its value is what was proclaimed last, its create revision the term."""

    @property
    def value(self) -> bytes | None:
        """What the leader proclaimed last; None when nobody is known to lead."""
        return None if self.kv is None else self.kv.value


class Endpoint(NamedTuple):
    """Where a service can be reached."""

    address: str
    metadata: Any = None
    """Whatever JSON can say."""


class RegistrationState(NamedTuple):
    """Whether a registration can be found."""

    name: str
    """"registered" or "lost" (it is being registered again)."""
    revision: int | None
    """Since when it is registered."""
    loss: str | None
    """Why it was lost, or had to be registered again."""


class CacheNotice(NamedTuple):
    """What a subscriber of a cache is told."""

    kind: str
    """"state": all keys as they are, in `kvs`; "changes": what has changed since, in `events`."""
    revision: int
    kvs: list[KeyValue]
    events: list[_native.Event]


class Status(NamedTuple):
    """How a member is."""

    header: Header
    version: str
    storage_version: str
    db_size_bytes: int
    db_size_in_use_bytes: int
    db_size_quota_bytes: int
    leader: int
    raft_index: int
    raft_applied_index: int
    raft_term: int
    is_learner: bool
    errors: list[str]


class Hash(NamedTuple):
    """The hash of what a member has."""

    header: Header
    hash: int
    compact_revision: int
    revision: int


class Alarm(NamedTuple):
    """What is wrong with a member."""

    member_id: int
    kind: str
    """"no_space" or "corrupt"."""


class SavedSnapshot(NamedTuple):
    """A snapshot in a file."""

    size_bytes: int
    digest: bytes
    """SHA-256."""
    version: str
    """Of what is stored in it; "" where the server does not say."""


class Member(NamedTuple):
    """One member of the cluster."""

    id: int
    name: str
    peer_urls: list[str]
    client_urls: list[str]
    is_learner: bool


class AuthStatus(NamedTuple):
    """Whether users are asked who they are."""

    enabled: bool
    revision: int


class Permission(NamedTuple):
    """What a role may do to which keys."""

    access: str
    """"read", "write" or "readwrite"."""
    key: bytes
    end: bytes
    """As in etcd: empty for the key alone, one zero byte for every key from it on."""


def endpoint(found: tuple[str, str]) -> Endpoint:
    """From the native half."""
    return Endpoint(found[0], json.loads(found[1]))


def endpoints(found: Sequence[tuple[str, str]]) -> list[Endpoint]:
    """From the native half."""
    return [endpoint(each) for each in found]


def status(found: Any) -> Status:
    """From the native half."""
    header, versions, sizes, leader, raft, is_learner, errors = found
    return Status._make((header, *versions, *sizes, leader, *raft, is_learner, errors))


def cache_notice(found: Any) -> CacheNotice:
    """From the native half."""
    kind, revision, told = found
    return CacheNotice(kind, revision, told if kind == "state" else [], told if kind == "changes" else [])


Notice: TypeAlias = (
    _native.Events | _native.Progress | _native.Disconnected | _native.Resumed | _native.Reset | _native.Diff
)
"""What a watch tells."""
