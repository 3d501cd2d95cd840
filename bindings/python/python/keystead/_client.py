"""The client, sync and asyncio: the same verbs over the same core."""

import json

from . import _log, _native
from ._cache import AsyncCache, Cache
from ._election import AsyncElection, Election
from ._lock import AsyncGuard, AsyncLock, Guard, Lock, perhaps
from ._modes import Blocking, OnLoop
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
from ._session import AsyncLease, AsyncSession, Lease, Session, SessionVerbs
from ._stm import AsyncStm, Stm
from ._watch import AsyncScan, AsyncWatch, Scan, Watch


class ClientVerbs:
    """A client of one Keystead or etcd cluster.

    Keys, values and names are `str`, which stands for its UTF-8, or `bytes`; what comes back is `bytes`. Lengths of time are
    seconds as a number, a `timedelta`, or a text such as "10s", "500ms" or "1h30m". Which keys a call is about is said in one
    way: `key`; `key` and `end`, the first key outside; `prefix`, where "" means every key; or `from_key`, which means every key
    from it on.

    Safe to use from any number of threads, or tasks, and in children of this process, which connect anew.

    Every call may raise a `KeysteadError`; wrong types and ranges raise `TypeError` and `ValueError` before anything is sent.
    """

    def __init__(self, native):
        self._native = native

    # Keys and values.

    def get(self, key):
        """Reads one key, linearizably: a `KeyValue`, or None when it is not there.

        >>> client.get("greeting").value
        b'hello'
        """
        return self._run(self._native.get(key))

    def range(
        self,
        key=None,
        *,
        end=None,
        prefix=None,
        from_key=None,
        limit=0,
        revision=0,
        sort_by=None,
        descending=False,
        serializable=False,
        keys_only=False,
        count_only=False,
        min_mod_revision=0,
        max_mod_revision=0,
        min_create_revision=0,
        max_create_revision=0,
    ):
        """Reads keys at one revision, 0 for the newest: a `RangeResult`, which can be iterated over.

        `limit` 0 means all; `sort_by` is "key", "version", "create_revision", "mod_revision" or "value"; `serializable` reads
        what the member that is asked has, which may lag. Raises `Compacted`, `FutureRevision`.
        """
        call = self._native.range(
            key,
            end,
            prefix,
            from_key,
            limit,
            revision,
            sort_by,
            descending,
            serializable,
            keys_only,
            count_only,
            min_mod_revision,
            max_mod_revision,
            min_create_revision,
            max_create_revision,
        )
        return self._run(call)

    def scan(
        self,
        key=None,
        *,
        end=None,
        prefix=None,
        from_key=None,
        revision=0,
        page=0,
        keys_only=False,
        serializable=False,
    ):
        """Reads a range of any size, in pages of `page` keys (500 by default), all at one revision: iterate over it.

        >>> for kv in client.scan(prefix="users/"):
        ...     print(kv.key)
        """
        native = self._native.scan(key, end, prefix, from_key, revision, page, keys_only, serializable)
        return self._Scan(native)

    def put(
        self,
        key,
        value=None,
        *,
        lease=None,
        prev_kv=False,
        ignore_value=False,
        ignore_lease=False,
        if_mod_revision=None,
        if_value=None,
        if_missing=False,
        if_present=False,
    ):
        """Writes one key: a `PutResult`. `lease` is a lease, a session or a lease's id; without one the key is attached to none.

        With a condition it is written only if it holds, else `CompareFailed` is raised, whose `current` is how the key is: its
        last write was at `if_mod_revision` (0: it is not there), it holds `if_value`, it is missing, or present.

        >>> client.put("owner", "me", if_missing=True)

        Raises `LeaseNotFound`, `NoSpace`, `TooLarge`.
        """
        call = self._native.put(
            key,
            value,
            lease,
            prev_kv,
            ignore_value,
            ignore_lease,
            if_mod_revision,
            if_value,
            if_missing,
            if_present,
        )
        return self._run(call)

    def delete(
        self,
        key=None,
        *,
        end=None,
        prefix=None,
        from_key=None,
        prev_kv=False,
        if_mod_revision=None,
        if_value=None,
    ):
        """Removes keys: a `DeleteResult`. That none is there is no error; with a condition, which is about one key,
        `CompareFailed` is raised unless it holds. See `put`."""
        call = self._native.delete(key, end, prefix, from_key, prev_kv, if_mod_revision, if_value)
        return self._run(call)

    def txn(self, when=(), then=(), otherwise=(), *, once=False):
        """Runs `then` when every compare of `when` holds, else `otherwise`, all at one revision: a `TxnResult`, which is not true
        or false by itself.

        >>> client.txn(
        ...     when=[Key("owner").missing()],
        ...     then=[Put("owner", "me")],
        ...     otherwise=[Get("owner")],
        ... ).succeeded

        With `once` it runs exactly once, whatever breaks: it is sent again until its end is known. That costs the write of a
        small key. `results` is None when the run's own answer was lost.
        """
        return self._run(self._native.txn(list(when), list(then), list(otherwise), once))

    def compact(self, revision, *, physical=False):
        """Forgets the history before a revision; with `physical` it waits until the rows are gone. Raises `Compacted`, `FutureRevision`."""
        return self._run(self._native.compact(revision, physical))

    # Watches.

    def watch(
        self,
        key=None,
        *,
        end=None,
        prefix=None,
        from_key=None,
        start_revision=0,
        state_first=False,
        prev_kv=False,
        no_put=False,
        no_delete=False,
        progress=False,
        buffer_bytes=0,
        on_gap="reset",
        most_keys=100_000,
    ):
        """Watches keys, from now on or from `start_revision`. When it returns, the watch has begun: whatever is written from then
        on is told.

        `state_first` begins with the keys as they are. `buffer_bytes` (4 MiB by default) is what may wait to be taken; a slow
        reader delays nobody and loses nothing. When history is missing, because it was compacted or the cluster restored,
        `on_gap` says what to do: "reset" tells the state anew; "diff" tells what differs, which takes `state_first` and remembers
        up to `most_keys` keys; "fail" ends with `Compacted`.

        >>> with client.watch(prefix="config/") as watch:
        ...     for event in watch.events():
        ...         print(event.kind, event.key, event.value)
        """
        call = self._native.watch(
            key,
            end,
            prefix,
            from_key,
            start_revision,
            state_first,
            prev_kv,
            no_put,
            no_delete,
            progress,
            buffer_bytes,
            on_gap,
            most_keys,
        )
        return self._open(call, self._Watch)

    # Leases and sessions.

    def session(self, ttl=10):
        """Grants a lease of `ttl`, a second or more, and keeps it alive: a context manager.

        >>> with client.session("10s") as session:
        ...     session.put("workers/1", "here for as long as this process")
        """
        return self._open(self._native.session(ttl), self._Session)

    def lease(self, ttl):
        """Grants a lease of `ttl`, a second or more, that nobody keeps alive.

        >>> client.put("invitation", "for a minute", lease=client.lease("1m"))
        """
        return self._run(self._native.grant(ttl), lambda granted: self._Lease(self._native, *granted))

    def revoke(self, lease):
        """Ends a lease, whoever granted it: a lease, a session or a lease's id. What is attached to it goes. Raises `LeaseNotFound`."""
        return self._run(self._native.revoke(lease))

    def leases(self):
        """The ids of all leases there are: a list."""
        return self._run(self._native.leases())

    # Locks, elections and the like.

    def lock(self, name, *, timeout=None, ttl=None, session=None):
        """A lock: a context manager, which gives a guard. Nothing is sent yet.

        Who waits longer than `timeout` gets `LockTimeout`. It is held by `session`, or by one that the client shares among all
        that has the same `ttl` (10 s by default): so long the others wait for a holder that died.

        >>> with client.lock("locks/report", timeout="5s") as guard:
        ...     guard.put("report", "written by the one who may")
        """
        if timeout is not None:
            timeout = _native.seconds(timeout)
        return self._Lock(self._native.lock(name, _native_of(session), ttl), timeout)

    def try_lock(self, name, *, ttl=None, session=None):
        """Takes a lock if it is free, and gives its guard, else None.

        >>> if guard := client.try_lock("locks/report"):
        ...     with guard:
        ...         guard.put("report", "written by the one who may")
        """
        return self._run(self._native.lock(name, _native_of(session), ttl).try_lock(), perhaps(self._Guard))

    def rwlock(self, name, *, ttl=None, session=None):
        """A reader-writer lock. Nothing is sent yet. `ttl` and `session` are as in `lock`.

        >>> with client.rwlock("locks/table").write(timeout="5s") as guard:
        ...     guard.put("table", "written by the one who may")
        """
        return self._RwLock(self._native.rwlock(name, _native_of(session), ttl))

    def semaphore(self, name, permits, *, ttl=None, session=None):
        """A semaphore. Nothing is sent yet. `ttl` and `session` are as in `lock`.

        >>> with client.semaphore("downloads", 3).acquire(timeout="1m"):
        ...     print("one of three")
        """
        return self._Semaphore(self._native.semaphore(name, permits, _native_of(session), ttl))

    def barrier(self, name):
        """A barrier. Nothing is sent yet.

        >>> client.barrier("deployment").wait(timeout="10m")
        """
        return self._Barrier(self._native.barrier(name))

    def queue(self, name):
        """A queue. Nothing is sent yet.

        >>> client.queue("jobs").enqueue("job 1")
        >>> client.queue("jobs").dequeue(timeout="10s")
        b'job 1'
        """
        return self._Queue(self._native.queue(name))

    def election(self, name, *, ttl=None, session=None):
        """An election. Nothing is sent yet. `ttl` and `session` are as in `lock`.

        >>> with client.election("elections/scheduler").campaign("10.0.0.1:8080") as leadership:
        ...     leadership.put("plan", "made by the one who leads")
        """
        return self._Election(self._native.election(name, _native_of(session), ttl))

    # Services and caches.

    def register(self, service, address, *, metadata=None, ttl=None):
        """Registers an address of a service, for `ttl` (10 s by default) longer than this process lives at most: a context
        manager. `metadata` is whatever JSON can say.

        >>> with client.register("services/api", "10.0.0.1:80", metadata={"zone": "a"}):
        ...     print("found by whoever resolves services/api")
        """
        call = self._native.register(service, address, json.dumps(metadata), ttl)
        return self._open(call, self._Registration)

    def resolve(self, service):
        """Follows where a service can be reached: a resolver, which is a context manager. What was registered before is known when it
        returns.

        >>> with client.resolve("services/api") as api:
        ...     if endpoint := api.pick():
        ...         print("ask", endpoint.address)
        """
        return self._open(self._native.resolve(service), self._Resolver)

    def cache(self, key=None, *, end=None, prefix=None, from_key=None, most_bytes=0):
        """Keeps keys in memory, in `most_bytes` (256 MiB by default): a mapping, and a context manager. They are there when it returns.

        >>> with client.cache(prefix="config/") as config:
        ...     print(config["config/color"].value)

        Raises `TooLarge`.
        """
        return self._open(self._native.cache(key, end, prefix, from_key, most_bytes), self._Cache)

    # The client itself.

    @property
    def maintenance(self):
        """What operators ask of a member."""
        return self._Maintenance(self._native)

    @property
    def cluster(self):
        """Who the members are."""
        return self._Cluster(self._native)

    @property
    def auth(self):
        """Users, roles and permissions."""
        return self._Auth(self._native)

    @property
    def endpoints(self):
        """The endpoints it was connected with: a list."""
        return self._native.endpoints

    @property
    def closed(self):
        """It was closed."""
        return self._native.closed

    def namespace(self, prefix):
        """The same client with a view of the keys below `prefix` alone, within the namespace it has. Closing either closes both."""
        return self._view(self._native.namespace(prefix))

    def with_options(self, *, deadline=None, requires_leader=None):
        """The same client with another deadline for its calls, or another wish for a leader. Closing either closes both."""
        return self._view(self._native.with_options(deadline, requires_leader))

    def at(self, endpoint):
        """A client of one endpoint alone, to ask a certain member. Connects with its first call."""
        return self._run(self._native.at(endpoint), self._view)

    def sync_endpoints(self):
        """Asks the members where clients are to connect, and has calls go there from now on: a list."""
        return self._run(self._native.sync_endpoints())

    @classmethod
    def _view(cls, native):
        view = cls.__new__(cls)
        ClientVerbs.__init__(view, native)
        return view

    def __repr__(self):
        return f"<{type(self).__name__} of {', '.join(self._native.endpoints)}>"


