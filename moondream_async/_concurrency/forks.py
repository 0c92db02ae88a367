"""Delay forks while a thread imports modules or starts the background loop.

A fork copies only the calling thread. Whatever another thread was in the middle of (an import, a held lock) stays
unfinished in the child, where importing the same module or taking the same lock would block forever.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager

# These modules register fork hooks. If another thread imported them while a fork waits here, only some would run.
for _module in ("concurrent.futures.thread", "logging"):
    importlib.import_module(_module)

_MAX_WAIT = 10.0  # seconds

_lock = threading.RLock()
_held_by_fork = False


@contextmanager
def no_fork() -> Generator[None]:
    """Keep other threads from forking, or entering such a block, until this block exits; may be nested."""
    lock = _lock
    with lock:
        yield


def _hold_lock() -> None:
    global _held_by_fork
    acquired = _lock.acquire(timeout=_MAX_WAIT)
    _held_by_fork = acquired


def _release_in_parent() -> None:
    if _held_by_fork:
        _lock.release()


def _release_in_child() -> None:
    global _lock
    if _held_by_fork:
        _lock.release()
    else:
        _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold_lock, after_in_parent=_release_in_parent, after_in_child=_release_in_child)
