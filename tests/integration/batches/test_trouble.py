"""What a hurried user does, and what a server does that is not as documented: nothing twice, nothing lost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.responses import JSONResponse, Response

from moondream_async import (
    APIError,
    BatchError,
    BatchInputError,
    ConfigurationError,
    ImageError,
    NotFoundError,
    RetryPolicy,
    ServerError,
)
from moondream_async._batches import multipart_upload, wire
from moondream_async._batches.job.folder import Folder
from moondream_async._batches.job.manifest import read_manifest
from moondream_async._batches.lines import ItemSource, LineBuilder
from moondream_async._sandbox.batches.routes import Batches
from moondream_async.bulk import read_results
from tests.support.batches import everything, jobs_of, ready, uploads_of

ONCE = RetryPolicy(attempts=1)
QUICK = RetryPolicy(attempts=4, backoff=0.01)

Odd = Callable[[str], Response]
ODD: dict[str, Odd] = {
    "a gateway's 503": lambda _: JSONResponse({"error": "gateway"}, 503),
    "a gateway's 524": lambda _: Response("<html>524</html>", 524),
    "no JSON": lambda _: Response("<html>ok</html>", 200),
    "nothing": lambda _: Response(b"", 202),
    "no status": lambda name: JSONResponse({"id": name}),
    "another shape": lambda _: JSONResponse({"ok": True}),
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart_upload, "_VISIBILITY_RETRIES", (0.01, 0.02))


def answers(monkeypatch: pytest.MonkeyPatch, name: str, odd: Callable[..., Any]) -> None:
    """Have the sandbox do what it is asked for, and answer otherwise: `odd(its answer, request)`."""
    original = getattr(Batches, name)

    async def answered(self: Any, request: Any, faults: Any) -> Any:
        return odd(await original(self, request, faults), request)

    monkeypatch.setattr(Batches, name, answered)


@pytest.mark.parametrize("folder", [None, "job"])
@pytest.mark.parametrize("name", ODD)
async def test_an_unexpected_response_starts_no_second_batch(
    at_sandbox: Any, photos: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, folder: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    answers(monkeypatch, "_complete", lambda _, request: ODD[name](request.path_params["id"]))
    client = at_sandbox()
    job = await client.batches.create(photos, "caption", folder=folder)
    if folder:
        assert (await client.batches.create(photos, "caption", folder=folder)).ids == job.ids
    assert list(jobs_of(client)) == job.ids
    assert len(await everything(client, await client.batches.wait(job))) == 5


async def test_a_batch_with_another_id_is_not_started_twice(
    at_sandbox: Any, photos: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The answer is lost, and the batch cannot be found by the name of its upload: the user is asked."""
    answers(monkeypatch, "_complete", lambda *_: Response(b"", 504))
    answers(monkeypatch, "_retrieve", lambda *_: JSONResponse({"error": "no such batch"}, 404))
    client = at_sandbox(retry=ONCE)
    for _ in range(3):
        with pytest.raises(BatchError, match="is not known whether"):
            await client.batches.create(photos, "caption", folder=tmp_path / "job")
    assert len(jobs_of(client)) == 1
    assert "pass that path as folder=" in "".join(await note_of(client, photos))


async def note_of(client: Any, photos: list[Path]) -> list[str]:
    with pytest.raises(BatchError) as info:
        await client.batches.create(photos, "caption")
    return list(info.value.__notes__)


async def test_an_upload_that_can_be_looked_up_is_not_a_batch(
    at_sandbox: Any, photos: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = at_sandbox(retry=ONCE, status=502, times=3, on="mpu-complete")

    async def retrieve(self: Any, request: Any, faults: Any) -> Any:
        return JSONResponse({"id": request.path_params["id"], "status": "uploading"})

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "_retrieve", retrieve)
        with pytest.raises(ServerError):
            await client.batches.create(photos, "caption", folder=tmp_path / "job")
    assert list((tmp_path / "job").glob("*.jsonl"))  # the lines are still there
    job = await client.batches.create(photos, "caption", folder=tmp_path / "job")
    assert list(jobs_of(client)) == job.ids


