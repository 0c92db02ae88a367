"""Ready files as editors and other programs write them."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from moondream_async import BatchInputError
from moondream_async._batches import wire
from moondream_async._batches.job.manifest import read_manifest

BOM = b"\xef\xbb\xbf"


def lines_of(scene: bytes, count: int = 3) -> list[bytes]:
    image = base64.b64encode(scene).decode()
    return [json.dumps({"id": f"caf\u00e9-{n}", "skill": "caption", "image": image}).encode() for n in range(count)]


GOOD = {
    "a blank last line": lambda lines: b"\n".join(lines) + b"\n\n",
    "many blank last lines": lambda lines: b"\n".join(lines) + b"\n" + b" \r\n" * 50 + b"  ",
    "no last line end": lambda lines: b"\n".join(lines),
    "blank first lines": lambda lines: b"\n\r\n" + b"\n".join(lines) + b"\n",
    "a byte order mark": lambda lines: BOM + b"\n".join(lines) + b"\n",
    "a byte order mark on a blank line": lambda lines: BOM + b"\n" + b"\n".join(lines) + b"\n",
    "CRLF": lambda lines: b"\r\n".join(lines) + b"\r\n",
    "all of it": lambda lines: BOM + b"\r\n".join(lines) + b"\r\n\r\n",
}


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("name", GOOD)
async def test_accepted_files(
    at_sandbox: Any, scene: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, split: bool
) -> None:
    if split:
        monkeypatch.setattr(wire, "MAX_LINES", 2)
    client, path = at_sandbox(), tmp_path / "ready.jsonl"
    path.write_bytes(GOOD[name](lines_of(scene)))
    job = await client.batches.wait(await client.batches.submit(path, folder=tmp_path / "job"))
    assert (job.status, job.items, job.progress.failed) == ("completed", 3, 0)
    outcomes = [outcome async for outcome in client.batches.results(job)]
    assert sorted((o.index, o.id, o.ok) for o in outcomes) == [(n, f"caf\u00e9-{n}", True) for n in range(3)]
    for portion in read_manifest(tmp_path / "job").portions:
        sent = path.read_bytes()[portion.start : portion.start + portion.length]
        assert sent.startswith(b"{")
        assert len(sent.splitlines()) == portion.lines


BAD = {
    "a blank line between": (lambda lines: b"\n".join([lines[0], b"", b" \r", lines[1]]), "Line 2 is blank", [2, 3]),
    "cp1252": (lambda lines: lines[0] + b"\n" + lines[1].replace(b"\\u00e9", b"\xe9"), "Line 2 is not UTF-8", [2]),
    "UTF-16": (lambda lines: b"\n".join(lines).decode().encode("utf-16"), "UTF-16 or UTF-32; save it as UTF-8", []),
    "UTF-16 without its mark": (lambda lines: lines[0].decode().encode("utf-16-le"), "UTF-16", []),
    "UTF-32": (lambda lines: lines[0].decode().encode("utf-32"), "UTF-32", []),
    "gzip": (lambda lines: gzip.compress(lines[0]), "compressed with gzip", []),
    "only blank lines": (lambda lines: BOM + b"\n \r\n", "there are no lines", []),
    "a byte order mark in line 2": (lambda lines: lines[0] + b"\n" + BOM + lines[1], "Line 2 is not JSON", [2]),
    "nested": (lambda lines: b'{"a": ' * 5_000 + b"1" + b"}" * 5_000, "Line 1 is not JSON", [1]),
    "a list": (lambda lines: b"[" + b",".join(lines) + b"]", "Line 1 is not a JSON object", [1]),
}


@pytest.mark.parametrize("name", BAD)
async def test_refused_by_name(at_sandbox: Any, scene: bytes, tmp_path: Path, name: str) -> None:
    make, says, numbers = BAD[name]
    client, path = at_sandbox(), tmp_path / "ready.jsonl"
    path.write_bytes(make(lines_of(scene)))
    with pytest.raises(BatchInputError, match=says) as info:
        await client.batches.submit(path)
    assert [number for number, _ in info.value.problems] == numbers
    assert "ready.jsonl" in info.value.message
    assert client.stats.requests == 0
    assert not list(tmp_path.glob("state/**/manifest.json"))
