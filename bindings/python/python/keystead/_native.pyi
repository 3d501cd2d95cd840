"""The native half: converters between Python's values and the core's. Not for direct use, but for the records that calls answer."""

from collections.abc import Iterator
from typing import Any, Literal, Self, SupportsIndex, final, overload

from ._values import Data

@final
class Call:
    """A call, not begun."""

    def wait(self) -> Any:
        """Runs it and waits for the answer."""

@final
class Header:
    """Who answered, and how far it was."""

    __match_args__: tuple[str, ...]
    def __new__(cls, cluster_id: int, member_id: int, revision: int, raft_term: int) -> Self: ...
    @property
    def cluster_id(self) -> int: ...
    @property
    def member_id(self) -> int: ...
    @property
    def revision(self) -> int:
        """The store's revision when the answer was made."""

    @property
    def raft_term(self) -> int: ...

@final
class KeyValue:
    """A key with its value. Its bytes share the memory of the answer they came in until this is dropped."""

    __match_args__: tuple[str, ...]
    def __new__(
        cls, key: Data, value: Data, create_revision: int, mod_revision: int, version: int, lease: int
    ) -> Self: ...
    @property
    def key(self) -> bytes: ...
    @property
    def value(self) -> bytes: ...
    @property
    def create_revision(self) -> int:
        """The revision at which it was created; higher for every later life of the key."""

    @property
    def mod_revision(self) -> int:
        """The revision of the last write to it."""

    @property
    def version(self) -> int:
        """How often it was written since it was created."""

    @property
    def lease(self) -> int:
        """The lease that it is attached to; 0 for none."""

@final
class RangeResult:
    """The answer to a read: iterate over it for the keys."""

    __match_args__: tuple[str, ...]
    def __new__(cls, header: Header, kvs: list[KeyValue], more: bool, count: int) -> Self: ...
    @property
    def header(self) -> Header: ...
    @property
    def kvs(self) -> list[KeyValue]: ...
    @property
    def more(self) -> bool:
        """There are keys that the limit cut off."""

    @property
    def count(self) -> int:
        """How many keys are in the range, whatever the limit."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[KeyValue]: ...
    @overload
    def __getitem__(self, key: SupportsIndex, /) -> KeyValue: ...
    @overload
    def __getitem__(self, key: slice[Any, Any, Any], /) -> list[KeyValue]: ...

@final
class PutResult:
    """The answer to a write."""

    __match_args__: tuple[str, ...]
    def __new__(cls, header: Header, prev_kv: KeyValue | None) -> Self: ...
    @property
    def header(self) -> Header: ...
    @property
    def prev_kv(self) -> KeyValue | None:
        """The key as it was before, when that was asked for."""

    @property
    def revision(self) -> int:
        """The revision of the write."""

@final
class DeleteResult:
    """The answer to a removal."""

    __match_args__: tuple[str, ...]
    def __new__(cls, header: Header, deleted: int, prev_kvs: list[KeyValue]) -> Self: ...
    @property
    def header(self) -> Header: ...
    @property
    def deleted(self) -> int: ...
    @property
    def prev_kvs(self) -> list[KeyValue]:
        """The removed keys, when that was asked for."""

@final
class TxnResult:
    """The answer to a transaction. Neither true nor false by itself: ask for `succeeded`."""

    __match_args__: tuple[str, ...]
    def __new__(cls, header: Header, succeeded: bool, results: list[Any] | None) -> Self: ...
    @property
    def header(self) -> Header: ...
    @property
    def succeeded(self) -> bool:
        """Every compare held."""

    @property
    def results(self) -> list[Any] | None:
        """One for each operation that ran, in order; None when they cannot be known, after `once`."""

@final
class Event:
    """One change of one key."""

    __match_args__: tuple[str, ...]
    def __new__(cls, kind: Literal["put", "delete"], kv: KeyValue, prev_kv: KeyValue | None) -> Self: ...
    @staticmethod
    def of_state(kv: KeyValue) -> Event: ...
    @property
    def kind(self) -> Literal["put", "delete"]: ...
    @property
    def kv(self) -> KeyValue:
        """The key after it. Of a deleted one only the key and the revision of the deletion."""

    @property
    def prev_kv(self) -> KeyValue | None:
        """The key before it, when that was asked for and is known."""

    @property
    def key(self) -> bytes: ...
    @property
    def value(self) -> bytes:
        """Its value now; empty after a deletion."""

@final
class Events:
    """What one revision changed among the keys that are watched."""

    __match_args__: tuple[str, ...]
    @property
    def revision(self) -> int: ...
    @property
    def events(self) -> list[Event]: ...
    @property
    def last(self) -> bool:
        """Nothing more of this revision follows."""

@final
class Progress:
    """Nothing but what was told has happened up to this revision."""

    __match_args__: tuple[str, ...]
    @property
    def revision(self) -> int: ...

@final
class Disconnected:
    """The watch is cut off, and goes on by itself."""

    __match_args__: tuple[str, ...]
    @property
    def error(self) -> Exception: ...

@final
class Resumed:
    """The watch is connected again and has missed nothing."""

    __match_args__: tuple[str, ...]
    @property
    def revision(self) -> int: ...

@final
class Reset:
    """A page of the keys as they are: whoever keeps a copy forgets it at page 0 and takes these."""

    __match_args__: tuple[str, ...]
    @property
    def cause(self) -> Literal["begun", "compacted", "restored"]: ...
    @property
    def revision(self) -> int: ...
    @property
    def page(self) -> int: ...
    @property
    def kvs(self) -> list[KeyValue]: ...
    @property
    def last(self) -> bool: ...

@final
class Diff:
    """The changes that lead from what was told to the keys as they are."""

    __match_args__: tuple[str, ...]
    @property
    def cause(self) -> Literal["begun", "compacted", "restored"]: ...
    @property
    def revision(self) -> int: ...
    @property
    def events(self) -> list[Event]: ...
    @property
    def last(self) -> bool: ...

@final
class Compare:
    """Something that must hold, made by comparing something of a `Key`. The server judges it: it is neither true nor false here."""

    def __new__(cls, key: Any, end: Any, prefix: Any, field: str, relation: str, operand: Any) -> Compare: ...

@final
class Op:
    """Something that runs within a transaction: see `Put`, `Get`, `Delete` and `Txn`."""

    @staticmethod
    def put(key: Any, value: Any, lease: Any, prev_kv: bool, ignore_value: bool, ignore_lease: bool) -> Op: ...
    @staticmethod
    def get(
        key: Any,
        end: Any,
        prefix: Any,
        from_key: Any,
        limit: int,
        sort_by: str | None,
        descending: bool,
        keys_only: bool,
        count_only: bool,
    ) -> Op: ...
    @staticmethod
    def delete(key: Any, end: Any, prefix: Any, from_key: Any, prev_kv: bool) -> Op: ...
    @staticmethod
    def txn(when: list[Compare], then: list[Op], otherwise: list[Op]) -> Op: ...

def set_threads(threads: int) -> bool:
    """Has the runtime use so many I/O threads; false when there is one already."""

def keep_records() -> None:
    """Has what the client logs kept for `next_record`."""

def next_record() -> tuple[int, float, str, str, int] | None:
    """Waits for what is to be logged next: level, time in seconds, module, message, how many were lost before it. None at the end."""

def end_records() -> None:
    """Has nobody wait for records any more."""

def shut_down() -> None:
    """Ends the runtime: calls under way fail, leases are given back."""

def seconds(length: Any) -> float:
    """A length of time in seconds, of whatever form people write it in."""