@pytest.mark.parametrize("status", [401, 402, 403])
@pytest.mark.parametrize("action", ["mpu-uploadpart", "mpu-complete"])
async def test_resuming_with_a_corrected_key(
    at_sandbox: Any, photos: list[Path], tmp_path: Path, status: int, action: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multipart_upload, "PART", 5_000)
    monkeypatch.setattr(multipart_upload, "_PARTS_AT_ONCE", 1)
    client = at_sandbox(status=status, on=action)
    with pytest.raises(APIError) as info:
        await client.batches.create(photos, "caption", folder=tmp_path / "job")
    assert info.value.status == status
    sent, kept = client.stats.bytes_sent, len(read_manifest(tmp_path / "job").portions[0].parts) * 5_000
    await client.batches.create(photos, "caption", folder=tmp_path / "job")
    assert client.stats.bytes_sent - sent < read_manifest(tmp_path / "job").portions[0].length - kept + 6_000


@pytest.mark.parametrize(("skill", "lacks"), [("detect", "object"), ("point", "object"), ("query", "question")])
async def test_a_forgotten_argument(
    at_sandbox: Any, photos: list[Path], tmp_path: Path, skill: str, lacks: str
) -> None:
    client = at_sandbox()
    with pytest.raises(ConfigurationError, match=f"{skill} needs {lacks}"):
        await client.batches.create(photos, skill, folder=tmp_path / "job")
    assert not (tmp_path / "job").exists()
    job = await client.batches.create(photos, skill, folder=tmp_path / "job", **{lacks: "red"})
    assert len(await everything(client, await client.batches.wait(job))) == 5
    items = [(path.name, path, {lacks: "red"}) for path in photos]
    assert (await client.batches.create(items, skill)).refused == 0


async def test_a_job_without_valid_items(at_sandbox: Any, tmp_path: Path) -> None:
    client = at_sandbox()
    with pytest.raises(ConfigurationError, match=r"None of the 2 items.*There is no file"):
        await client.batches.create([tmp_path / "a.png", tmp_path / "b.png"], "caption", folder=tmp_path / "job")
    with pytest.raises(ConfigurationError, match="JSON"):
        await client.batches.create([b""], "caption", settings={"x": [float("inf")]})
    assert client.stats.requests == 0
    assert not (tmp_path / "job").exists()
    assert not list(tmp_path.glob("state/**/manifest.json"))


