from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from ._cache import AsyncCache, Cache
from ._election import AsyncElection, Election
from ._lock import AsyncGuard, AsyncLock, Guard, Lock
from ._modes import Opening
from ._native import Compare, DeleteResult, Header, KeyValue, Op, PutResult, RangeResult, TxnResult
from ._operate import AsyncAuth, AsyncCluster, AsyncMaintenance, Auth, Cluster, Maintenance
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
from ._session import AsyncLease, AsyncSession, Lease, Session
from ._stm import AsyncStm, Stm
from ._values import Data, HasLease, Length
from ._watch import AsyncScan, AsyncWatch, Scan, Watch

_T = TypeVar("_T")

class Client:
    def __init__(
        self,
        endpoints: str | Iterable[str] | None = None,
        *,
        user: str | None = None,
        password: str | None = None,
        ca: str | None = None,
        cert: str | None = None,
        key: str | None = None,
        server_name: str | None = None,
        insecure_skip_verify: bool | None = None,
        namespace: Data | None = None,
        deadline: Length | None = None,
        requires_leader: bool | None = None,
        dial_timeout: Length | None = None,
        sync_interval: Length | None = None,
        nameservers: Sequence[str] | None = None,
        from_env: bool = False,
        lazy: bool = False,
    ) -> None: ...
    def get(self, key: Data) -> KeyValue | None: ...
    def range(
        self,
        key: Data | None = None,
        *,
        end: Data | None = None,
        prefix: Data | None = None,
        from_key: Data | None = None,
        limit: int = 0,
        revision: int = 0,
        sort_by: Literal["key", "version", "create_revision", "mod_revision", "value"] | None = None,
        descending: bool = False,
        serializable: bool = False,
        keys_only: bool = False,
        count_only: bool = False,
        min_mod_revision: int = 0,
        max_mod_revision: int = 0,
        min_create_revision: int = 0,
        max_create_revision: int = 0,
    ) -> RangeResult: ...
    def scan(
        self,
        key: Data | None = None,
        *,
        end: Data | None = None,
        prefix: Data | None = None,
        from_key: Data | None = None,
        revision: int = 0,
        page: int = 0,
        keys_only: bool = False,
        serializable: bool = False,
    ) -> Scan: ...
    def put(
        self,
        key: Data,
        value: Data | None = None,
        *,
        lease: int | HasLease | None = None,
        prev_kv: bool = False,
        ignore_value: bool = False,
        ignore_lease: bool = False,
        if_mod_revision: int | None = None,
        if_value: Data | None = None,
        if_missing: bool = False,
        if_present: bool = False,
    ) -> PutResult: ...
    def delete(
        self,
        key: Data | None = None,
        *,
        end: Data | None = None,
        prefix: Data | None = None,
        from_key: Data | None = None,
        prev_kv: bool = False,
        if_mod_revision: int | None = None,
        if_value: Data | None = None,
    ) -> DeleteResult: ...
    def txn(
        self,
        when: Sequence[Compare] = (),
        then: Sequence[Op] = (),
        otherwise: Sequence[Op] = (),
        *,
        once: bool = False,
    ) -> TxnResult: ...
    def update(
        self,
        key: Data,
        decide: Callable[[KeyValue | None], Data | None],
        *,
        lease: int | HasLease | None = None,
    ) -> Header: ...
    def stm(
        self,
        work: Callable[[Stm], _T],
        *,
        isolation: Literal[
            "serializable_snapshot", "serializable", "repeatable_reads", "read_committed"
        ] = "serializable_snapshot",
    ) -> _T: ...
    def compact(self, revision: int, *, physical: bool = False) -> Header: ...
    def watch(
        self,
        key: Data | None = None,
        *,
        end: Data | None = None,
        prefix: Data | None = None,
        from_key: Data | None = None,
        start_revision: int = 0,
        state_first: bool = False,
        prev_kv: bool = False,
        no_put: bool = False,
        no_delete: bool = False,
        progress: bool = False,
        buffer_bytes: int = 0,
        on_gap: Literal["reset", "diff", "fail"] = "reset",
        most_keys: int = 100_000,
    ) -> Watch: ...
    def session(self, ttl: Length = 10) -> Session: ...
    def lease(self, ttl: Length) -> Lease: ...
    def revoke(self, lease: int | HasLease) -> Header: ...
    def leases(self) -> list[int]: ...
    def lock(
        self,
        name: Data,
        *,
        timeout: Length | None = None,
        ttl: Length | None = None,
        session: Session | None = None,
    ) -> Lock: ...
    def try_lock(self, name: Data, *, ttl: Length | None = None, session: Session | None = None) -> Guard | None: ...
    def rwlock(self, name: Data, *, ttl: Length | None = None, session: Session | None = None) -> RwLock: ...
    def semaphore(
        self, name: Data, permits: int, *, ttl: Length | None = None, session: Session | None = None
    ) -> Semaphore: ...
    def barrier(self, name: Data) -> Barrier: ...
    def queue(self, name: Data) -> Queue: ...
    def election(self, name: Data, *, ttl: Length | None = None, session: Session | None = None) -> Election: ...
    def register(
        self, service: Data, address: str, *, metadata: Any = None, ttl: Length | None = None
    ) -> Registration: ...
    def resolve(self, service: Data) -> Resolver: ...
    def cache(
        self,
        key: Data | None = None,
        *,
        end: Data | None = None,
        prefix: Data | None = None,
        from_key: Data | None = None,
        most_bytes: int = 0,
    ) -> Cache: ...
    @property
    def maintenance(self) -> Maintenance: ...
    @property
    def cluster(self) -> Cluster: ...
    @property
    def auth(self) -> Auth: ...
    @property
    def endpoints(self) -> list[str]: ...
    @property
    def closed(self) -> bool: ...
    def namespace(self, prefix: Data) -> Self: ...
    def with_options(self, *, deadline: Length | None = None, requires_leader: bool | None = None) -> Self: ...
    def at(self, endpoint: str) -> Self: ...
    def sync_endpoints(self) -> list[str]: ...
    @property
    def aio(self) -> AsyncClient: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

