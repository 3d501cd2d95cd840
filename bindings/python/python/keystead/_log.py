"""What the library logs goes to the logger "keystead". A thread of Python takes it from the core, which never waits for the interpreter."""

import contextlib
import logging
import os
import sys
import threading

from . import _native

_logger = logging.getLogger("keystead")
# Who has not set up logging is not told of what the library deals with by itself.
_logger.addHandler(logging.NullHandler())
_starting = threading.Lock()
_taker: threading.Thread | None = None


def start() -> None:
    """Begins to take records, unless this process does already."""
    global _taker
    with _starting:
        if _taker is None:
            _native.keep_records()
            # Waiting for records keeps no process from ending: see `end`.
            taker = threading.Thread(target=_take, name="keystead-log", daemon=True)
            # No thread is to be had while the interpreter ends: the rest works without.
            with contextlib.suppress(RuntimeError):
                taker.start()
                _taker = taker


def end() -> None:
    """Takes what is left and ends the thread, before the interpreter goes."""
    _native.end_records()
    if _taker is not None:
        _taker.join(1)


def _take() -> None:
    while (record := _native.next_record()) is not None:
        try:
            _log(*record)
        except Exception:
            # A filter of the user's. The next record is told all the same.
            sys.excepthook(*sys.exc_info())


def _log(level: int, at: float, module: str, message: str, lost_before: int) -> None:
    if lost_before:
        _logger.warning("%d records were lost: they came faster than they were taken", lost_before)
    if not _logger.isEnabledFor(level):
        return
    record = _logger.makeRecord(_logger.name, level, module, 0, message, (), None)
    # When it happened, and not when it was taken.
    record.relativeCreated += (at - record.created) * 1000
    record.created, record.msecs = at, at % 1 * 1000
    _logger.handle(record)


def _in_child() -> None:
    global _starting, _taker
    _starting, _taker = threading.Lock(), None


os.register_at_fork(after_in_child=_in_child)