async def test_items_that_are_added_later(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    client = at_sandbox()
    first = await client.batches.create(photos[:3], "caption", folder=tmp_path / "job")
    job = await client.batches.create(list(reversed(photos)), "caption", folder=tmp_path / "job")
    assert (job.ids[0], len(job.ids), job.items) == (first.id, 2, 5)
    outcomes = await everything(client, await client.batches.wait(job))
    assert sorted(outcome.id for outcome in outcomes) == [str(path) for path in photos]
    assert [outcome.index for outcome in outcomes] == [0, 1, 2, 3, 4]


async def test_rejected_items_are_tried_again(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    client, late = at_sandbox(), tmp_path / "late.png"
    items = [photos[0], late, tmp_path / "never.png"]
    job = await client.batches.create(items, "caption", folder=tmp_path / "job")
    assert (job.refused, job.items) == (2, 3)
    late.write_bytes(photos[0].read_bytes())
    job = await client.batches.create(items, "caption", folder=tmp_path / "job")
    assert (job.refused, job.items, len(job.ids)) == (1, 3, 2)
    outcomes = await everything(client, await client.batches.wait(job))
    assert [(outcome.id, outcome.ok) for outcome in outcomes] == [
        (str(photos[0]), True),
        (str(late), True),
        (str(tmp_path / "never.png"), False),
    ]
    job = await client.batches.create(photos[:1], "caption", folder=tmp_path / "job")
    assert job.refused == 1  # what does not come round is not forgotten
    with pytest.raises(ImageError):
        await client.batches.create(items, "caption", folder=tmp_path / "strict", max_failures=0)


async def test_a_submission_that_stops_halfway(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    """An item that was rejected and then accepted is reported once, although the call that accepted it was interrupted."""
    client, good = at_sandbox(), photos[0].read_bytes()
    await client.batches.create([("x", b"bad"), ("y", good), ("z", b"bad")], "caption", folder=tmp_path / "job")

    async def stopped() -> Any:
        yield "x", good
        yield "y", good
        await anyio.sleep(0.2)
        raise KeyError("mine")

    with pytest.raises(KeyError):
        await client.batches.create(stopped(), "caption", folder=tmp_path / "job")
    job = await client.batches.create([("new", good), ("x", good), ("y", good)], "caption", folder=tmp_path / "job")
    assert (job.items, job.refused) == (4, 1)
    outcomes = await everything(client, await client.batches.wait(job))
    assert [(outcome.index, outcome.id, outcome.ok) for outcome in outcomes] == [
        (0, "x", True),
        (1, "y", True),
        (2, "z", False),
        (3, "new", True),
    ]


async def test_repeated_ids(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    client = at_sandbox()
    job = await client.batches.create([("x", photos[0]), ("x", photos[1]), ("y", photos[2])], "caption")
    await client.batches.wait(job)
    for skipped in (0, 3):
        summary = await client.batches.save(job, tmp_path / "out.jsonl")
        assert (summary.succeeded, summary.skipped) == (3 - skipped, skipped)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3


async def test_groups_of_images_without_ids(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    client = at_sandbox()
    groups = [photos[:2], photos[2:4], [photos[4].read_bytes(), photos[0]]]
    for items in (groups[:2], list(reversed(groups))):
        job = await client.batches.create(items, "query", question="?", folder=tmp_path / "job")
    outcomes = await everything(client, await client.batches.wait(job))
    assert len(outcomes) == 3
    assert outcomes[0].id == f"{photos[0]}, {photos[1]}"


async def test_ids_that_come_back_changed(at_sandbox: Any, photos: list[Path]) -> None:
    client = at_sandbox()
    job = await client.batches.wait(
        await client.batches.create([(n, path) for n, path in enumerate(photos)], "caption")
    )
    output = jobs_of(client)[job.id].outputs[0]
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    output.write_text("".join(json.dumps({**line, "id": str(line["id"])}) + "\n" for line in lines))
    assert [(o.index, o.id, o.ok) for o in await everything(client, job)] == [(n, n, True) for n in range(5)]
    output.write_text("".join(json.dumps({**line, "line_index": line["line_index"] + 1}) + "\n" for line in lines))
    assert [(o.index, o.id, o.ok) for o in await everything(client, job)] == [(n, n, True) for n in range(5)]


async def test_a_corrected_file_is_submitted_to_the_same_folder(at_sandbox: Any, scene: bytes, tmp_path: Path) -> None:
    client, path = at_sandbox(), ready(tmp_path / "ready.jsonl", scene, 2)
    path.write_text(path.read_text() + "{}\n")
    with pytest.raises(BatchInputError):
        await client.batches.submit(path, folder=tmp_path / "job")
    ready(path, scene, 2)
    assert (await client.batches.submit(path, folder=tmp_path / "job")).items == 2
    with pytest.raises(ConfigurationError, match="no items"):
        await client.batches.create([], "caption", folder=tmp_path / "other")
    assert (await client.batches.create([scene], "caption", folder=tmp_path / "other")).items == 1


async def test_a_folder_whose_first_save_was_interrupted(at_sandbox: Any, scene: bytes, tmp_path: Path) -> None:
    (tmp_path / "job").mkdir()
    for name in ("lock", "manifest.json.new"):
        (tmp_path / "job" / name).touch()
    assert (await at_sandbox().batches.create([scene], "caption", folder=tmp_path / "job")).items == 1


async def test_cancelling_a_partly_submitted_job(
    at_sandbox: Any, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_LINES", 3)
    client = at_sandbox(retry=ONCE)
    original, begun = multipart_upload.Upload._begin, []

    async def second_fails(self: Any) -> None:
        begun.append(self)
        if len(begun) == 2:
            raise ServerError("not now", status=500)
        await original(self)

    with monkeypatch.context() as patch:
        patch.setattr(multipart_upload.Upload, "_begin", second_fails)
        with pytest.raises(ServerError):
            await client.batches.create(photos, "caption", folder=tmp_path / "job")
    with pytest.raises(BatchError, match=f"The server has {next(iter(jobs_of(client)))}"):
        await client.batches.status(tmp_path / "job")
    assert await client.batches.cancel(tmp_path / "job") is False
    job = await client.batches.wait(str(tmp_path / "job"))
    assert (len(job.ids), job.refused, job.items) == (1, 2, 5)
    outcomes = await everything(client, job)
    assert [outcome.ok for outcome in outcomes].count(True) == 3
    assert [outcome.error.code for outcome in outcomes if not outcome.ok] == ["cancelled"] * 2
    job = await client.batches.create(photos, "caption", folder=tmp_path / "job")  # and yet
    assert all(outcome.ok for outcome in await everything(client, await client.batches.wait(job)))


async def test_cancelling_a_batch_that_was_never_accepted(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    client = at_sandbox(retry=ONCE, status=500, times=0, on="mpu-complete")
    with pytest.raises(ServerError):
        await client.batches.create(photos, "caption", folder=tmp_path / "job")
    assert len(uploads_of(client)) == 1
    assert await client.batches.cancel(tmp_path / "job") is True
    assert uploads_of(client) == {}
    assert not (tmp_path / "job").exists()


async def test_cancelling_a_batch_that_becomes_visible_later(
    at_sandbox: Any, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, asked = at_sandbox(retry=ONCE), []
    gone = JSONResponse({"error": "not found"}, 404)
    with monkeypatch.context() as patch:
        answers(patch, "_complete", lambda *_: Response(b"", 504))
        answers(patch, "_retrieve", lambda *_: gone)
        with pytest.raises((ServerError, BatchError)):
            await client.batches.create(photos, "caption", folder=tmp_path / "job")

    def late(answer: Any, _: Any) -> Any:
        asked.append(1)
        return gone if len(asked) < 3 else answer

    answers(monkeypatch, "_retrieve", late)
    assert await client.batches.cancel(tmp_path / "job") is False
    assert len(await everything(client, await client.batches.wait(tmp_path / "job"))) == 5


async def test_a_cancel_that_fails(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    client = at_sandbox(retry=ONCE, status=500, times=1, on="mpu-uploadpart")
    with pytest.raises(ServerError):
        await client.batches.create(photos, "caption", folder=tmp_path / "job")
    failing = client.with_options(headers={"X-Sandbox-Fault": "status=503; on=mpu-abort; id=x"})
    with pytest.raises(ServerError):
        await failing.batches.cancel(tmp_path / "job")
    assert len(uploads_of(client)) == 1
    assert await failing.batches.cancel(tmp_path / "job") is True
    assert uploads_of(client) == {}


async def test_a_folder_that_was_half_deleted(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    client = at_sandbox()
    await client.batches.create(photos, "caption", folder=tmp_path / "job")
    (tmp_path / "job" / "manifest.json").unlink()
    assert (await client.batches.create(photos[:2], "caption", folder=tmp_path / "job")).items == 2


async def test_results_that_become_available_later(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    client = at_sandbox()
    job = await client.batches.wait(await client.batches.create(photos, "caption"))
    output = jobs_of(client)[job.id].outputs[0]
    whole = output.read_text()
    output.write_text("".join(whole.splitlines(keepends=True)[:2]))
    summary = await client.batches.save(job, tmp_path / "out.jsonl")
    assert (summary.succeeded, summary.failed) == (2, 3)
    output.write_text(whole)
    summary = await client.batches.save(job, tmp_path / "out.jsonl")
    assert (summary.succeeded, summary.failed, summary.skipped) == (3, 0, 2)


async def test_saving_the_results_of_a_growing_job(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    client, late, out = at_sandbox(), tmp_path / "late.png", tmp_path / "out.jsonl"
    found: list[tuple[int, int, int]] = []
    for items in ([photos[0], late], [photos[0], late, photos[1]], [photos[0], late, photos[1]]):
        job = await client.batches.create(items, "caption", folder=tmp_path / "job")
        summary = await client.batches.save(await client.batches.wait(job), out)
        found.append((summary.succeeded, summary.failed, summary.skipped))
        late.write_bytes(photos[0].read_bytes() if len(found) == 2 else b"no image")
    assert found == [(1, 1, 0), (1, 1, 1), (1, 0, 2)]
    assert [outcome.ok for outcome in read_results(out)] == [True] * 3


async def test_another_current_directory(
    at_sandbox: Any, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    client = at_sandbox()
    job = await client.batches.create(photos, "caption", folder="job", progress=lambda _: os.chdir(photos[0].parent))
    assert len(await everything(client, await client.batches.wait(job))) == 5
    for wrong in ("", 3, b"job"):
        with pytest.raises(ConfigurationError, match="folder must be"):
            await client.batches.create(photos, "caption", folder=wrong)


async def test_a_batch_that_becomes_visible_later(
    at_sandbox: Any, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, asked = at_sandbox(), []

    def late(answer: Any, request: Any) -> Any:
        asked.append(request)
        return JSONResponse({"error": "not found"}, 404) if len(asked) < 4 else answer

    answers(monkeypatch, "_retrieve", late)
    assert (await client.batches.wait(await client.batches.create(photos, "caption"))).status == "completed"


async def test_another_server(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    await at_sandbox().batches.create(photos, "caption", folder=tmp_path / "job")
    other = at_sandbox()
    for ask in (other.batches.wait, other.batches.cancel):
        with pytest.raises(BatchError, match="another server"):
            await ask(tmp_path / "job")


@pytest.mark.parametrize("name", ["nosuch.batch", "./jobs/typo", "a b"])
async def test_an_invalid_folder(at_sandbox: Any, name: str, tmp_path: Path) -> None:
    client = at_sandbox()
    with pytest.raises(BatchError, match="cannot be used"):
        await client.batches.status(name)
    with pytest.raises(NotFoundError):
        await client.batches.save("01NOSUCH", tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


async def test_other_tasks_run_meanwhile(at_sandbox: Any, tiny: Any, tmp_path: Path) -> None:
    """Resuming a job of which nothing is left lets other tasks run."""
    client, items = at_sandbox(), [(n, tiny) for n in range(2_000)]
    await client.batches.create(items, "caption", folder=tmp_path / "job")
    turns: list[int] = []

    async def ticking() -> None:
        while True:
            turns.append(1)
            await anyio.sleep(0)

    with Folder(tmp_path / "job", read_manifest(tmp_path / "job")) as folder:
        source = ItemSource(items, LineBuilder(client._api, "caption", {}))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ticking)
            assert [item async for item in source.new_items(folder.submitted_items(), lambda _: None)] == []
            tasks.cancel_scope.cancel()
    assert len(turns) >= 30


async def test_lists_whose_pages_repeat(at_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = at_sandbox()
    page = {"batches": [{"id": "a", "status": "completed"}], "next_cursor": "same", "has_more": True}

    async def again(*_: Any) -> Any:
        return JSONResponse(page)

    monkeypatch.setattr(Batches, "_list", again)
    seen: list[str] = []
    with pytest.raises(APIError, match="endlessly"):
        async for batch in client.batches.list():
            seen.append(batch.id)
    assert len(seen) == 2
