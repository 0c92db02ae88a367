"""Files that are written whole, by one process at a time."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

if os.name == "posix":
    import fcntl


def lock(file: FileIO) -> bool:
    """Keep a file for this process, until it is closed; False if another has it. Without effect but on POSIX."""
    if os.name != "posix":
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system that knows no locks
        return True
    return True


def write_all(file: FileIO, data: bytes) -> None:
    """Write all of it, however little each write takes."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def sync(descriptor: int) -> None:
    """Have what was written on the disk, as far as its file system knows how."""
    with suppress(OSError):
        os.fsync(descriptor)


@contextmanager
def aside_of(path: Path) -> Generator[Path]:
    """Make a new file beside another, to be put in its place; it is removed if it is not.

    Raises:
        OSError: None can be made there.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    aside.touch(exist_ok=False)
    try:
        yield aside
    finally:
        aside.unlink(missing_ok=True)
