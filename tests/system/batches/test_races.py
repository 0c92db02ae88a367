"""Cancelled and concurrent calls: a folder stays locked until its thread has ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from moondream_async import AsyncClient, BatchError, ResultsFileError
from moondream_async._batches import resource_thread
from moondream_async._batches.job import folder as folders
from moondream_async._batches.job.folder import Folder
from moondream_async._batches.job.manifest import BatchFile, Manifest, read_manifest
from moondream_async._bulk.journal import Journal
from moondream_async.bulk import read_results
from tests.support.batches import KEY, jobs_of, ready
from tests.support.loopback import until


class Gate:
    """Blocks the n-th call of a function in its thread until the gate is opened."""

    def __init__(self, owner: Any, name: str, number: int, patch: pytest.MonkeyPatch) -> None:
        self.reached, self.opened, self.calls = threading.Event(), threading.Event(), 0
        original = getattr(owner, name)

        def blocked(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == number:
                self.reached.set()
                assert self.opened.wait(20)
            return original(*args, **kwargs)

        patch.setattr(owner, name, blocked)

    async def wait(self) -> None:
        await until(self.reached.is_set)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any, str, int], Gate]]:
    gates: list[Gate] = []

    def make(owner: Any, name: str, number: int) -> Gate:
        gates.append(Gate(owner, name, number, monkeypatch))
        return gates[-1]

    yield make
    for each in gates:
        each.opened.set()


STEPS = [
    ("_open", 1),
    ("_write", 1),
    ("_write", 2),
    ("_write", 4),
    ("_write", 6),
    ("_add", 1),
    ("_add", 3),
    ("submitted_items", 1),
]


@pytest.mark.parametrize("again", ["after", "at once"])
@pytest.mark.parametrize(("step", "number"), STEPS)
async def test_created_again_while_the_thread_writes(
    at_sandbox: Any, photos: list[Path], tmp_path: Path, gate: Any, step: str, number: int, again: str
) -> None:
    client, paused = at_sandbox(), gate(Folder, step, number)
    first = asyncio.create_task(client.batches.create(photos, "caption", folder=tmp_path / "job"))
    await paused.wait()
    first.cancel()
    await asyncio.sleep(0.01)
    if again == "at once":
        first.cancel()  # a second time, like an event loop that ends
        await asyncio.sleep(0.01)
    second = asyncio.create_task(client.batches.create(photos, "caption", folder=tmp_path / "job"))
    await asyncio.sleep(0.05)
    assert not second.done()
    paused.opened.set()
    job = await second
    with pytest.raises(asyncio.CancelledError):
        await first
    assert read_manifest(tmp_path / "job").portions[0].batch_id == job.id
    assert list(jobs_of(client)) == [job.id]
    assert job.items == 5


async def test_submitted_again_while_the_thread_reads(at_sandbox: Any, scene: bytes, tmp_path: Path, gate: Any) -> None:
    client, path = at_sandbox(), ready(tmp_path / "ready.jsonl", scene, 3)
    paused = gate(Folder, "finish_lines", 1)
    first = asyncio.create_task(client.batches.submit(path, folder=tmp_path / "job"))
    await paused.wait()
    first.cancel()
    second = asyncio.create_task(client.batches.submit(path, folder=tmp_path / "job"))
    await asyncio.sleep(0.05)
    paused.opened.set()
    assert (await second).items == 3
    assert len(jobs_of(client)) == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_saved_again_while_the_thread_writes(
    at_sandbox: Any, photos: list[Path], tmp_path: Path, gate: Any
) -> None:
    client = at_sandbox()
    job = await client.batches.wait(await client.batches.create(photos, "caption", folder=tmp_path / "job"))
    for number, step in enumerate(("_begin", "add", "close")):
        out = tmp_path / f"{number}.jsonl"
        paused = gate(Journal, step, 1)
        first = asyncio.create_task(client.batches.save(job, out))
        await paused.wait()
        first.cancel()
        await asyncio.sleep(0.01)
        first.cancel()
        second = asyncio.create_task(client.batches.save(job, out))
        await asyncio.sleep(0.05)
        paused.opened.set()
        summary = await second
        assert summary.succeeded + summary.skipped == 5
        assert len(list(read_results(out))) == 5
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_a_cancelled_wait_keeps_no_lock(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    client = at_sandbox(work=3, chunk=1)
    job = await client.batches.create(photos, "caption", folder=tmp_path / "job")
    with anyio.move_on_after(0.05):
        await client.batches.wait(job)
    assert (await client.batches.create(photos, "caption", folder=tmp_path / "job")).ids == job.ids


async def test_concurrent_calls_for_one_job(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    """The first call creates the job; the others wait for it and return the same job."""
    client = at_sandbox(latency=0.1, on="mpu-create")
    calls = [client.batches.create(photos, "caption", folder=tmp_path / "job") for _ in range(4)]
    jobs = await asyncio.gather(*calls)
    assert len({job.id for job in jobs}) == 1
    assert len(jobs_of(client)) == 1


async def test_a_call_does_not_wait_forever(
    at_sandbox: Any, photos: list[Path], tmp_path: Path, gate: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource_thread, "_MAX_WAIT", 0.05)
    client = at_sandbox()
    job = await client.batches.wait(await client.batches.create(photos, "caption", folder=tmp_path / "done"))
    paused, writing = gate(Folder, "_add", 1), gate(Journal, "add", 1)
    first = asyncio.create_task(client.batches.create(photos, "caption", folder=tmp_path / "job"))
    saving = asyncio.create_task(client.batches.save(job, tmp_path / "out.jsonl"))
    await paused.wait()
    await writing.wait()
    (tmp_path / "link").symlink_to(tmp_path / "job")
    for name in ("job", "link"):
        with pytest.raises(BatchError, match="another call in this process"):
            await client.batches.create(photos, "caption", folder=tmp_path / name)
    with pytest.raises(ResultsFileError, match="another call in this process"):
        await client.batches.save(job, tmp_path / "out.jsonl")
    paused.opened.set()
    writing.opened.set()
    assert len((await first).ids) == 1
    assert (await saving).succeeded == 5


LOCK_FOLDER = """
import sys, time
from pathlib import Path
from moondream_async._batches.job.folder import Folder
from moondream_async._batches.job.manifest import Manifest
with Folder(Path(sys.argv[1]), Manifest(sys.argv[2], None, "caption")):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(os.name != "posix", reason="files cannot be locked")
async def test_a_folder_in_use_by_another_process(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    client = at_sandbox()
    command = [sys.executable, "-c", LOCK_FOLDER, str(tmp_path / "job"), client.base_url]
    process = await asyncio.create_subprocess_exec(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"held\n"
    with pytest.raises(BatchError, match="another process"):
        await client.batches.create(photos, "caption", folder=tmp_path / "job")
    await process.communicate(b"")
    assert (await client.batches.create(photos, "caption", folder=tmp_path / "job")).items == 5


def test_an_older_snapshot_does_not_replace_a_newer_one(tmp_path: Path) -> None:
    with Folder(tmp_path / "job", Manifest("http://a.test", None, "caption")) as folder:
        older = folder.snapshot()
        folder.manifest.portions.append(BatchFile("000.jsonl"))
        folder.save()
        folder.write(older)
        assert len(read_manifest(tmp_path / "job").portions) == 1
    assert folders.MANIFEST == "manifest.json"


def test_cancelled_on_trio(photos: list[Path], tmp_path: Path, moondream_sandbox: Any, gate: Any) -> None:
    paused = gate(Folder, "_add", 2)

    async def main() -> None:
        async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: client.batches.create(photos, "caption", folder=tmp_path / "job"))
                while not paused.reached.is_set():
                    await anyio.sleep(0.01)
                tasks.cancel_scope.cancel()
                threading.Timer(0.1, paused.opened.set).start()
            job = await client.batches.create(photos, "caption", folder=tmp_path / "job")
            assert (job.items, len(job.ids)) == (5, 1)

    anyio.run(main, backend="trio")


INTERRUPTED = """
import sys, threading, time
from pathlib import Path
from moondream_async import Client
from moondream_async._batches.job.folder import Folder
original, calls = Folder._add, []
def slow(self, *args):
    calls.append(1)
    if len(calls) == 2:
        print("writing", flush=True)
        time.sleep(2)  # longer than the timeout of an interrupted call
    return original(self, *args)
Folder._add = slow
photos = sorted(Path(sys.argv[2]).iterdir())
with Client(sys.argv[4], base_url=sys.argv[1]) as client:
    try:
        client.batches.create(photos, "caption", folder=sys.argv[3])
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    job = client.batches.create(photos, "caption", folder=sys.argv[3])
    print(job.items, len(job.ids), flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGINT")
async def test_interrupted_with_the_sync_client(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    client = at_sandbox()
    command = [sys.executable, "-c", INTERRUPTED, client.base_url, str(photos[0].parent), str(tmp_path / "job"), KEY]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"writing\n"
    process.send_signal(signal.SIGINT)
    output, errors = await asyncio.wait_for(process.communicate(), 60)
    assert (output, errors, process.returncode) == (b"interrupted\n5 1\n", b"", 0)
    assert len(jobs_of(client)) == 1
    assert json.loads((tmp_path / "job" / "manifest.json").read_text())["closed"]
