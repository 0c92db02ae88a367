"""The file of a cache."""

from __future__ import annotations

import datetime
import os
import pickle
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from moondream_async import Cache, ConfigurationError


def test_values_are_kept_between_caches(tmp_path: Path):
    path = tmp_path / "answers.sqlite"
    cache = Cache(path)
    assert cache.get(b"a") is None
    cache.put(b"a", "1")
    cache.put(b"b", "2")
    cache.put(b"a", "3")
    assert (cache.get(b"a"), cache.get(b"b"), len(cache)) == ("3", "2", 2)
    cache.close()
    cache.close()
    assert Cache(str(path)).get(b"a") == "3"
    assert cache.get(b"a") == "3"  # it is opened again
    cache.clear()
    assert len(cache) == 0
    assert cache  # true, although empty


def test_a_pickled_cache_is_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    cache = Cache("answers.sqlite", max_bytes=2_000_000, max_age=60)
    cache.put(b"a", "1")
    monkeypatch.chdir("/")
    copy = pickle.loads(pickle.dumps(cache))
    assert copy.get(b"a") == "1"
    assert repr(copy) == repr(cache) == f"Cache({str(tmp_path / 'answers.sqlite')!r})"


@pytest.mark.parametrize(
    ("age", "expected"), [(None, "1"), (100, "1"), (datetime.timedelta(seconds=100), "1"), (5, None)]
)
def test_old_values_are_not_used(age: Any, expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    now = 1_000_000.0
    monkeypatch.setattr("time.time", lambda: now)
    cache = Cache(tmp_path / "a", max_age=age)
    cache.put(b"a", "1")
    now += 50
    assert cache.get(b"a") == expected


def test_the_size_is_bounded_and_used_values_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    now = 1_000_000.0
    monkeypatch.setattr("time.time", lambda: now)
    path = tmp_path / "a"
    cache = Cache(path, max_bytes=1_000_000)
    for number in range(1000):
        now += 4000
        cache.put(b"%d" % number, "x" * 4000)
        assert cache.get(b"0") is not None
    assert 100 < len(cache) < 250
    assert cache.get(b"999") is not None
    assert cache.get(b"500") is None
    cache.close()
    assert path.stat().st_size < 1_300_000


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"not a database at all, but a text that is long enough" * 50, "not a database"), (None, "another program")],
)
def test_other_files_are_refused_and_left_alone(content: bytes | None, problem: str, tmp_path: Path):
    path = tmp_path / "other"
    if content is None:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE t (x)")
        connection.close()
        content = path.read_bytes()
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=problem):
        Cache(path).get(b"a")
    assert path.read_bytes() == content


def test_a_newer_file_is_refused(tmp_path: Path):
    Cache(tmp_path / "a").put(b"a", "1")
    connection = sqlite3.connect(tmp_path / "a")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigurationError, match="newer version"):
        Cache(tmp_path / "a").get(b"a")


def test_a_folder_that_is_missing(tmp_path: Path):
    with pytest.raises(ConfigurationError, match=r"'.*/nowhere/a' cannot be used"):
        Cache(tmp_path / "nowhere" / "a").put(b"a", "1")


@pytest.mark.parametrize(
    "options",
    [
        {"path": ""},
        {"path": None},
        {"path": b"a"},
        {"max_bytes": 10},
        {"max_bytes": "1"},
        {"max_age": 0},
        {"max_age": "1"},
    ],
)
def test_wrong_arguments(options: dict[str, Any]):
    with pytest.raises(ConfigurationError):
        Cache(**{"path": "a", **options})


def test_a_failure_is_logged_and_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    cache = Cache(tmp_path / "a")
    cache.put(b"a", "1")
    connection = sqlite3.connect(tmp_path / "a")
    connection.execute("DROP TABLE answers")
    connection.close()
    cache.put(b"b", "2")
    assert cache.get(b"a") is None
    assert "cannot be written" in caplog.text
    assert "cannot be read" in caplog.text


def test_threads_share_a_cache(tmp_path: Path):
    cache = Cache(tmp_path / "a")

    def work(thread: int) -> None:
        for number in range(50):
            cache.put(b"%d-%d" % (thread, number), str(number))
            assert cache.get(b"%d-%d" % (thread, number)) == str(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(cache) == 400


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_opens_the_file_anew(tmp_path: Path):
    cache = Cache(tmp_path / "a")
    cache.put(b"a", "1")
    with cache._lock:  # as a thread may hold it
        child = os.fork()
        if child == 0:
            cache.put(b"b", "2")
            cache.close()
            os._exit(0 if cache.get(b"a") == "1" else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert cache.get(b"b") == "2"
