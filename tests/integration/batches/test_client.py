"""Batches from beginning to end, through the sandbox: results, splits, lost answers, resumes, expiry."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from moondream_async import (
    APITimeoutError,
    BatchError,
    BatchInputError,
    BatchLineError,
    Client,
    ConfigurationError,
    ConflictError,
    Hooks,
    ImageError,
    NotFoundError,
    Prices,
    RetryPolicy,
    ServerError,
    UploadProgress,
    vision,
)
from moondream_async._batches import multipart_upload, wire
from moondream_async._batches.job.manifest import read_manifest
from moondream_async._images.options import ImageOptions
from moondream_async.bulk import read_results
from tests.support.batches import KEY, everything, jobs_of, ready, uploads_of

ONCE = RetryPolicy(attempts=1)


@pytest.mark.parametrize(
    ("skill", "arguments"),
    [
        ("caption", {"length": "short"}),
        ("query", {"question": "How many red shapes?", "reasoning": True}),
        ("detect", {"object": "blue"}),
        ("point", {"object": "green"}),
    ],
)
async def test_results_are_those_of_the_skill(at_sandbox: Any, photos: list[Path], skill: str, arguments: Any) -> None:
    client = at_sandbox(chunk=2)
    job = await client.batches.wait(await client.batches.create(photos, skill, **arguments))
    assert (job.status, job.progress.total, job.progress.completed, job.items) == ("completed", 5, 5, 5)
    assert len(job.batches[0].outputs or ()) == 3
    outcomes = await everything(client, job)
    live = await getattr(client, skill)(photos[0], **arguments)
    for outcome, path in zip(outcomes, photos, strict=True):
        found, expected = outcome.unwrap().to_dict(), live.to_dict()
        assert outcome.id == str(path)
        assert {n: v for n, v in expected.items() if n not in ("metrics", "request_id", "finish_reason")} == {
            n: v for n, v in found.items() if n != "metrics"
        }
        assert outcome.result.image_size == live.image_size
        if "object" in arguments:
            assert f"\n{arguments['object']}," in vision.to_csv(outcome.result)
        assert outcome.result.metrics.output_tokens == live.metrics.output_tokens
    assert job.usage.output_tokens == 5 * live.metrics.output_tokens


async def test_max_cost(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    client = at_sandbox()
    prices = Prices(100, 100, batch_output=0)  # an image: 730 tokens at half of 100 dollars a million
    limit = {"max_cost": 3.5 * 730 * 50 / 1e6, "prices": prices, "folder": tmp_path / "job"}
    job = await client.batches.create(photos, "caption", **limit)
    assert (job.items, job.cost_limit_reached) == (3, True)
    job = await client.batches.create(photos, "caption", **limit | {"max_cost": 1})
    assert (job.items, job.cost_limit_reached) == (5, False)
    assert len(jobs_of(client)) == 2


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"max_cost": 1}, "max_cost needs prices"),
        ({"max_cost": 1e-9, "prices": Prices(1, 1)}, "below the estimated cost of one item"),
        ({"max_cost": -1, "prices": Prices(1, 1)}, "above 0"),
    ],
)
async def test_a_limit_that_cannot_be_kept(
    options: Any, problem: str, at_sandbox: Any, photos: list[Path], tmp_path: Path
) -> None:
    client = at_sandbox()
    with pytest.raises(ConfigurationError, match=problem):
        await client.batches.create(photos, "caption", folder=tmp_path / "job", **options)
    assert not (tmp_path / "job").exists()


async def test_items_that_cannot_be_sent_are_reported(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    client = at_sandbox()
    items = [photos[0], ("mine", photos[1], {"object": "blue"}), tmp_path / "bad.png", (7, photos[2], {"length": "x"})]
    job = await client.batches.create(iter(items), "detect", object="red")
    assert (job.items, job.refused, len(job.batches)) == (4, 2, 1)
    outcomes = await everything(client, await client.batches.wait(job))
    assert [outcome.id for outcome in outcomes] == [str(photos[0]), "mine", str(tmp_path / "bad.png"), 7]
    assert len(outcomes[0].unwrap().objects) == len(outcomes[1].unwrap().objects) == 1
    assert outcomes[0].unwrap().objects != outcomes[1].unwrap().objects
    assert isinstance(outcomes[2].error, ImageError)
    assert isinstance(outcomes[3].error, ConfigurationError)


async def test_several_images_in_one_question(at_sandbox: Any, photos: list[Path]) -> None:
    client = at_sandbox()
    items = [("pair", photos[:2], {})]
    job = await client.batches.create(items, "query", question="Which colours are there?", reasoning=False)
    (outcome,) = await everything(client, await client.batches.wait(job))
    assert len(outcome.unwrap().answer.splitlines()) == 2


async def test_a_large_image_is_made_to_fit_its_line(at_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.setattr(wire, "MAX_LINE_SIZE", 100_000)
    monkeypatch.setattr("moondream_async._batches.lines._ROOM", 90_000)
    noise = Image.effect_noise((1500, 1500), 100).convert("RGB")
    client = at_sandbox()
    job = await client.batches.create([("noise", noise)], "caption")
    assert (job.refused, job.items) == (0, 1)
    fixed = await client.encode_image(noise, ImageOptions(quality=100))
    with pytest.raises(ConfigurationError, match=r"None of the 1 items can be sent.*bytes"):
        await client.batches.create([("noise", fixed)], "caption")


async def test_too_many_lines_are_several_batches(
    at_sandbox: Any, photos: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(wire, "MAX_LINES", 2)
    client = at_sandbox()
    job = await client.batches.wait(await client.batches.create(photos, "caption", folder=tmp_path / "job"))
    assert [batch.progress.total for batch in job.batches] == [2, 2, 1]
    with pytest.raises(ConfigurationError, match="3 batches"):
        job.id  # noqa: B018
    assert [outcome.id for outcome in await everything(client, tmp_path / "job")] == [str(path) for path in photos]
    assert not list((tmp_path / "job").glob("*.jsonl"))  # the images are not kept


async def test_too_many_bytes_are_several_batches(
    at_sandbox: Any, photos: list[Path], scene: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = at_sandbox()
    path = ready(tmp_path / "ready.jsonl", scene, 5)
    monkeypatch.setattr(wire, "MAX_BATCH_SIZE", path.stat().st_size // 2)
    job = await client.batches.wait(await client.batches.submit(path))
    assert [batch.progress.total for batch in job.batches] == [2, 2, 1]
    outcomes = await everything(client, job)
    assert [outcome.id for outcome in outcomes] == [f"line-{n}" for n in range(5)]
    job = await client.batches.wait(await client.batches.create(photos, "caption"))
    assert [batch.progress.total for batch in job.batches] == [2, 2, 1]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"", "blank"),
        (b"{", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"skill": "\xff"}', "not UTF-8"),
        (b'{"skill": "segment", "image": "AAAA", "object": "x"}', "'segment' is not a skill"),
        (b'{"skill": "caption", "image_url": "AAAA"}', "bare base64"),
        (b'{"skill": "caption", "image": "data:image/png;base64,AAAA"}', "data: URI"),
        (b'{"skill": "caption", "image": "AAA!"}', "not base64"),
        (b'{"skill": "caption"}', "no 'image'"),
        (b'{"skill": "query", "image": "AAAA"}', "query needs question"),
        (b'{"skill": "query", "images": [], "question": "?"}', "no 'image'"),
        (b'{"skill": "detect", "image": "AAAA", "object": " "}', "empty"),
        (b'{"skill": "caption", "image": "AAAA", "length": "huge"}', "length must be"),
        (b'{"skill": "caption", "image": "AAAA", "settings": {"top_p": 2}}', "top_p"),
        (b'{"skill": "caption", "image": "' + b"A" * 10_000_000 + b'"}', "the limit is 10,000,000"),
    ],
)
async def test_every_line_of_a_ready_file_is_validated(
    at_sandbox: Any, scene: bytes, tmp_path: Path, line: bytes, says: str
) -> None:
    path = ready(tmp_path / "ready.jsonl", scene, 2)
    path.write_bytes(path.read_bytes() + line + b"\n" + path.read_bytes())
    client = at_sandbox()
    with pytest.raises(BatchInputError, match="Line 3") as info:
        await client.batches.submit(path)
    assert [number for number, _ in info.value.problems] == [3]
    assert says in info.value.problems[0][1]
    assert client.stats.requests == 0
    assert not list(tmp_path.glob("state/**/manifest.json"))


async def test_an_empty_or_missing_file(at_sandbox: Any, tmp_path: Path) -> None:
    client = at_sandbox()
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(BatchInputError, match="no lines"):
        await client.batches.submit(tmp_path / "empty.jsonl")
    with pytest.raises(ConfigurationError, match="No such file"):
        await client.batches.submit(tmp_path / "nope.jsonl")


async def test_error_lines_are_typed(at_sandbox: Any, scene: bytes, tmp_path: Path) -> None:
    client = at_sandbox(broken_line=1)
    path = ready(tmp_path / "ready.jsonl", scene, 3)
    text = path.read_text().splitlines()
    text[2] = json.dumps({"id": "broken", "skill": "caption", "image": base64.b64encode(b"no image").decode()})
    path.write_text("\n".join(text))  # without an end to its last line
    outcomes = await everything(client, await client.batches.wait(await client.batches.submit(path)))
    assert outcomes[0].ok
    assert [(type(o.error), o.error.code, o.error.line_index) for o in outcomes[1:]] == [
        (BatchLineError, "processing_error", 1),
        (BatchLineError, "image_decode_failed", 2),
    ]


@pytest.mark.parametrize("code", ["processing_failed", "timeout", "invalid_model"])
async def test_a_failed_batch(at_sandbox: Any, photos: list[Path], code: str) -> None:
    client = at_sandbox(batch_error="" if code == "invalid_model" else code)
    model = "moondream-9" if code == "invalid_model" else None
    job = await client.batches.wait(await client.batches.create(photos, "caption", model=model))
    assert (job.status, job.batches[0].error_code) == ("failed", code)
    outcomes = await everything(client, job)
    assert [(type(outcome.error), outcome.error.code) for outcome in outcomes] == [(BatchError, code)] * 5
    with pytest.raises(BatchError, match=code):
        await everything(client, job.id)


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"", "empty_batch"), (b"{}\n\n", "validation_error"), (b"{}\n{]\n", "validation_error"), (b"\xff\n", "validation_error")],
)  # fmt: skip
async def test_lines_that_are_rejected_before_the_upload(at_sandbox: Any, body: bytes, code: str) -> None:
    client = at_sandbox()
    base, headers = client.base_url + "/batch", {"X-Moondream-Auth": KEY}
    async with httpx.AsyncClient(headers=headers) as http:
        begun = (await http.post(f"{base}?action=mpu-create")).json()
        where = f"{base}/{begun['fileId']}"
        multipart_upload = f"uploadId={begun['uploadId']}"
        part = (await http.put(f"{where}?action=mpu-uploadpart&{multipart_upload}&partNumber=1", content=body)).json()
        parts = {"parts": [{"partNumber": 1, "etag": part["etag"]}]}
        wrong = {"parts": [{"partNumber": 1, "etag": "wrong"}]}
        assert (await http.post(f"{where}?action=mpu-complete&{multipart_upload}", json=wrong)).status_code == 400
        done = (await http.post(f"{where}?action=mpu-complete&{multipart_upload}", json=parts)).json()
    job = await client.batches.wait(done["id"])
    assert job.batches[0].error_code == code


async def test_parts_are_uploaded_concurrently_with_their_own_retries(
    at_sandbox: Any, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multipart_upload, "PART", 5_000)
    client = at_sandbox(status=503, times=3, on="mpu-uploadpart", retry_after=0)
    seen: list[UploadProgress] = []
    job = await client.batches.wait(await client.batches.create(photos, "caption", progress=seen.append))
    assert job.status == "completed"
    assert client.stats.retries == 3
    assert (seen[-1].items, seen[-1].total, seen[-1].sent) == (5, 5, seen[-1].size)


async def test_a_failed_upload_is_aborted(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    client = at_sandbox(status=500, times=0, on="mpu-uploadpart")
    with pytest.raises(ServerError):
        await client.batches.create(photos, "caption")
    assert (uploads_of(client), jobs_of(client)) == ({}, {})
    assert not list(tmp_path.glob("state/**/manifest.json"))


async def test_an_upload_that_the_server_rejects_is_aborted_even_in_a_folder(
    at_sandbox: Any, photos: list[Path], tmp_path: Path
) -> None:
    client = at_sandbox(status=409, times=1, on="mpu-uploadpart")
    with pytest.raises(ConflictError):
        await client.batches.create(photos, "caption", folder=tmp_path / "job")
    assert uploads_of(client) == {}
    job = await client.batches.create(photos, "caption", folder=tmp_path / "job")
    assert len(await everything(client, await client.batches.wait(job))) == 5


async def test_an_interrupted_upload_is_resumed(
    at_sandbox: Any, photos: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(multipart_upload, "PART", 5_000)
    monkeypatch.setattr(multipart_upload, "_PARTS_AT_ONCE", 1)
    sent: list[int] = []
    client = at_sandbox(retry=ONCE)
    client = client.with_options(hooks=Hooks(request=lambda info: sent.append(info.nbytes)))

    async def failing(*_: object, **__: object) -> str:
        raise ServerError("not now", status=500)

    original = multipart_upload.Upload._send_part

    async def third_fails(self: Any, source: Path, number: int) -> None:
        await (failing() if number == 3 else original(self, source, number))

    with monkeypatch.context() as patch:
        patch.setattr(multipart_upload.Upload, "_send_part", third_fails)
        with pytest.raises(ServerError):
            await client.batches.create(photos, "caption", folder=tmp_path / "job")
    assert sorted(read_manifest(tmp_path / "job").portions[0].parts) == ["1", "2"]
    before, sent[:] = sent[:], []
    job = await client.batches.create(photos, "caption", folder=tmp_path / "job")
    size = read_manifest(tmp_path / "job").portions[0].length
    assert sum(1 for nbytes in before if nbytes == 5_000) == 2
    assert sum(sent) < size - 2 * 5_000 + 2_000  # the rest, and the completion
    assert len(await everything(client, await client.batches.wait(job))) == 5
    sent.clear()
    assert (await client.batches.create(photos, "caption", folder=tmp_path / "job")).ids == job.ids
    assert sum(sent) == 0  # asked about, and nothing sent


async def test_an_expired_upload_is_started_again(
    at_sandbox: Any, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = at_sandbox(retry=ONCE, status=500, times=3, on="mpu-complete")
    monkeypatch.setattr(multipart_upload, "_VISIBILITY_RETRIES", (0.01,))
    with pytest.raises(ServerError):
        await client.batches.create(photos, "caption", folder=tmp_path / "job")
    manifest = json.loads((tmp_path / "job" / "manifest.json").read_text())
    assert manifest["portions"][0]["completing"]
    uploads_of(client).clear()  # as the service does after some days
    with pytest.raises(
        BatchError, match="is not known whether"
    ) as info:  # it may be that it was accepted: not for us to guess
        await client.batches.create(photos, "caption", folder=tmp_path / "job")
    assert info.value.code == "folder"
    manifest["portions"][0]["completing"] = False
    (tmp_path / "job" / "manifest.json").write_text(json.dumps(manifest))
    job = await client.batches.create(photos, "caption", folder=tmp_path / "job")
    assert len(await everything(client, await client.batches.wait(job))) == 5


@pytest.mark.parametrize("times", [1, 2])
async def test_a_lost_response_starts_no_second_batch(at_sandbox: Any, photos: list[Path], times: int) -> None:
    client = at_sandbox(drop=1, times=times, on="mpu-complete")
    job = await client.batches.wait(await client.batches.create(photos, "caption"))
    assert list(jobs_of(client)) == job.ids
    assert len(await everything(client, job)) == 5


@pytest.mark.parametrize(
    "faults",
    [
        {"cut": 2},
        {"cut": 0, "times": 3},
        {"status": 403},
        {"status": 500, "times": 2},
        {"status": 429, "times": 2},
        {"url_lifetime": 0.0},
    ],
)
async def test_an_interrupted_results_download_is_resumed(
    at_sandbox: Any, photos: list[Path], faults: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = at_sandbox(chunk=3, on="output", **faults)
    job = await client.batches.wait(await client.batches.create(photos, "caption"))
    if "url_lifetime" in faults:  # the address in the first answer is too old; a fresh one is not
        state = client.sandbox._app.state.batches
        original = state._url

        def lasting(request: Any, of: Any, number: int, _: Any) -> str:
            from moondream_async.sandbox import Faults

            calls.append(number)
            return original(request, of, number, Faults(url_lifetime=0.0 if len(calls) <= 4 else 60.0))

        calls: list[int] = []
        monkeypatch.setattr(type(state), "_url", lambda _, *given: lasting(*given))
    assert [outcome.id for outcome in await everything(client, job)] == [str(path) for path in photos]


async def test_the_key_is_not_sent_to_result_files(at_sandbox: Any, photos: list[Path]) -> None:
    """The sandbox's files of results refuse any key, as presigned addresses do."""
    keyed = httpx.AsyncClient(headers={"X-Moondream-Auth": KEY, "Authorization": f"Bearer {KEY}"}, cookies={"a": "b"})
    async with keyed:
        client = at_sandbox(http_client=keyed)
        job = await client.batches.wait(await client.batches.create(photos, "caption"))
        assert all(outcome.ok for outcome in await everything(client, job))
        url = job.batches[0].outputs[0].url
        assert (await keyed.get(url)).status_code == 400
        assert url not in repr(job)


