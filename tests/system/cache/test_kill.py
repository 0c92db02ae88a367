"""A cache under two processes, and under SIGKILL."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from moondream_async import Cache, Client

WRITER = """
import sys
from moondream_async import Cache
cache = Cache(sys.argv[1], max_bytes=1_000_000)
print("ready", flush=True)
for number in range(int(sys.argv[2])):
    key = b"%s-%d" % (sys.argv[3].encode(), number)
    cache.put(key, "x" * 500)
    assert cache.get(key) == "x" * 500
    print(number, flush=True)
"""


def start(path: Path, count: int, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(count), name]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes(tmp_path: Path):
    path = tmp_path / "answers.sqlite"
    writers = [start(path, 200, name) for name in "ab"]
    for writer in writers:
        output, _ = writer.communicate(timeout=60)
        assert writer.returncode == 0
        assert output.split()[-1] == "199"
    assert len(Cache(path)) == 400


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_what_was_written_survives_kills(tmp_path: Path):
    path = tmp_path / "answers.sqlite"
    dice = random.Random(0)
    for attempt in range(6):
        with start(path, 100_000, str(attempt)) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(dice.uniform(0.01, 0.15))
            writer.kill()
            written = writer.stdout.read().split("\n")[:-1]
        cache = Cache(path)
        assert len(cache) > 0 or not written
        for number in written[-50:]:
            assert cache.get(b"%d-%d" % (attempt, int(number))) == "x" * 500
        cache.close()


def test_two_processes_pay_once(tmp_path: Path, scene: bytes, moondream_sandbox: Any):
    (tmp_path / "photo.jpg").write_bytes(scene)
    code = """
from moondream_async import Cache, Client
with Client(cache=Cache("answers.sqlite")) as client:
    print(client.caption("photo.jpg").meta.cached)
"""
    environment = {"MOONDREAM_BASE_URL": moondream_sandbox.base_url}
    for expected in ("False", "True"):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected
    with Client(base_url=moondream_sandbox.base_url, cache=Cache(tmp_path / "answers.sqlite")) as client:
        assert client.caption(scene).meta.cached
