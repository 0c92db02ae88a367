"""A process may stop reading results without a warning."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio

from tests.support.batches import jobs_of


async def test_leaving_early_causes_no_warning(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    """No way to leave the loop prints a warning, such as one about an open connection."""
    client = at_sandbox()
    items = ((n, photos[0]) for n in range(300))
    job = await client.batches.wait(await client.batches.create(items, "detect", object="red"))
    output = jobs_of(client)[job.id].outputs[0]
    padded = [json.dumps({**json.loads(line), "pad": "x" * 4_000}) + "\n" for line in output.read_text().splitlines()]
    output.write_text("".join(padded))
    code = """
import asyncio, sys
from moondream_async import AsyncClient, Client
async def first(client):
    async for outcome in client.batches.results(sys.argv[2]):
        return outcome
async def main():
    async with AsyncClient("a-key-of-the-sandbox", base_url=sys.argv[1]) as client:
        for _ in range(3):
            assert await first(client)
asyncio.run(main())
try:
    with Client("a-key-of-the-sandbox", base_url=sys.argv[1]) as client:
        results = client.batches.results(sys.argv[2])
        next(results)
        for outcome in client.batches.results(sys.argv[2]):
            raise KeyError
except KeyError:
    pass
"""
    command = [sys.executable, "-W", "error", "-c", code, client.base_url, job.id]
    done = await anyio.to_thread.run_sync(
        lambda: subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    )
    assert (done.returncode, done.stderr) == (0, "")
