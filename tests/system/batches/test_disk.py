"""Full, broken or read-only disks: errors are raised early, and no line is lost or submitted twice."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from moondream_async import BatchError, BatchFolderError, ConfigurationError, MoondreamError, ResultsFileError
from moondream_async._batches.job.folder import Folder
from moondream_async.bulk import read_results
from tests.support.batches import KEY, jobs_of, ready
from tests.support.effort import scaled
from tests.support.processes import run_script

SCRIPT = """
import asyncio, resource, signal, sys
from pathlib import Path
from moondream_async import AsyncBatches, AsyncClient, MoondreamError
from moondream_async._batches import wire
from moondream_async._concurrency.polling import PollSchedule

AsyncBatches._poll_schedule = PollSchedule(first=0.02, maximum=30.0)
wire.MAX_LINES = 3
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

async def main():
    photos = sorted(Path(sys.argv[1]).iterdir())
    async with AsyncClient(sys.argv[2], base_url=sys.argv[3]) as client:
        await client.models()  # imports what later calls need
        if sys.argv[4]:
            limit = int(sys.argv[4])
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        try:
            items = [*photos, ("bad", b"no image")]
            job = await client.batches.create(items, "caption", folder="job")
            await client.batches.wait(job)
            await client.batches.save(job, "out.jsonl")
        except MoondreamError as exc:
            print(type(exc).__name__, exc, file=sys.stderr)
            return 7
    return 0

