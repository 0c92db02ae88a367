"""Processes killed at each stage or at random: the server gets each line once, and no part is uploaded twice."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moondream_async import AsyncClient
from tests.support.batches import KEY
from tests.support.effort import scaled
from tests.support.processes import run_script

ITEMS, LINES, PART = 60, 25, 15_000
STAGES = (
    "building",
    "beginning",
    "first manifest",
    "second manifest",
    "uploading",
    "rejected",
    "last line",
    "completing",
    "accepted",
    "saving",
    "saved",
)

SCRIPT = """
import asyncio, os, sys, time
from pathlib import Path
from moondream_async import AsyncBatches, AsyncClient
from moondream_async._batches import multipart_upload, wire
from moondream_async._batches.job import folder, rejected
from moondream_async._bulk import journal
from moondream_async._concurrency.polling import PollSchedule

wire.MAX_LINES, multipart_upload.PART = int(sys.argv[5]), int(sys.argv[6])
AsyncBatches._poll_schedule = PollSchedule(first=0.02, maximum=30.0)
stage = sys.argv[4]

def die_after(owner, name, calls):
    original, remaining = getattr(owner, name), [calls]
    def counted(*args, **kwargs):
        remaining[0] -= 1
        if remaining[0] < 0:
            os.kill(os.getpid(), 9)
        return original(*args, **kwargs)
    setattr(owner, name, counted)

{"building": lambda: die_after(folder.Folder, "add", 30),
 "beginning": lambda: die_after(folder.Folder, "_write", 0),
 "first manifest": lambda: die_after(folder.Folder, "_write", 1),
 "second manifest": lambda: die_after(folder, "sync", 4),
 "rejected": lambda: die_after(rejected.RejectedItems, "finish", 0),
 "last line": lambda: die_after(folder.Folder, "finish_lines", 0),
 "saved": lambda: die_after(journal.Journal, "close", 0),
 "uploading": lambda: die_after(multipart_upload.Upload, "_send_part", 3),
 "completing": lambda: die_after(folder.Folder, "accepted", 1),
 "accepted": lambda: die_after(multipart_upload.Upload, "_begin", 2),
 "saving": lambda: die_after(journal.Journal, "add", 20),
 "": lambda: None}[stage]()

async def main():
    photos = sorted(Path(sys.argv[1]).iterdir())
    items = ((path.name, path) for path in photos)
    async with AsyncClient(sys.argv[2], base_url=sys.argv[3]) as client:
        job = await client.batches.create(items, "caption", folder="job")
        await client.batches.wait(job)
        await client.batches.save(job, "out.jsonl")

asyncio.run(main())
"""


class UploadCounter:
    """Counts how often the sandbox received each part; `state` has the accepted jobs."""

    def __init__(self, client: Any) -> None:
        self.state = client.sandbox._app.state.batches
        self.parts: Counter[tuple[str, str]] = Counter()
        original = type(self.state)._part

        async def counted(state: Any, request: Any, faults: Any) -> Any:
            answer = await original(state, request, faults)
            self.parts[request.path_params["id"], request.query_params["partNumber"]] += 1
            return answer

        self.patch = (type(self.state), "_part", counted)


@pytest.fixture
def many_photos(tmp_path: Path, scene: bytes) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(ITEMS):
        (folder / f"{number:03}.png").write_bytes(scene)
    return folder


async def run(folder: Path, client: Any, stage: str, kill_when: Callable[[], bool] | None = None) -> int:
    args = [str(folder), KEY, client.base_url, stage, str(LINES), str(PART)]
    code, errors = await run_script(SCRIPT, args, folder.parent, kill_when=kill_when)
    assert errors == ""
    return code


async def check(folder: Path, client: Any, counter: UploadCounter, kills: int) -> None:
    jobs = counter.state.jobs.values()
    ids = json.loads((folder.parent / "job" / "manifest.json").read_text())["portions"]
    assert sorted(portion["batch_id"] for portion in ids) == sorted(job.id for job in jobs)
    assert sorted(job.total for job in jobs) == [10, 25, 25]
    repeated = sum(count - 1 for count in counter.parts.values())
    assert repeated <= 4 * kills  # parts whose response came after the kill
    written = [json.loads(line) for line in (folder.parent / "out.jsonl").read_text().splitlines()]
    assert sorted(record["id"] for record in written) == [f"{number:03}.png" for number in range(ITEMS)]
    assert all(record["ok"] for record in written)
    async with AsyncClient(KEY, base_url=client.base_url) as fresh:
        outcomes = [outcome async for outcome in fresh.batches.results(folder.parent / "job")]
    assert sorted(outcome.index for outcome in outcomes) == list(range(ITEMS))


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
@pytest.mark.parametrize("stage", STAGES)
async def test_killed_at_each_stage(
    stage: str, at_sandbox: Any, many_photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = at_sandbox()
    counter = UploadCounter(client)
    monkeypatch.setattr(*counter.patch)
    assert await run(many_photos, client, stage) == -signal.SIGKILL
    assert await run(many_photos, client, "") == 0
    await check(many_photos, client, counter, 1)


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
async def test_killed_at_random(at_sandbox: Any, many_photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = at_sandbox(latency=0.02)
    counter = UploadCounter(client)
    monkeypatch.setattr(*counter.patch)
    dice, kills = random.Random(7), 0
    while kills < scaled(6, 30):
        requests, wait = client.sandbox.requests + dice.randrange(8), dice.random() * 0.05
        reached: list[float] = []

        def now(requests: int = requests, wait: float = wait, reached: list[float] = reached) -> bool:
            if client.sandbox.requests >= requests and not reached:
                reached.append(time.monotonic())
            return bool(reached) and time.monotonic() - reached[0] >= wait

        if await run(many_photos, client, "", now) == 0:
            break
        kills += 1
    else:
        assert await run(many_photos, client, "") == 0
    assert kills >= 2
    await check(many_photos, client, counter, kills)
