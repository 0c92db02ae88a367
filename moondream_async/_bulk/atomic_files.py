"""Write files atomically, and lock them for one process."""

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
    """Lock a file until it is closed; return False if another process holds the lock.

    Only POSIX has such locks. Elsewhere, and on file systems without them, this does nothing and returns True.
    """
    if os.name != "posix":
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system has no locks
        return True
    return True


def write_all(file: FileIO, data: bytes) -> None:
    """Write all of the data; a raw file's `write` may write only a part."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def sync(descriptor: int) -> None:
    """Flush a file to disk if its file system supports that."""
    with suppress(OSError):
        os.fsync(descriptor)


def commit(file: FileIO, target: Path) -> None:
    """Flush a complete temporary file to disk, close it, and move it to `target`."""
    sync(file.fileno())
    file.close()
    Path(os.fsdecode(file.name)).replace(target)


@contextmanager
def replace_file(target: Path, *, mode: int = 0o666) -> Generator[Path]:
    """Yield a new file next to `target`, which replaces `target` unless an exception is raised.

    Args:
        target: The file to replace.
        mode: The new file's permissions, before the umask.

    Raises:
        OSError: The file cannot be created, or cannot replace `target`.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    temporary.touch(mode, exist_ok=False)
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