sys.exit(asyncio.run(main()))
"""


LIMITS = (0, 50, 200, 250, 400, 600, 900, 1_300, 1_500, 5_000, 20_000)  # bytes


async def run(photos: Path, client: Any, limit: str) -> tuple[int, str]:
    return await run_script(SCRIPT, [str(photos), KEY, client.base_url, limit], photos.parent)


@pytest.mark.skipif(sys.platform != "linux", reason="the system has no limit of file sizes")
@pytest.mark.parametrize("limit", LIMITS[:: scaled(3, 1)])
async def test_full_at_each_write(at_sandbox: Any, photos: list[Path], tmp_path: Path, limit: int) -> None:
    """Files are limited to this size, so the manifest, the index, lines, rejected items or results do not fit."""
    client = at_sandbox()
    code, errors = await run(photos[0].parent, client, str(limit))
    assert code in (0, 7), errors
    assert "Traceback" not in errors
    assert code == 0 or "File too large" in errors, errors
    code, errors = await run(photos[0].parent, client, "")
    assert (code, errors) == (0, "")
    assert sorted(job.total for job in jobs_of(client).values()) == [2, 3]
    read = list(read_results(tmp_path / "out.jsonl"))
    assert sorted((outcome.id, outcome.ok) for outcome in read) == sorted(
        [(str(path), True) for path in photos] + [("bad", False)]
    )


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("step", ["folder", "rejected"])
async def test_a_write_that_fails(
    at_sandbox: Any, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int
) -> None:
    client, items = at_sandbox(), [*photos, ("bad", b"no image")]

    def failing(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(f"moondream_async._batches.job.{step}.write_all", failing)
        with pytest.raises(BatchError, match=os.strerror(code)):
            await client.batches.create(items, "caption", folder=tmp_path / "job")
    job = await client.batches.create(items, "caption", folder=tmp_path / "job")
    assert (job.items, job.refused, len(jobs_of(client))) == (6, 1, 1)


@pytest.mark.parametrize("kind", ["below a file", "a file", "too long", "NUL", "a link in a circle"])
@pytest.mark.parametrize("call", ["create", "submit"])
async def test_a_folder_that_cannot_be_written(
    at_sandbox: Any, scene: bytes, tmp_path: Path, kind: str, call: str
) -> None:
    client, file = at_sandbox(), ready(tmp_path / "ready.jsonl", scene, 1)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    folder = {
        "below a file": str(file / "job"),
        "a file": str(file),
        "too long": str(tmp_path / ("x" * 300)),
        "NUL": str(tmp_path / "a\0b"),
        "a link in a circle": str(tmp_path / "circle" / "job"),
    }[kind]
    before = file.read_bytes()
    with pytest.raises(MoondreamError, match="cannot be used") as info:
        if call == "create":
            await client.batches.create([scene], "caption", folder=folder)
        else:
            await client.batches.submit(file, folder=folder)
    assert isinstance(info.value, ConfigurationError)
    assert client.stats.requests == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "state") == ["circle", "ready.jsonl"]
    assert file.read_bytes() == before


async def test_a_folder_on_a_full_disk(
    at_sandbox: Any, scene: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = at_sandbox()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "_write", full)
        with pytest.raises(BatchFolderError, match="No space left"):
            await client.batches.create([scene], "caption", folder=tmp_path / "job")
    assert client.stats.requests == 0
    assert not (tmp_path / "job").exists()


@pytest.mark.parametrize(
    ("skill", "arguments", "says"),
    [
        ("detect", {}, "detect needs object"),
        ("point", {}, "point needs object"),
        ("query", {}, "query needs question"),
        ("caption", {"nope": 1}, "takes no nope"),
        ("caption", {"max_failures": -1}, "max_failures"),
        ("caption", {"max_failures": "x"}, "max_failures"),
        ("caption", {"folder": 3}, "folder must be"),
    ],
)
async def test_invalid_arguments_create_no_folder(
    at_sandbox: Any,
    photos: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    skill: str,
    arguments: Any,
    says: str,
) -> None:
    client, created = at_sandbox(), []
    monkeypatch.setattr(Folder, "__init__", lambda *_: created.append(1))
    kinds: list[Any] = [photos, iter(photos), (path for path in photos), [(1, photos[0]), (2, photos[1], {})]]
    for items in kinds:
        with pytest.raises(ConfigurationError, match=says):
            await client.batches.create(items, skill, **{"folder": tmp_path / "job", **arguments})
    assert created == []
    assert client.stats.requests == 0


async def test_items_with_their_own_arguments(at_sandbox: Any, photos: list[Path]) -> None:
    """The first item, which is checked before the folder is created, is not lost."""
    client = at_sandbox()
    job = await client.batches.create(((n, path, {"object": "red"}) for n, path in enumerate(photos)), "detect")
    assert (job.items, job.refused) == (5, 0)


async def test_impossible_names(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    client = at_sandbox()
    job = await client.batches.wait(await client.batches.create(photos, "caption", folder=tmp_path / "job"))
    for name in ("x" * 5_000, "a/" * 3_000, "a\0b"):
        for method in (client.batches.status, client.batches.wait, client.batches.cancel):
            with pytest.raises(MoondreamError):
                await method(name)
        with pytest.raises(MoondreamError):
            await client.batches.submit(name)
        with pytest.raises(MoondreamError):
            await client.batches.save(job, name)
    for wrong in (3, None, b"out.jsonl"):
        with pytest.raises(ConfigurationError, match="must be a str or Path"):
            await client.batches.save(job, wrong)
    with pytest.raises(ResultsFileError):
        await client.batches.save(job, tmp_path)


@pytest.mark.parametrize("name", ["000.index", "refused.jsonl", "manifest.json"])
@pytest.mark.parametrize(
    "damage", [b"{\n", b"null\n", b"[]\n", b'{"item": "x", "id": []}\n', b"\xff\n", b"[" * 9_000 + b"\n"]
)
async def test_a_damaged_folder(at_sandbox: Any, photos: list[Path], tmp_path: Path, name: str, damage: bytes) -> None:
    client, items = at_sandbox(), [*photos, ("bad", b"no image")]
    job = await client.batches.wait(await client.batches.create(items, "caption", folder=tmp_path / "job"))
    (tmp_path / "job" / name).write_bytes(damage)
    errors: list[MoondreamError] = []
    for call in (
        client.batches.wait(tmp_path / "job"),
        client.batches.save(job, tmp_path / "out.jsonl"),
        client.batches.create(items, "caption", folder=tmp_path / "job"),
    ):
        try:
            await call
        except MoondreamError as exc:
            errors.append(exc)
    assert errors
    for error in errors:
        assert str(tmp_path / "job") in error.message
        assert name in error.message or "not a valid manifest" in error.message


async def test_a_manifest_with_wrong_types(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    client = at_sandbox()
    await client.batches.create(photos, "caption", folder=tmp_path / "job")
    path = tmp_path / "job" / "manifest.json"
    whole = json.loads(path.read_text())
    for change in ({"base_url": 3}, {"arguments": []}, {"portions": 3}, {"items": "5"}):
        path.write_text(json.dumps({**whole, **change}))
        with pytest.raises(BatchError, match="not a valid manifest"):
            await client.batches.wait(tmp_path / "job")
    for change in ({"batch_id": 3}, {"parts": []}, {"parts": {"x": "y"}}, {"start": None}):
        path.write_text(json.dumps({**whole, "portions": [{**whole["portions"][0], **change}]}))
        with pytest.raises(BatchError, match="not a valid manifest"):
            await client.batches.wait(tmp_path / "job")


async def test_ids_and_arguments_that_cannot_be_written(at_sandbox: Any, scene: bytes, tmp_path: Path) -> None:
    client, circle = at_sandbox(), {}
    circle["settings"] = circle
    items = [
        ("good", scene),
        ("x" * 5_000_000, scene),
        ("odd", scene, circle),
        ("keys", scene, {"settings": {1: 2, "a": 3}}),
    ]
    job = await client.batches.create(items, "caption", folder=tmp_path / "job")
    assert (job.items, job.refused) == (4, 3)
    outcomes = [o async for o in client.batches.results(await client.batches.wait(job))]
    assert sorted((o.index, o.ok) for o in outcomes) == [(0, True), (1, False), (2, False), (3, False)]
    with pytest.raises(ConfigurationError, match=r"cannot be used|bytes"):
        await client.batches.create([scene], "query", question="x" * 5_000_000)
    line = json.loads(ready(tmp_path / "ready.jsonl", scene, 1).read_text())
    (tmp_path / "ready.jsonl").write_text(json.dumps({**line, "id": "x" * 5_000_000}))
    with pytest.raises(ConfigurationError, match="Line 1 has an id"):
        await client.batches.submit(tmp_path / "ready.jsonl")
