"""Locks for images that users pass: neither Pillow images nor open files may be read in two threads at once."""

from __future__ import annotations

import os
import threading

_locks = [threading.RLock() for _ in range(64)]  # each shared by the images whose id falls into its stripe


def lock_for(image: object) -> threading.RLock:
    """Return the lock to hold while an image is read; the thread that holds it may take it again."""
    return _locks[(id(image) >> 4) % len(_locks)]


def _renew() -> None:
    _locks[:] = [threading.RLock() for _ in _locks]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