def _native_of(session):
    if session is None:
        return None
    if not isinstance(session, SessionVerbs):
        raise TypeError(f"expected a session, as Client.session gives one, not {type(session).__name__}")
    return session._native


def _opening(
    endpoints,
    user,
    password,
    ca,
    cert,
    key,
    server_name,
    insecure_skip_verify,
    namespace,
    deadline,
    requires_leader,
    dial_timeout,
    sync_interval,
    nameservers,
    from_env,
    lazy,
):
    """The call that opens a client."""
    _log.start()
    if isinstance(endpoints, str):
        endpoints = [endpoint.strip() for endpoint in endpoints.split(",")]
    elif isinstance(endpoints, bytes):
        raise TypeError("expected endpoints as str, such as 'http://127.0.0.1:2379', not bytes")
    elif endpoints is not None:
        endpoints = list(endpoints)
    return _native.Client.open(
        endpoints,
        user=user,
        password=password,
        ca=ca,
        cert=cert,
        key=key,
        server_name=server_name,
        insecure_skip_verify=insecure_skip_verify,
        namespace=namespace,
        deadline=deadline,
        requires_leader=requires_leader,
        dial_timeout=dial_timeout,
        sync_interval=sync_interval,
        nameservers=nameservers,
        from_env=from_env,
        lazy=lazy,
    )


