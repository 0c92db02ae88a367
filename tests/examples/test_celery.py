"""The Celery tasks, at once in this process, and in real worker processes."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moondream_async import AuthenticationError
from tests.support.sandboxes import PooledSandbox
from tools.recipe_pages import ROOT

PROCESSES = """
import os, sys, time
from celery.contrib.testing.worker import start_worker
from moondream_async import Client
import celery_tasks

def note(method, name):
    def noted(self, *args, **options):
        with open("log.txt", "a") as file:
            file.write(f"{name} {os.getpid()}\\n")
        return method(self, *args, **options)
    return noted

Client.__init__ = note(Client.__init__, "opened")
Client.close = note(Client.close, "closed")

if __name__ == "__main__":
    with start_worker(celery_tasks.app, pool="prefork", concurrency=2, perform_ping_check=False):
        waiting = [celery_tasks.caption.delay("photo.png") for _ in range(8)]
        print({each.get(timeout=60) for each in waiting})
    with open("log.txt") as file:
        print(sorted(line.split() for line in file), os.getpid())
"""


@pytest.fixture
def tasks(sandbox: PooledSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("CELERY_BROKER_URL", "memory://")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", f"file://{tmp_path}")
    module = importlib.import_module("celery_tasks")
    module.app.conf.task_always_eager = True
    module.client.cache_clear()
    yield module
    module.close_client()
    module.client.cache_clear()


def test_tasks_share_a_client(tasks: Any, photo: Path) -> None:
    assert tasks.caption.delay(str(photo)).get().startswith("A red square")
    assert len(tasks.detect.delay(str(photo), "red").get()["objects"]) == 1
    first = tasks.client()
    assert tasks.client() is first


def test_only_what_may_pass_is_retried(tasks: Any, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with PooledSandbox(api_key="right") as sandbox:
        monkeypatch.setenv("MOONDREAM_BASE_URL", sandbox.base_url)
        monkeypatch.setenv("MOONDREAM_API_KEY", "wrong")
        outcome = tasks.caption.delay(str(photo))
        assert sandbox.requests == 1
    with pytest.raises(AuthenticationError):
        outcome.get()


def test_each_process_opens_one_client_and_closes_it(sandbox: PooledSandbox, photo: Path) -> None:
    folder = photo.parent
    (folder / "run.py").write_text(PROCESSES)
    environment = {
        "MOONDREAM_BASE_URL": sandbox.base_url,
        "CELERY_BROKER_URL": "memory://",
        "CELERY_RESULT_BACKEND": f"file://{folder}",
        "PYTHONPATH": str(ROOT / "examples"),
        "C_FORCE_ROOT": "1",
    }
    done = subprocess.run(
        [sys.executable, "run.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    captions, log = done.stdout.strip().splitlines()[-2:]
    assert "A red square" in captions
    assert captions.count("on a white background") == 1
    pairs = [line.split() for line in (folder / "log.txt").read_text().splitlines()]
    opened, closed = ([pid for word, pid in pairs if word == kind] for kind in ("opened", "closed"))
    assert opened, log
    assert len(set(opened)) == len(opened)
    assert sorted(closed) == sorted(opened)
