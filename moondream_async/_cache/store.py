"""`Cache`: answers in an SQLite file, shared by threads and processes; blocking, for worker threads."""

from __future__ import annotations

import contextlib
import datetime
import os
import sqlite3
import threading
import time
from collections.abc import Generator
from typing import Any

from .._log import log
from .._public import public
from .._scalars import to_python
from ..config import check_whole
from ..errors import ConfigurationError

_APPLICATION_ID = 0x6D6F6F6E  # marks our files, in SQLite's header
_VERSION = 1
_MIN_BYTES = 1_000_000
_LOCK_TIMEOUT = 5.0  # seconds to wait for another process
_RETRY_INTERVAL = 0.02  # seconds
_TOUCH_INTERVAL = 3600.0  # seconds after which an answer that is used is marked again
_KEPT = 0.9  # share of the limit that is kept when answers are deleted
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers
    (key BLOB PRIMARY KEY, value TEXT NOT NULL, created REAL NOT NULL, used REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answers_used ON answers (used);
"""

_DELETE_OLDEST = "DELETE FROM answers WHERE key IN (SELECT key FROM answers ORDER BY used LIMIT ?)"

_forked_connections: list[sqlite3.Connection] = []  # of a parent process; closing them here could damage its locks


@public()
class Cache:
    """Answers kept on disk (`AsyncClient(cache=Cache("answers.sqlite"))`).

    The answer to a call is kept by the image's content, the skill, its arguments, the model, the server and the image
    options. The same call is then answered from the file, without a request: `result.meta.cached` is True. Errors and
    streams that were cut off are not kept. `chat`, `post`, batches and fal.ai are not cached.

    The file may be used by several clients, threads and processes at once. Pickled, a cache is a reference to its file.
    Deleting the file is safe while nobody uses it.

    Args:
        path: The file, which is created when it is first used. Its directory must exist. SQLite keeps files with `-wal`
            and `-shm` in their names beside it. It should be on a local disk.
        max_bytes: The size of the file, at least 1 MB, beyond which the answers that were not used for the longest time
            are deleted. Default 1 GB.
        max_age: A `timedelta`, or seconds, after which an answer is not used any more. Default None: no limit.

    Raises:
        ConfigurationError: An argument is not valid.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int = 1_000_000_000,
        max_age: float | datetime.timedelta | None = None,
    ) -> None:
        self._path = _absolute(path)
        self._max_bytes = check_whole("max_bytes", max_bytes, least=_MIN_BYTES)
        self._max_age = _seconds(max_age)
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    @property
    def path(self) -> str:
        """The absolute path of the file."""
        return self._path

    def get(self, key: bytes) -> str | None:
        """Return the value of a key; None if there is none, or it is too old, or the file cannot be read.

        Raises:
            ConfigurationError: The file cannot be opened, or is not a cache.
        """
        now = time.time()
        with self._connected("read") as connection:
            row = connection.execute("SELECT value, created, used FROM answers WHERE key = ?", (key,)).fetchone()
            if row is None or (self._max_age is not None and not 0 <= now - row[1] <= self._max_age):
                return None
            if abs(now - row[2]) > _TOUCH_INTERVAL:
                connection.execute("UPDATE answers SET used = ? WHERE key = ?", (now, key))
            return str(row[0])
        return None

    def put(self, key: bytes, value: str) -> None:
        """Keep a value. A failure is logged: the answer itself is not lost.

        Raises:
            ConfigurationError: The file cannot be opened, or is not a cache.
        """
        now = time.time()
        with self._connected("written") as connection:
            connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", (key, value, now, now))
            if _used_bytes(connection) > self._max_bytes:
                self._shrink(connection)

    def clear(self) -> None:
        """Delete all answers.

        ```python
        Cache("answers.sqlite").clear()
        ```
        """
        with self._connected("written") as connection:
            connection.execute("DELETE FROM answers")

    def close(self) -> None:
        """Close the file. It is opened again when it is next used."""
        self._renew_after_fork()
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def __len__(self) -> int:
        with self._connected("read") as connection:
            return int(connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0])
        return 0

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"Cache({self._path!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._path, self._max_bytes, self._max_age)

    @contextlib.contextmanager
    def _connected(self, purpose: str) -> Generator[sqlite3.Connection]:
        """Give the connection, in a transaction; log its errors, and end the block.

        Raises:
            ConfigurationError: The file cannot be opened.
        """
        self._renew_after_fork()
        with self._lock:
            connection = self._connection or self._open()
            self._connection = connection
            try:
                with connection:
                    yield connection
            except sqlite3.Error as exc:
                log.warning("The cache %s cannot be %s: %s.", self._path, purpose, exc)

    def _renew_after_fork(self) -> None:
        """Forget the connection of a parent process, and the lock, which one of its threads may hold."""
        if self._process == os.getpid():
            return
        if self._connection is not None:
            _forked_connections.append(self._connection)
        self._process, self._lock, self._connection = os.getpid(), threading.Lock(), None

    def _open(self) -> sqlite3.Connection:
        expiry = time.monotonic() + _LOCK_TIMEOUT
        while True:
            try:
                connection = sqlite3.connect(self._path, timeout=_LOCK_TIMEOUT, check_same_thread=False)
            except sqlite3.Error as exc:
                problem = str(exc)
                break
            try:
                self._prepare(connection)
            except sqlite3.Error as exc:
                problem = str(exc)
                connection.close()
            else:
                return connection
            # SQLite does not wait when several processes open a new file.
            if "locked" not in problem or time.monotonic() > expiry:
                break
            time.sleep(_RETRY_INTERVAL)
        raise ConfigurationError(f"The cache {self._path!r} cannot be used: {problem}.")

    def _prepare(self, connection: sqlite3.Connection) -> None:
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        is_new = not connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]
        if owner != _APPLICATION_ID and not is_new:
            raise sqlite3.DatabaseError("it is the database of another program")
        if version > _VERSION:
            raise sqlite3.DatabaseError("it was made by a newer version of moondream-async")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        if is_new:
            with connection:
                connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.executescript(_SCHEMA)

    def _shrink(self, connection: sqlite3.Connection) -> None:
        """Delete the answers that were not used for the longest time."""
        if self._max_age is not None:
            connection.execute("DELETE FROM answers WHERE created < ?", (time.time() - self._max_age,))
        while _used_bytes(connection) > _KEPT * self._max_bytes:
            count = connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0]
            if not connection.execute(_DELETE_OLDEST, (count // 10 + 1,)).rowcount:
                break


def _restore(path: str, max_bytes: int, max_age: float | None) -> Cache:
    return Cache(path, max_bytes=max_bytes, max_age=max_age)


def _absolute(path: Any) -> str:
    name = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"Cache: path must be the path of a file, not {path!r}.")
    return os.path.abspath(name)  # noqa: PTH100 - the text, as it is shown


def _used_bytes(connection: sqlite3.Connection) -> int:
    """Return the size of the file without the pages that are free."""
    names = ("page_count", "freelist_count", "page_size")
    pages, free, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names)
    return int((pages - free) * size)


def _seconds(age: Any) -> float | None:
    age = to_python(age.total_seconds() if isinstance(age, datetime.timedelta) else age)
    if age is None:
        return None
    if not isinstance(age, (int, float)) or isinstance(age, bool) or not 0 < age < float("inf"):
        raise ConfigurationError(f"Cache: max_age must be a timedelta or seconds above 0, not {age!r}.")
    return float(age)