class AsyncClient:
    def __init__(
        self,
        endpoints: str | Iterable[str] | None = None,
        *,
        user: str | None = None,
        password: str | None = None,
        ca: str | None = None,
        cert: str | None = None,
        key: str | None = None,
        server_name: str | None = None,
        insecure_skip_verify: bool | None = None,
        namespace: Data | None = None,
        deadline: Length | None = None,
        requires_leader: bool | None = None,
        dial_timeout: Length | None = None,
        sync_interval: Length | None = None,
        nameservers: Sequence[str] | None = None,
        from_env: bool = False,
    ) -> None: ...
    def get(self, key: Data) -> Coroutine[Any, Any, KeyValue | None]: ...
    def range(
        self,
        key: Data | None = None,
        *,
        end: Data | None = None,
        prefix: Data | None = None,
        from_key: Data | None = None,
        limit: int = 0,
        revision: int = 0,
        sort_by: Literal["key", "version", "create_revision", "mod_revision", "value"] | None = None,
        descending: bool = False,
        serializable: bool = False,
        keys_only: bool = False,
        count_only: bool = False,
        min_mod_revision: int = 0,
        max_mod_revision: int = 0,
        min_create_revision: int = 0,
        max_create_revision: int = 0,
    ) -> Coroutine[Any, Any, RangeResult]: ...
    def scan(
        self,
        key: Data | None = None,
        *,
        end: Data | None = None,
        prefix: Data | None = None,
        from_key: Data | None = None,
        revision: int = 0,
        page: int = 0,
        keys_only: bool = False,
        serializable: bool = False,
    ) -> AsyncScan: ...
    def put(
        self,
        key: Data,
        value: Data | None = None,
        *,
        lease: int | HasLease | None = None,
        prev_kv: bool = False,
        ignore_value: bool = False,
        ignore_lease: bool = False,
        if_mod_revision: int | None = None,
        if_value: Data | None = None,
        if_missing: bool = False,
        if_present: bool = False,
    ) -> Coroutine[Any, Any, PutResult]: ...
    def delete(
        self,
        key: Data | None = None,
        *,
        end: Data | None = None,
        prefix: Data | None = None,
        from_key: Data | None = None,
        prev_kv: bool = False,
        if_mod_revision: int | None = None,
        if_value: Data | None = None,
    ) -> Coroutine[Any, Any, DeleteResult]: ...
    def txn(
        self,
        when: Sequence[Compare] = (),
        then: Sequence[Op] = (),
        otherwise: Sequence[Op] = (),
        *,
        once: bool = False,
    ) -> Coroutine[Any, Any, TxnResult]: ...
    async def update(
        self,
        key: Data,
        decide: Callable[[KeyValue | None], Data | None],
        *,
        lease: int | HasLease | None = None,
    ) -> Header: ...
    async def stm(
        self,
        work: Callable[[AsyncStm], Awaitable[_T]],
        *,
        isolation: Literal[
            "serializable_snapshot", "serializable", "repeatable_reads", "read_committed"
        ] = "serializable_snapshot",
    ) -> _T: ...
    def compact(self, revision: int, *, physical: bool = False) -> Coroutine[Any, Any, Header]: ...
    def watch(
        self,
        key: Data | None = None,
        *,
        end: Data | None = None,
        prefix: Data | None = None,
        from_key: Data | None = None,
        start_revision: int = 0,
        state_first: bool = False,
        prev_kv: bool = False,
        no_put: bool = False,
        no_delete: bool = False,
        progress: bool = False,
        buffer_bytes: int = 0,
        on_gap: Literal["reset", "diff", "fail"] = "reset",
        most_keys: int = 100_000,
    ) -> Opening[AsyncWatch]: ...
    def session(self, ttl: Length = 10) -> Opening[AsyncSession]: ...
    def lease(self, ttl: Length) -> Coroutine[Any, Any, AsyncLease]: ...
    def revoke(self, lease: int | HasLease) -> Coroutine[Any, Any, Header]: ...
    def leases(self) -> Coroutine[Any, Any, list[int]]: ...
    def lock(
        self,
        name: Data,
        *,
        timeout: Length | None = None,
        ttl: Length | None = None,
        session: AsyncSession | None = None,
    ) -> AsyncLock: ...
    def try_lock(
        self, name: Data, *, ttl: Length | None = None, session: AsyncSession | None = None
    ) -> Coroutine[Any, Any, AsyncGuard | None]: ...
    def rwlock(self, name: Data, *, ttl: Length | None = None, session: AsyncSession | None = None) -> AsyncRwLock: ...
    def semaphore(
        self, name: Data, permits: int, *, ttl: Length | None = None, session: AsyncSession | None = None
    ) -> AsyncSemaphore: ...
    def barrier(self, name: Data) -> AsyncBarrier: ...
    def queue(self, name: Data) -> AsyncQueue: ...
    def election(
        self, name: Data, *, ttl: Length | None = None, session: AsyncSession | None = None
    ) -> AsyncElection: ...
    def register(
        self, service: Data, address: str, *, metadata: Any = None, ttl: Length | None = None
    ) -> Opening[AsyncRegistration]: ...
    def resolve(self, service: Data) -> Opening[AsyncResolver]: ...
    def cache(
        self,
        key: Data | None = None,
        *,
        end: Data | None = None,
        prefix: Data | None = None,
        from_key: Data | None = None,
        most_bytes: int = 0,
    ) -> Opening[AsyncCache]: ...
    @property
    def maintenance(self) -> AsyncMaintenance: ...
    @property
    def cluster(self) -> AsyncCluster: ...
    @property
    def auth(self) -> AsyncAuth: ...
    @property
    def endpoints(self) -> list[str]: ...
    @property
    def closed(self) -> bool: ...
    def namespace(self, prefix: Data) -> Self: ...
    def with_options(self, *, deadline: Length | None = None, requires_leader: bool | None = None) -> Self: ...
    def at(self, endpoint: str) -> Coroutine[Any, Any, Self]: ...
    def sync_endpoints(self) -> Coroutine[Any, Any, list[str]]: ...
    @property
    def sync(self) -> Client: ...
    async def close(self) -> None: ...
    async def __aenter__(self) -> Self: ...
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
