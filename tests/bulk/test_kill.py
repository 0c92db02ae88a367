"""A run that is killed again and again at random moments: every item once in the file, hardly one paid for twice."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.loopback import Exchange, serve
from tests.support.pictures import scene

ITEMS, AT_ONCE, KILLS = 600, 8, 20


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGKILL")
@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT])
async def test_killed_at_random(signal_number: int, tmp_path: Path) -> None:
    asked: Counter[str] = Counter()
    dice = random.Random(signal_number)

    async def handler(exchange: Exchange) -> None:
        asked[exchange.json["question"]] += 1
        await asyncio.sleep(dice.random() * 0.02)
        await exchange.answer({"answer": exchange.json["question"]})

    picture, manifest, out = tmp_path / "a.png", tmp_path / "items.jsonl", tmp_path / "results.jsonl"
    picture.write_bytes(scene())
    lines = [{"image": str(picture), "id": f"item-{n}", "question": str(n)} for n in range(ITEMS)]
    manifest.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [sys.executable, "-m", "moondream_async", "run", str(manifest), "--skill", "query", "--out", str(out)]
    command += ["--concurrency", str(AT_ONCE), "--resume"]
    kills = 0
    async with serve(handler) as server:
        environment = {**os.environ, "MOONDREAM_BASE_URL": server.base_url}
        for attempt in range(KILLS * 3):
            quiet = asyncio.subprocess.DEVNULL
            process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=quiet, stderr=quiet)
            last = kills == KILLS or attempt == KILLS * 3 - 1
            wanted = sum(asked.values()) + dice.randrange(0, 2 * ITEMS // KILLS)
            while not last and process.returncode is None and sum(asked.values()) < wanted:
                await asyncio.sleep(dice.random() * 0.005)
            if not last and process.returncode is None:
                process.send_signal(signal_number)
                kills += 1
            code = await process.wait()
            if code == 0:
                break
    assert code == 0
    assert kills >= 5
    written = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(record["id"] for record in written) == sorted(f"item-{n}" for n in range(ITEMS))
    assert all(record["ok"] and record["result"]["answer"] == record["id"][5:] for record in written)
    # Asked for twice were at most those in flight at a kill; none, where it could finish them.
    assert sum(asked.values()) <= ITEMS + (kills * AT_ONCE if signal_number == signal.SIGKILL else 0)