class Client(ClientVerbs, Blocking):
    __doc__ = ClientVerbs.__doc__

    _Scan, _Watch, _Session, _Lease = Scan, Watch, Session, Lease
    _Lock, _Guard, _Election = Lock, Guard, Election
    _RwLock, _Semaphore, _Barrier, _Queue = RwLock, Semaphore, Barrier, Queue
    _Registration, _Resolver, _Cache = Registration, Resolver, Cache
    _Maintenance, _Cluster, _Auth = Maintenance, Cluster, Auth

    def __init__(
        self,
        endpoints=None,
        *,
        user=None,
        password=None,
        ca=None,
        cert=None,
        key=None,
        server_name=None,
        insecure_skip_verify=None,
        namespace=None,
        deadline=None,
        requires_leader=None,
        dial_timeout=None,
        sync_interval=None,
        nameservers=None,
        from_env=False,
        lazy=False,
    ):
        """Connects to one of the endpoints, chosen by chance; with `lazy`, with its first call.

        `endpoints` are a list, or a text with commas: "https://host:port", "http://host:port", "host:port", "unix:///path" or
        "srv://domain". `ca`, `cert` and `key` name files in PEM, which are read again for every new connection. `namespace` is
        put before every key. `deadline` (10 s) is how long a call may take, all attempts together; `requires_leader` (true)
        refuses a member without a leader; `dial_timeout` (2 s) is for one endpoint; `sync_interval` has the members asked for
        endpoints so often. With `from_env` the variables of etcdctl, ETCDCTL_ENDPOINTS and so on, say what is not said here.

        Raises `Unavailable` when every endpoint was tried and none answered, `InvalidArgument` when one cannot be read.
        """
        call = _opening(
            endpoints,
            user,
            password,
            ca,
            cert,
            key,
            server_name,
            insecure_skip_verify,
            namespace,
            deadline,
            requires_leader,
            dial_timeout,
            sync_interval,
            nameservers,
            from_env,
            lazy,
        )
        super().__init__(call.wait())

    def update(self, key, decide, *, lease=None):
        """Changes a key as `decide` says, given its `KeyValue` or None: it gives the value, or None to remove the key. When
        somebody else changes the key meanwhile, `decide` is asked again with the new state, after a wait that grows. `lease`
        attaches the key to a lease; without it the one it has stays.

        >>> client.update("visits", lambda now: str(1 + int(now.value if now else 0)))

        Raises `CompareFailed` when somebody else was faster 64 times in a row.
        """
        update = self._native.update(key)
        current = update.read().wait()
        while (done := update.write(decide(current), lease).wait()) is None:
            current = update.current()
        return done

    def stm(self, work, *, isolation="serializable_snapshot"):
        """Runs `work`, a function of a `Stm`, and does all that it writes at once, as if nobody else had been there.
        Gives what `work` gives. When something that it read has changed meanwhile it runs again, so it is to do nothing else but read
        and write there. When it raises, nothing is written.

        `isolation` is "serializable_snapshot": all reads are of one revision, and nobody has changed what was read or is written;
        "serializable": the same, but for what is written; "repeatable_reads": nobody has changed what was read; or "read_committed":
        nothing is compared.

        >>> def swap(stm):
        ...     left, right = stm.get("left"), stm.get("right")
        ...     stm.put("left", right)
        ...     stm.put("right", left)
        >>> client.stm(swap)

        Raises `CompareFailed` when somebody else was faster 64 times in a row.
        """
        runs = self._native.stm(isolation)
        while True:
            run = runs.begin().wait()
            done = work(Stm(run))
            if run.commit().wait():
                return done

    @property
    def aio(self):
        """The same client for asyncio: it shares the connection and everything else."""
        return AsyncClient._view(self._native)

    def close(self):
        """Ends its sessions, waiting a second at most for their leases to be given back, and refuses every later call with
        `Closed`. Closing it again does nothing."""
        self._run(self._native.close())

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.close()