async def test_deleted_results(at_sandbox: Any, photos: list[Path]) -> None:
    client = at_sandbox(retention=0.0)
    job = await client.batches.wait(await client.batches.create(photos, "caption"))
    assert [(type(o.error), o.error.code) for o in await everything(client, job)] == [(BatchError, "expired")] * 5
    with pytest.raises(BatchError, match="7 days"):
        await everything(client, job.id)


async def test_lines_missing_from_the_results(at_sandbox: Any, photos: list[Path]) -> None:
    client = at_sandbox()
    job = await client.batches.wait(await client.batches.create(photos, "caption"))
    output = jobs_of(client)[job.id].outputs[0]
    lines = output.read_text().splitlines(keepends=True)
    repeated = json.loads(lines[1])
    del repeated["line_index"]  # known by its id
    output.write_text("".join([lines[0], lines[0], json.dumps(repeated) + "\n", lines[1], *lines[3:]]))
    left_out = json.loads(lines[2])["line_index"]
    outcomes = await everything(client, job)
    assert len(outcomes) == 5
    assert [o.error.code for o in outcomes if not o.ok] == ["missing"]
    assert [o.error.line_index for o in outcomes if not o.ok] == [left_out]
    output.write_text("".join(lines) + "no JSON\n")
    assert [outcome.ok for outcome in await everything(client, job)] == [True] * 5


