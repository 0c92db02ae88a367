"""The command over stdio, as clients start it: one process for all of this."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp_types import ListRootsResult, Root

from moondream_async._cli import main

COMMAND = ["-m", "moondream_async", "mcp", "--sandbox"]
KEY = "sk-very-secret-key-1234"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_session(mode: Any, root: Path, tmp_path: Path) -> None:
    async def list_roots(_: Any) -> ListRootsResult:
        return ListRootsResult(roots=[Root(uri=root.as_uri())])  # type: ignore[arg-type]

    progress: list[float] = []

    async def on_progress(done: float, total: float | None, message: str | None) -> None:
        progress.append(done)

    environment = {**os.environ, "MOONDREAM_API_KEY": KEY, "TMPDIR": str(tmp_path)}
    parameters = StdioServerParameters(
        command=sys.executable, args=[*COMMAND, "--max-calls", "64", "-vv"], env=environment, cwd=tmp_path
    )
    with (tmp_path / "stderr").open("w") as errors:
        transport = stdio_client(parameters, errlog=errors)
        async with Client(transport, mode=mode, list_roots_callback=list_roots) as agent:
            assert len((await agent.list_tools()).tools) == 10
            found = await agent.call_tool("annotate", {"image": "scene.png", "object": "red"})
            assert [block.type for block in found.content] == ["text", "image"]
            path = Path(found.structured_content["files"][0])  # type: ignore[index]
            assert path.exists()
            refused = await agent.call_tool("caption", {"image": str(tmp_path / "secret.png")})
            assert refused.is_error
            await agent.call_tool("find_in_folder", {"folder": ".", "object": "red"}, progress_callback=on_progress)
            assert progress[0] == 0
            calls = [agent.call_tool("detect", {"image": "scene.png", "object": "red"}) for _ in range(50)]
            assert not any(each.is_error for each in await asyncio.gather(*calls))
            call = asyncio.create_task(agent.call_tool("detect", {"image": "scene.png", "object": "red"}))
            await asyncio.sleep(0)
            call.cancel()
            left = (await agent.call_tool("estimate_cost", {})).structured_content
            assert left is not None
            assert 10 <= left["calls_left"] <= 11
    assert not path.exists()  # with the server
    log = (tmp_path / "stderr").read_text()
    assert "detect" in log
    assert "Traceback" not in log
    assert KEY[:-4] not in log


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_it(number: int, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, *COMMAND],
        cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write('{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["id"] == 1
    assert list(tmp_path.iterdir())
    process.send_signal(number)
    out, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert (out, errors) == ("", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ([], "No API key"),
        (["--sandbox", "--root", "nope"], "is not a folder"),
        (["--sandbox", "--max-cost", "1"], "--max-cost needs --prices"),
    ],
)
def test_what_is_said_at_the_start(words: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mcp", *words]) == 1
    out, errors = capsys.readouterr()
    assert problem in errors
    assert out == ""