class AsyncClient(ClientVerbs, OnLoop):
    __doc__ = ClientVerbs.__doc__

    _Scan, _Watch, _Session, _Lease = AsyncScan, AsyncWatch, AsyncSession, AsyncLease
    _Lock, _Guard, _Election = AsyncLock, AsyncGuard, AsyncElection
    _RwLock, _Semaphore, _Barrier, _Queue = AsyncRwLock, AsyncSemaphore, AsyncBarrier, AsyncQueue
    _Registration, _Resolver, _Cache = AsyncRegistration, AsyncResolver, AsyncCache
    _Maintenance, _Cluster, _Auth = AsyncMaintenance, AsyncCluster, AsyncAuth

    def __init__(
        self,
        endpoints=None,
        *,
        user=None,
        password=None,
        ca=None,
        cert=None,
        key=None,
        server_name=None,
        insecure_skip_verify=None,
        namespace=None,
        deadline=None,
        requires_leader=None,
        dial_timeout=None,
        sync_interval=None,
        nameservers=None,
        from_env=False,
    ):
        """The options are those of `Client`. Entering it connects; without that, its first call does."""
        call = _opening(
            endpoints,
            user,
            password,
            ca,
            cert,
            key,
            server_name,
            insecure_skip_verify,
            namespace,
            deadline,
            requires_leader,
            dial_timeout,
            sync_interval,
            nameservers,
            from_env,
            True,
        )
        # Without input or output: it does not block.
        super().__init__(call.wait())

    async def update(self, key, decide, *, lease=None):
        """Changes a key as `decide` says, given its `KeyValue` or None: it gives the value, or None to remove the key. When
        somebody else changes the key meanwhile, `decide` is asked again with the new state, after a wait that grows. `lease`
        attaches the key to a lease; without it the one it has stays.

        Raises `CompareFailed` when somebody else was faster 64 times in a row.
        """
        update = self._native.update(key)
        current = await self._run(update.read())
        while (done := await self._run(update.write(decide(current), lease))) is None:
            current = update.current()
        return done

    async def stm(self, work, *, isolation="serializable_snapshot"):
        """Runs `work`, an async function of an `AsyncStm`, and does all that it writes at once, as if nobody else had been there.
        Gives what `work` gives. When something that it read has changed meanwhile it runs again, so it is to do nothing else but read
        and write there. When it raises, nothing is written.

        `isolation` is "serializable_snapshot": all reads are of one revision, and nobody has changed what was read or is written;
        "serializable": the same, but for what is written; "repeatable_reads": nobody has changed what was read; or "read_committed":
        nothing is compared.

        >>> async def swap(stm):
        ...     left, right = await stm.get("left"), await stm.get("right")
        ...     stm.put("left", right)
        ...     stm.put("right", left)
        >>> await client.stm(swap)

        Raises `CompareFailed` when somebody else was faster 64 times in a row.
        """
        runs = self._native.stm(isolation)
        while True:
            run = await self._run(runs.begin())
            done = await work(AsyncStm(run))
            if await self._run(run.commit()):
                return done

    @property
    def sync(self):
        """The same client for threads: it shares the connection and everything else."""
        return Client._view(self._native)

    async def close(self):
        """Ends its sessions, waiting a second at most for their leases to be given back, and refuses every later call with
        `Closed`. Closing it again does nothing."""
        await self._run(self._native.close())

    async def __aenter__(self):
        await self._run(self._native.connect())
        return self

    async def __aexit__(self, kind, error, traceback):
        await self.close()