async def test_waiting(at_sandbox: Any, photos: list[Path]) -> None:
    client = at_sandbox(work=30, chunk=1)
    job = await client.batches.create(photos, "caption")
    seen: list[Any] = []
    with pytest.raises(APITimeoutError, match="continues"):
        await client.batches.wait(job, timeout=0.3, progress=seen.append)
    assert {now.status for now in seen} <= {"chunking", "processing"}
    assert seen
    with pytest.raises(BatchError, match="wait for it first") as info:
        await everything(client, job)
    assert info.value.code == "not_completed"


async def test_waiting_survives_outages(at_sandbox: Any, photos: list[Path]) -> None:
    client = at_sandbox(retry=ONCE, status=502, times=4, on="batch")
    job = await client.batches.create(photos, "caption")
    assert (await client.batches.wait(job)).status == "completed"
    with pytest.raises(NotFoundError):
        await client.batches.wait("01NOSUCH")


async def test_all_pages_of_the_list(at_sandbox: Any) -> None:
    from moondream_async._sandbox.batches.jobs import Job

    client = at_sandbox()
    for number in range(250):
        jobs_of(client)[f"job-{number}"] = Job(f"job-{number}", "m", Path("none"), created=float(number))
    found = [batch.id async for batch in client.batches.list()]
    assert found == [f"job-{number}" for number in reversed(range(250))]
    asked = client.stats.requests
    assert len([batch async for batch in client.batches.list(limit=120)]) == 120
    assert client.stats.requests - asked == 2


