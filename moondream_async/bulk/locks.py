"""Files that one process at a time may use."""

from __future__ import annotations

import os
from io import FileIO

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
