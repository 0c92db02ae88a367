"""Runs that are killed or run out of disk repeatedly: each item is in the file once, and few are paid for twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from moondream_async import AsyncClient, EncodedImage, ResultsFileError
from moondream_async.bulk import read_records
from tests.support.disk import file_size_limit
from tests.support.effort import scaled
from tests.support.loopback import Exchange, serve
from tests.support.pictures import scene

ITEMS, CONCURRENCY, KILLS = scaled(200, 600), 8, scaled(5, 20)


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
async def test_killed_at_random(signal_number: int, tmp_path: Path) -> None:
    requests: Counter[str] = Counter()
    dice = random.Random(signal_number)

    async def handler(exchange: Exchange) -> None:
        requests[exchange.json["question"]] += 1
        await asyncio.sleep(dice.random() * 0.02)
        await exchange.answer({"answer": exchange.json["question"]})

    picture, manifest, out = tmp_path / "a.png", tmp_path / "items.jsonl", tmp_path / "results.jsonl"
    picture.write_bytes(scene())
    lines = [{"image": str(picture), "id": f"item-{n}", "question": str(n)} for n in range(ITEMS)]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, "-m", "moondream_async", "run", str(manifest), "--skill", "query", "--out", str(out)]
    command += ["--concurrency", str(CONCURRENCY), "--resume"]
    kills = 0
    async with serve(handler) as server:
        environment = {**os.environ, "MOONDREAM_BASE_URL": server.base_url}
        for attempt in range(KILLS * 3):
            quiet = asyncio.subprocess.DEVNULL
            process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=quiet, stderr=quiet)
            last = kills == KILLS or attempt == KILLS * 3 - 1
            target = sum(requests.values()) + dice.randrange(0, 2 * ITEMS // KILLS)
            while not last and process.returncode is None and sum(requests.values()) < target:
                await asyncio.sleep(dice.random() * 0.005)
            if not last and process.returncode is None:
                process.send_signal(signal_number)
                kills += 1
            code = await asyncio.wait_for(process.wait(), 120)
            if code == 0:
                break
    assert code == 0
    assert kills > KILLS // 4
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(record["id"] for record in written) == sorted(f"item-{n}" for n in range(ITEMS))
    assert all(record["ok"] and record["result"]["answer"] == record["id"][5:] for record in written)
    # At most the items in flight at a kill were requested twice; none where the run could finish them.
    assert sum(requests.values()) <= ITEMS + (kills * CONCURRENCY if signal_number == signal.SIGKILL else 0)


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
async def test_killed_during_retry_failed(tmp_path: Path) -> None:
    """One of two skills succeeds, the other fails half of the time: paid results stay in the file."""
    items, concurrency, kills = 60, 4, scaled(4, 12)
    paid: Counter[str] = Counter()
    dice = random.Random(7)
    is_last = False

    async def handler(exchange: Exchange) -> None:
        await asyncio.sleep(dice.random() * 0.01)
        if "object" not in exchange.json:
            paid["caption"] += 1
            await exchange.answer({"caption": "paid"})
        elif is_last or dice.random() < 0.5:
            paid["detect"] += 1
            await exchange.answer({"objects": []})
        else:
            await exchange.answer({"error": "no"}, status=400)

    picture, manifest, out = tmp_path / "a.png", tmp_path / "items.jsonl", tmp_path / "results.jsonl"
    picture.write_bytes(scene())
    lines = [{"image": str(picture), "id": f"item-{n}"} for n in range(items)]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, "-m", "moondream_async", "run", str(manifest), "--skill", "caption", "--skill", "detect"]
    command += ["--object", "x", "--out", str(out), "--concurrency", str(concurrency), "--retry-failed"]
    known: set[tuple[Any, str]] = set()
    async with serve(handler) as server:
        environment = {**os.environ, "MOONDREAM_BASE_URL": server.base_url}
        for attempt in range(kills + 1):
            is_last = attempt == kills
            quiet = asyncio.subprocess.DEVNULL
            process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=quiet, stderr=quiet)
            target = server.requests + dice.randrange(1, 30)
            while not is_last and process.returncode is None and server.requests < target:
                await asyncio.sleep(dice.random() * 0.005)
            if not is_last and process.returncode is None:
                process.send_signal(signal.SIGKILL)
            code = await asyncio.wait_for(process.wait(), 120)
            current = answers(out)
            assert known <= current
            known = current
    assert code == 0
    assert sorted(record["id"] for record in read_records(out)) == sorted(f"item-{n}" for n in range(items))
    assert len(out.read_bytes().splitlines()) == items
    assert len(known) == 2 * items
    assert paid["caption"] <= items + kills * concurrency
    assert paid["detect"] <= items + kills * concurrency


def answers(out: Path) -> set[tuple[Any, str]]:
    """Return the item and skill of each result in the file."""
    records = list(read_records(out)) if out.exists() else []
    assert len({record["id"] for record in records}) == len(records)
    return {(record["id"], skill) for record in records for skill in record.get("result") or {}}


@pytest.mark.skipif(os.name != "posix", reason="there is no such limit")
async def test_a_disk_that_is_repeatedly_full(tmp_path: Path, tiny: EncodedImage) -> None:
    """The file may grow by a few bytes each time; results in it are neither lost nor requested again."""
    paid: Counter[str] = Counter()
    fails = True

    async def handler(exchange: Exchange) -> None:
        if fails and "object" in exchange.json:
            await exchange.answer({"error": "no"}, status=400)
        else:
            paid[exchange.head.split()[1]] += 1
            await exchange.answer({"caption": "paid", "objects": []})

    out, items = tmp_path / "r.jsonl", [(n, tiny) for n in range(12)]
    skills: dict[str, Any] = {"caption": {}, "detect": {"object": "x"}}
    full = 0
    async with serve(handler) as server, AsyncClient(base_url=server.base_url, retry=1) as c:
        for step in range(0, 4000, scaled(389, 97)):
            fails = step < 2000
            size = out.stat().st_size if out.exists() else 0
            known = answers(out)
            try:
                with file_size_limit(size + step % 600):
                    await c.run(skills, items, out, concurrency=1, retry_failed=True)
            except ResultsFileError as exc:
                assert "cannot be written" in str(exc) or "cannot be used" in str(exc)  # noqa: PT017
                full += 1
            assert known <= answers(out)
        summary = await c.run(skills, items, out, retry_failed=True)
    assert full > 10
    assert summary.skipped + summary.succeeded == 12
    assert len(answers(out)) == 24
    assert len(out.read_bytes().splitlines()) == 12
    assert paid["/v1/caption"] <= 12 + full
    assert paid["/v1/detect"] <= 12 + full