async def test_cancelling(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    client = at_sandbox(retry=ONCE, status=500, times=1, on="mpu-uploadpart")
    with pytest.raises(ServerError):
        await client.batches.create(photos, "caption", folder=tmp_path / "job")
    assert len(uploads_of(client)) == 1
    with pytest.raises(BatchError, match="not submitted completely"):
        await client.batches.wait(tmp_path / "job")
    assert await client.batches.cancel(tmp_path / "job") is True
    assert uploads_of(client) == {}
    assert not (tmp_path / "job").exists()
    job = await client.batches.create(photos, "caption", folder=tmp_path / "job")
    assert await client.batches.cancel(job) is False  # it goes on; there is no way to stop it
    assert len(await everything(client, await client.batches.wait(tmp_path / "job"))) == 5


async def test_a_cancelled_task_leaves_nothing_behind(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    client = at_sandbox(latency=5, on="mpu-uploadpart")
    with anyio.move_on_after(0.5):
        await client.batches.create(photos, "caption")
    assert uploads_of(client) == {}
    assert not list(tmp_path.glob("state/**/manifest.json"))


async def test_saving(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    client = at_sandbox(broken_line=2)
    job = await client.batches.wait(await client.batches.create(photos, "detect", object="red"))
    summary = await client.batches.save(job, tmp_path / "out.jsonl")
    assert (summary.succeeded, summary.failed, summary.skipped) == (4, 1, 0)
    lines = (tmp_path / "out.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "out.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:20])  # as a kill leaves it
    summary = await client.batches.save(job, tmp_path / "out.jsonl")
    assert summary.succeeded + summary.failed + summary.skipped == 5
    assert summary.skipped in (2, 3)  # of three whole lines, those that are no failures
    read = {outcome.id: outcome for outcome in read_results(tmp_path / "out.jsonl")}
    assert sorted(read) == [str(path) for path in photos]
    assert sorted(o.error.code for o in read.values() if not o.ok) == ["processing_error"]
    assert next(o for o in read.values() if o.ok).result.to_pixels()


async def test_a_folder_that_is_not_the_job(at_sandbox: Any, photos: list[Path], tmp_path: Path) -> None:
    client = at_sandbox()
    await client.batches.create(photos, "caption", folder=tmp_path / "job")
    with pytest.raises(BatchError, match="another job"):
        await client.batches.create(photos, "caption", length="short", folder=tmp_path / "job")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    for wrong in (tmp_path / "other", photos[0]):
        with pytest.raises(BatchError, match="cannot be used"):
            await client.batches.create(photos, "caption", folder=wrong)
        with pytest.raises(BatchError, match="cannot be used"):
            await client.batches.wait(wrong)
    assert (tmp_path / "other" / "thesis.txt").read_text() == "mine"
    for text in ("", "{}", '{"version": 2}', "[]", '{"version": 1, "portions": [{"nope": 1}]}'):
        (tmp_path / "job" / "manifest.json").write_text(text)
        with pytest.raises(BatchError, match="not a valid manifest"):
            await client.batches.wait(tmp_path / "job")


async def test_a_ready_file_that_changes(
    at_sandbox: Any, scene: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = at_sandbox(retry=ONCE, status=500, times=1, on="mpu-uploadpart")
    path = ready(tmp_path / "ready.jsonl", scene, 2)
    with pytest.raises(ServerError):
        await client.batches.submit(path, folder=tmp_path / "job")
    os.utime(path, (1, 1))
    with pytest.raises(BatchError, match="another job"):
        await client.batches.submit(path, folder=tmp_path / "job")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"skill": "segment"}, "not a skill of the Batch API"),
        ({"skill": "detect", "settings": {}}, "takes no settings"),
        ({"skill": "caption", "question": "?"}, "takes no question"),
        ({"skill": "caption", "length": "x"}, "length must be"),
        ({"skill": "caption", "model": ""}, "model must be"),
    ],
)
async def test_wrong_usage(at_sandbox: Any, photos: list[Path], tmp_path: Path, arguments: Any, says: str) -> None:
    client = at_sandbox()
    with pytest.raises(ConfigurationError, match=says):
        await client.batches.create(photos, **arguments)
    with pytest.raises(ConfigurationError, match="There are no items"):
        await client.batches.create([], "caption")
    with pytest.raises(ConfigurationError, match="items must be"):
        await client.batches.create("photo.jpg", "caption")
    with pytest.raises(ConfigurationError, match="job must be"):
        await client.batches.wait(7)
    with pytest.raises(ConfigurationError, match="batch_id"):
        await client.batches.retrieve("..")
    assert not list(tmp_path.glob("state/**/manifest.json"))


def test_blocking(photos: list[Path], tmp_path: Path, moondream_sandbox: Any) -> None:
    with Client(base_url=moondream_sandbox.base_url) as client:
        job = client.batches.create(photos, "caption", folder=tmp_path / "job")
        job = client.batches.wait(job, timeout=30)
        assert sum(bool(outcome.unwrap().caption) for outcome in client.batches.results(job)) == 5
        assert next(client.batches.results(job)).ok  # and the rest is left
        assert next(client.batches.list()).id == job.id
        assert client.batches.retrieve(job.id).finished


def test_on_trio(photos: list[Path], moondream_sandbox: Any) -> None:
    from moondream_async import AsyncClient

    async def main() -> None:
        async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
            job = await client.batches.wait(await client.batches.create(photos, "caption"))
            assert len([outcome async for outcome in client.batches.results(job)]) == 5

    anyio.run(main, backend="trio")
