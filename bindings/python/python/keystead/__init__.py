"""A client of Keystead and of every etcd from 3.4 on.

>>> import keystead
>>> with keystead.Client("http://127.0.0.1:2379") as client:
...     client.put("greeting", "hello")
...     with client.lock("locks/report", timeout="5s") as guard:
...         guard.put("report", "written by the one who may")

`AsyncClient` is the same for asyncio. Exceptions form a tree under `KeysteadError`. What happens within, such as connections that come and
go, is told to the logger "keystead" of `logging`.
"""

import atexit as _atexit

from . import _log, _native
from ._cache import AsyncCache, AsyncCacheSubscription, Cache, CacheSubscription
from ._client import AsyncClient, Client
from ._election import (
    AsyncElection,
    AsyncLeaderObserver,
    AsyncLeadership,
    Election,
    LeaderObserver,
    Leadership,
)
from ._errors import (
    Cancelled,
    Closed,
    Compacted,
    CompareFailed,
    Corrupt,
    DeadlineExceeded,
    FailedPrecondition,
    FileFailed,
    Forked,
    FutureRevision,
    Internal,
    InvalidArgument,
    KeysteadError,
    LeaseNotFound,
    LockLost,
    LockTimeout,
    NoSpace,
    NotFound,
    NotLeader,
    Outcome,
    PermissionDenied,
    SessionLost,
    TooLarge,
    TooManyRequests,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from ._lock import AsyncGuard, AsyncLock, Guard, Lock
from ._modes import Opening
from ._native import (
    Compare,
    DeleteResult,
    Diff,
    Disconnected,
    Event,
    Events,
    Header,
    KeyValue,
    Op,
    Progress,
    PutResult,
    RangeResult,
    Reset,
    Resumed,
    TxnResult,
)
from ._operate import (
    AsyncAuth,
    AsyncCluster,
    AsyncMaintenance,
    Auth,
    Cluster,
    Maintenance,
)
from ._recipes import (
    AsyncBarrier,
    AsyncQueue,
    AsyncRwLock,
    AsyncSemaphore,
    Barrier,
    Queue,
    RwLock,
    Semaphore,
)
from ._registry import AsyncRegistration, AsyncResolver, Registration, Resolver
from ._server import Server, ServerStartError
from ._session import AsyncLease, AsyncSession, Lease, Session
from ._stm import AsyncStm, Stm
from ._values import (
    Alarm,
    AuthStatus,
    CacheNotice,
    ClientOptions,
    ConnectOptions,
    Data,
    Delete,
    Endpoint,
    Get,
    Hash,
    HasLease,
    Key,
    Lag,
    LeaderEvent,
    Length,
    Member,
    Notice,
    Operand,
    Permission,
    Put,
    RegistrationState,
    SavedSnapshot,
    State,
    Status,
    TimeToLive,
    Txn,
)
from ._watch import AsyncScan, AsyncWatch, Scan, Watch

# Before the interpreter goes: the I/O thread never waits for it, and nothing waits for that thread afterwards. What that logs is the last
# that is told: the one that was registered first runs last.
_atexit.register(_log.end)
_atexit.register(_native.shut_down)


def set_io_threads(threads: int) -> None:
    """Has the library use so many I/O threads in this process and in its children; one until this is called, which is enough unless
    one core does not do for all that is sent and received. Before the first client is made.

    Raises:
        RuntimeError: there are I/O threads already; the number holds for children of this process alone.
    """
    if not _native.set_threads(threads):
        raise RuntimeError("the I/O threads run already: set their number before the first client is made")


__all__ = [
    "Alarm",
    "AsyncAuth",
    "AsyncBarrier",
    "AsyncCache",
    "AsyncCacheSubscription",
    "AsyncClient",
    "AsyncCluster",
    "AsyncElection",
    "AsyncGuard",
    "AsyncLeaderObserver",
    "AsyncLeadership",
    "AsyncLease",
    "AsyncLock",
    "AsyncMaintenance",
    "AsyncQueue",
    "AsyncRegistration",
    "AsyncResolver",
    "AsyncRwLock",
    "AsyncScan",
    "AsyncSemaphore",
    "AsyncSession",
    "AsyncStm",
    "AsyncWatch",
    "Auth",
    "AuthStatus",
    "Barrier",
    "Cache",
    "CacheNotice",
    "CacheSubscription",
    "Cancelled",
    "Client",
    "ClientOptions",
    "Closed",
    "Cluster",
    "Compacted",
    "Compare",
    "CompareFailed",
    "ConnectOptions",
    "Corrupt",
    "Data",
    "DeadlineExceeded",
    "Delete",
    "DeleteResult",
    "Diff",
    "Disconnected",
    "Election",
    "Endpoint",
    "Event",
    "Events",
    "FailedPrecondition",
    "FileFailed",
    "Forked",
    "FutureRevision",
    "Get",
    "Guard",
    "HasLease",
    "Hash",
    "Header",
    "Internal",
    "InvalidArgument",
    "Key",
    "KeyValue",
    "KeysteadError",
    "Lag",
    "LeaderEvent",
    "LeaderObserver",
    "Leadership",
    "Lease",
    "LeaseNotFound",
    "Length",
    "Lock",
    "LockLost",
    "LockTimeout",
    "Maintenance",
    "Member",
    "NoSpace",
    "NotFound",
    "NotLeader",
    "Notice",
    "Op",
    "Opening",
    "Operand",
    "Outcome",
    "Permission",
    "PermissionDenied",
    "Progress",
    "Put",
    "PutResult",
    "Queue",
    "RangeResult",
    "Registration",
    "RegistrationState",
    "Reset",
    "Resolver",
    "Resumed",
    "RwLock",
    "SavedSnapshot",
    "Scan",
    "Semaphore",
    "Server",
    "ServerStartError",
    "Session",
    "SessionLost",
    "State",
    "Status",
    "Stm",
    "TimeToLive",
    "TooLarge",
    "TooManyRequests",
    "Txn",
    "TxnResult",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Watch",
    "set_io_threads",
]
