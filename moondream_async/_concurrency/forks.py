"""Forks wait for a moment while a thread imports modules or starts the background loop.

A fork copies one thread only. What another thread was in the middle of (an import, a lock) stays unfinished
for ever in the child, whose next import of the same module, or wait for the same lock, would never end.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager

# These have hooks of their own. If another thread imported them while a fork waits here, only some would run.
for _module in ("concurrent.futures.thread", "logging"):
    importlib.import_module(_module)

_PATIENCE = 10.0  # seconds that a fork waits at most

_lock = threading.RLock()
_held_by_fork = False


@contextmanager
def no_fork() -> Generator[None]:
    """Let no other thread fork, nor enter such a block, until this block is left; may be nested."""
    lock = _lock
    with lock:
        yield


def _before() -> None:
    global _held_by_fork
    held = _lock.acquire(timeout=_PATIENCE)
    _held_by_fork = held


def _after_in_parent() -> None:
    if _held_by_fork:
        _lock.release()


def _after_in_child() -> None:
    global _lock
    if _held_by_fork:
        _lock.release()
    else:
        _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
