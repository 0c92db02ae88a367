"""`run`: each item is in the file once, whatever happens."""

from __future__ import annotations

import asyncio
import json
import math
import os
import uuid
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import attrs
import numpy
import pytest
from PIL import Image

from moondream_async import (
    AsyncClient,
    AuthenticationError,
    Client,
    ConfigurationError,
    EncodedImage,
    ImageError,
    Prices,
    ResultsFileError,
    RetryPolicy,
    RunSummary,
)
from moondream_async.bulk import Run, export, read_records, read_results
from tests.support.loopback import Exchange, serve, until
from tests.support.pictures import file


async def answer(exchange: Exchange) -> None:
    await exchange.answer(
        {
            "caption": "x",
            "answer": str(exchange.json.get("question")),
            "objects": [{"x_min": 0.1, "y_min": 0.2, "x_max": 0.3, "y_max": 0.4}],
            "metrics": {"input_tokens": 100, "output_tokens": 10},
        }
    )


def client(server: Any, **options: Any) -> AsyncClient:
    return AsyncClient("the-key", base_url=server.base_url, retry=RetryPolicy(attempts=2, backoff=0), **options)


def ids(path: Path) -> list[Any]:
    return [record["id"] for record in read_records(path)]


async def test_a_run_and_its_repetition(tmp_path: Path, tiny: EncodedImage) -> None:
    out, items = tmp_path / "r.jsonl", [(n, tiny) for n in range(50)]
    async with serve(answer) as server, client(server) as c:
        first = await c.run("caption", items, out)
        written = out.read_bytes()
        again = await c.run("caption", items, out)
        more = await c.run("caption", [*items, ("new", tiny)], out)
        assert server.requests == 51
    assert attrs.evolve(first, elapsed=0) == RunSummary(
        total=50, succeeded=50, input_tokens=5000, output_tokens=500, cost=None
    )
    assert first.elapsed > 0
    assert (again.succeeded, again.skipped, again.seen) == (0, 50, 50)
    assert (more.succeeded, more.skipped) == (1, 50)
    assert out.read_bytes().startswith(written)
    assert sorted(map(str, ids(out))) == sorted([*map(str, range(50)), "new"])


async def test_a_line(tmp_path: Path, tiny: EncodedImage) -> None:
    out = tmp_path / "r.jsonl"

    async def handler(exchange: Exchange) -> None:
        await exchange.answer({"request_id": "r1", "objects": [], "metrics": {"input_tokens": 100}, "new": "field"})

    async with serve(handler) as server, client(server) as c:
        await c.run("detect", [("a", tiny, {"settings": {"max_objects": 2}})], out, object="face")
    line = json.loads(out.read_text())
    assert line.pop("elapsed") >= 0
    assert len(line.pop("run")) == 12
    assert line == {
        "id": "a",
        "skill": "detect",
        "arguments": {"object": "face", "settings": {"max_objects": 2}},
        "ok": True,
        "image_size": [1, 1],
        "result": {"request_id": "r1", "metrics": {"input_tokens": 100}, "objects": [], "new": "field"},
        "attempts": 1,
    }
    assert out.read_bytes().startswith(b'{"id": "a"')


async def test_several_skills_with_failures(tmp_path: Path, tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        if "object" in exchange.json:
            await exchange.answer({"error": {"message": "no", "code": "c"}, "request_id": "r1"}, status=422)
        else:
            await answer(exchange)

    out = tmp_path / "r.jsonl"
    async with serve(handler) as server, client(server) as c:
        summary = await c.run({"caption": {"length": "short"}, "detect": {"object": "face"}}, [("a", tiny)], out)
    assert (summary.succeeded, summary.failed, summary.input_tokens) == (0, 1, 100)
    [line] = read_records(out)
    assert line["skill"] == ["caption", "detect"]
    assert line["arguments"] == {"caption": {"length": "short"}, "detect": {"object": "face"}}
    assert line["result"]["caption"]["caption"] == "x"
    assert line["error"]["type"] == "UnprocessableEntityError"
    [outcome] = read_results(out)
    assert outcome.result["caption"].caption == "x"
    assert outcome.error is not None
    assert (outcome.error.status, outcome.error.code, outcome.error.message) == (422, "c", "no")  # type: ignore[attr-defined]


async def test_retry_failed(tmp_path: Path, tiny: EncodedImage) -> None:
    bad = True

    async def handler(exchange: Exchange) -> None:
        if bad and exchange.json["question"] in ("3", "7"):
            await exchange.answer({"error": "no"}, status=400)
        else:
            await answer(exchange)

    out, items = tmp_path / "r.jsonl", [(n, tiny, {"question": str(n)}) for n in range(10)]
    async with serve(handler) as server, client(server) as c:
        assert (await c.run("query", items, out)).failed == 2
        out.chmod(0o640)
        skipped = await c.run("query", items, out)
        assert (skipped.skipped, skipped.failed_before) == (10, 2)
        assert server.requests == 10
        bad = False
        retried = await c.run("query", items, out, retry_failed=True)
        assert (retried.skipped, retried.succeeded) == (8, 2)
        assert server.requests == 12
    assert sorted(ids(out)) == list(range(10))
    assert all(outcome.ok for outcome in read_results(out))
    assert out.stat().st_mode & 0o777 == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["r.jsonl"]


async def test_ids(tmp_path: Path) -> None:
    red, blue = Image.new("RGB", (9, 9), "red"), Image.new("RGB", (9, 9), "blue")
    png, path, tiff = file(red, "PNG"), tmp_path / "a.png", tmp_path / "pages.tiff"
    path.write_bytes(png)
    red.save(tiff, save_all=True, append_images=[blue])
    uid = uuid.uuid4()

    def pages() -> Any:
        with Image.open(tiff) as book:
            for page in range(2):
                book.seek(page)
                yield book.copy()

    with path.open("rb") as opened, Image.open(path) as picture:
        items: list[Any] = [
            *[path, str(path)],  # one item
            *[png, memoryview(png), opened, picture],  # one item, by its bytes
            *[blue, blue.copy()],  # one item, by its pixels
            *pages(),  # red is a new item, by its pixels; blue is the item above
            str(tmp_path / "none.png"),
            b"no image",
            7,
            *[(1, png), ("1", png), (1.5, png), (uid, png), (None, png), (numpy.int64(8), png)],
            *[(True, png), ((1, 2), png), (png,), (1, png, 2, 3)],
        ]
        out = tmp_path / "r.jsonl"
        async with serve(answer) as server, client(server) as c:
            summary = await c.run("caption", items, out)
            again = await c.run("caption", items, out)
    digests = [i for i in ids(out) if str(i).startswith("sha256:")]
    places = [f"#{items.index(7)}", *(f"#{n}" for n in range(len(items) - 4, len(items)))]
    assert sorted(str(i) for i in ids(out) if i not in digests) == sorted(
        [str(path), str(tmp_path / "none.png"), "1", "1", "1.5", str(uid), "8", *places]
    )
    assert len(digests) == 4
    assert summary.failed == 3 + 4
    assert summary.seen == again.skipped == len(items)


async def test_the_same_id_with_other_arguments_is_another_item(tmp_path: Path, tiny: EncodedImage) -> None:
    items = [("a", tiny, {"question": "1"}), ("a", tiny, {"question": "2"}), ("a", tiny, {"question": "1"})]
    async with serve(answer) as server, client(server) as c:
        summary = await c.run("query", items, tmp_path / "r.jsonl")
    assert (summary.succeeded, summary.repeated) == (2, 1)


async def test_progress_and_cost(tmp_path: Path, tiny: EncodedImage) -> None:
    reported: list[RunSummary] = []

    async def tell(summary: RunSummary) -> None:
        reported.append(summary)

    async with serve(answer) as server, client(server) as c:
        items = [(n, tiny) for n in range(5)]
        summary = await c.run("caption", items, tmp_path / "a", progress=tell, prices=Prices(1, 10))
        await c.run("caption", iter(items), tmp_path / "b", progress=reported.append)
    known = [each for each in reported if each.total == 5]
    assert known[-1].seen == 5
    assert known[-1].rate > 0
    assert known[-1].seconds_left == 0
    assert known[-1].cost == summary.cost
    assert summary.cost == pytest.approx(5 * (100 * 1 + 10 * 10) / 1e6)
    assert reported[-1].total is None
    assert reported[-1].seconds_left is None


async def test_a_rejected_key_is_not_written(tmp_path: Path, tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer({"error": "Invalid API key"}, status=401)

    out = tmp_path / "r.jsonl"
    async with serve(handler) as server, client(server) as c:
        with pytest.raises(AuthenticationError):
            await c.run("caption", [(n, tiny) for n in range(100)], out, concurrency=2)
        assert server.requests < 10
        assert out.read_bytes() == b""
        summary = await c.run("caption", [(n, tiny) for n in range(9)], out, stop_on_auth_error=False)
    assert (summary.failed, len(ids(out))) == (9, 9)


async def test_max_failures_stops_the_run(tmp_path: Path, tiny: EncodedImage) -> None:
    items = [(n, b"no image" if n % 2 else tiny) for n in range(100)]
    async with serve(answer) as server, client(server) as c:
        with pytest.raises(ImageError):
            await c.run("caption", items, tmp_path / "r.jsonl", max_failures=3, concurrency=1)
    assert sum(not outcome.ok for outcome in read_results(tmp_path / "r.jsonl")) == 4


async def test_canceled_and_resumed(tmp_path: Path, tiny: EncodedImage) -> None:
    seen: list[str] = []

    async def handler(exchange: Exchange) -> None:
        seen.append(exchange.json["question"])
        await asyncio.sleep(0.001)
        await answer(exchange)

    out = tmp_path / "r.jsonl"
    items = [(n, tiny, {"question": str(n)}) for n in range(300)]
    async with serve(handler) as server, client(server) as c:
        for _ in range(5):
            before = len(seen)
            task = asyncio.create_task(c.run("query", items, out, concurrency=8))
            await until(lambda at=before: len(seen) > at + 30)  # type: ignore[misc]
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await c.run("query", items, out)
    assert sorted(ids(out)) == list(range(300))
    assert len(seen) <= 300 + 5 * 8


async def test_completed_skills_of_a_failed_item_are_not_repeated(tmp_path: Path, tiny: EncodedImage) -> None:
    asked: list[str] = []
    bad = True

    async def handler(exchange: Exchange) -> None:
        asked.append(exchange.head.split()[1])
        if bad and "object" in exchange.json:
            await exchange.answer({"error": "no"}, status=400)
        else:
            await answer(exchange)

    out, skills = tmp_path / "r.jsonl", {"caption": {}, "detect": {"object": "face"}}
    async with serve(handler) as server, client(server) as c:
        assert (await c.run(skills, [("a", tiny)], out)).failed == 1
        assert (await c.run(skills, [("a", tiny)], out, retry_failed=True)).input_tokens == 0
        bad = False
        summary = await c.run(skills, [("a", tiny)], out, retry_failed=True)
    assert asked == ["/v1/caption", "/v1/detect", "/v1/detect", "/v1/detect"]
    assert (summary.succeeded, summary.input_tokens) == (1, 100)
    [outcome] = read_results(out)
    assert outcome.ok
    assert outcome.result["caption"].caption == "x"
    assert len(outcome.result["detect"].objects) == 1


@pytest.mark.parametrize(
    ("skill", "arguments"),
    [
        ("caption", {"length": "huge"}),
        ("caption", {"settings": {"temperature": -1}}),
        ("query", {"question": ""}),
        ("detect", {"object": ["a", ""]}),
        ("segment", {"object": ["a", "b"]}),
        ("detect", {"object": {"a", "b"}}),
        (["caption", "detect"], {"object": 5}),
    ],
)
async def test_invalid_calls_fail_before_the_first_request(
    skill: Any, arguments: Any, tmp_path: Path, tiny: EncodedImage
) -> None:
    async with serve(answer) as server, client(server) as c:
        with pytest.raises(ConfigurationError):
            await c.run(skill, [tiny], tmp_path / "r.jsonl", **arguments)
        with pytest.raises(ConfigurationError):
            c.map(skill, [tiny], **arguments)
    assert not (tmp_path / "r.jsonl").exists()


@pytest.mark.parametrize("out", ["results.csv", "results.PARQUET", "-", "", None, 5])
async def test_invalid_output_paths(out: Any, tiny: EncodedImage) -> None:
    async with serve(answer) as server, client(server) as c:
        with pytest.raises(ConfigurationError):
            await c.run("caption", [tiny], out)


async def test_an_open_file_is_not_a_list_of_images(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x")
    with path.open("rb") as opened:
        async with serve(answer) as server, client(server) as c:
            with pytest.raises(ConfigurationError, match="one image"):
                await c.run("caption", opened, tmp_path / "r")


async def test_an_unexpected_error_fails_one_item(tmp_path: Path, tiny: EncodedImage) -> None:
    class Odd:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("odd")

    items = [("good", tiny), ("odd", tiny, {"object": [["x"]]}), ("odder", Odd()), ("fine", tiny)]
    async with serve(answer) as server, client(server) as c:
        summary = await c.run("detect", items, tmp_path / "r.jsonl", object="face")
    assert (summary.succeeded, summary.failed) == (2, 2)


async def test_labels_are_read_back(tmp_path: Path, scene: bytes, moondream_sandbox: Any) -> None:
    async with AsyncClient(base_url=moondream_sandbox.base_url) as c:
        labels = ["red", "pink", "blue"]
        expected = await c.detect(scene, labels)
        await c.run("detect", [("a", scene)], tmp_path / "r.jsonl", object=labels)
    [outcome] = read_results(tmp_path / "r.jsonl")
    found = outcome.unwrap()
    assert found.objects == expected.objects
    assert {label: len(result.objects) for label, result in found.by_label.items()} == {"red": 1, "pink": 0, "blue": 1}


async def test_finish(tmp_path: Path, tiny: EncodedImage) -> None:
    hold = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        await hold.wait()
        await answer(exchange)

    async def items() -> AsyncIterator[Any]:
        for n in range(100):
            yield n, tiny
        await asyncio.Event().wait()

    out = tmp_path / "r.jsonl"
    async with serve(handler) as server, client(server) as c:
        run = Run(c, "caption", items(), out, concurrency=4)
        task = asyncio.create_task(run.run())
        await until(lambda: server.requests == 4)
        run.finish()
        hold.set()
        summary = await task
        assert (summary.succeeded, server.requests) == (4, 4)
        assert run.summary.succeeded == 4
    assert sorted(ids(out)) == [0, 1, 2, 3]


async def test_an_items_iterator_that_fails(tmp_path: Path, tiny: EncodedImage) -> None:
    def items() -> Any:
        yield 1, tiny
        raise OSError("unplugged")

    async with serve(answer) as server, client(server) as c:
        with pytest.raises(OSError, match="unplugged"):
            await c.run("caption", items(), tmp_path / "r.jsonl")
    assert ids(tmp_path / "r.jsonl") == [1]


def test_sync(tmp_path: Path, scene: bytes, moondream_sandbox: Any) -> None:
    out = tmp_path / "r.jsonl"
    with Client(base_url=moondream_sandbox.base_url) as c:
        assert c.run("detect", [("a", scene)], out, object=["red", "blue"]).succeeded == 1
        assert c.run("detect", [("a", scene)], out, object=["red", "blue"]).skipped == 1
        with pytest.raises(ResultsFileError, match="another run"):
            c.run("detect", [("a", scene)], out, object="red")
    [outcome] = read_results(out)
    assert [box.label for box in outcome.unwrap().objects] == ["red", "blue"]


async def test_bounded_memory(tmp_path: Path) -> None:
    """Images are created on demand and released."""
    alive = most = 0

    class Picture(bytes):
        def __new__(cls, *args: Any) -> Picture:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)
            return super().__new__(cls, *args)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    png = file(Image.new("RGB", (9, 9)), "PNG")
    async with serve(answer) as server, client(server) as c:
        items = ((n, Picture(png)) for n in range(1000))
        assert (await c.run("caption", items, tmp_path / "r.jsonl", concurrency=4)).succeeded == 1000
    assert most <= 64 + 2 * 4 + 8  # read ahead from a fast iterator, and in flight


@pytest.mark.parametrize(
    "body",
    [
        b'{"caption": "x", "extra": ' + b"[" * 950 + b"]" * 950 + b"}",
        b'{"caption": "' + b"x" * 8_388_600 + b'"}',
        b'{"caption": NaN}',
        b'{"caption": "x", "extra": ' + b"9" * 5000 + b"}",
        b'{"caption": "x", "extra": [NaN, -Infinity, 1e999]}',
        b'{"caption": "\\ud800 \xed\xa0\x80 \\u0000", "\\udfff": 1}',
        b'{"caption": "x", "caption": "y", "metrics": {"input_tokens": [], "output_tokens": 1e400}}',
        b'{"caption": "x", "request_id": {"a": [1]}, "finish_reason": 5, "metrics": 7}',
    ],
)
async def test_every_line_can_be_read_whatever_the_response(body: bytes, tmp_path: Path, tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.json["length"] == "long":
            await exchange.send(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            )
        else:
            await answer(exchange)

    out = tmp_path / "r.jsonl"
    items = [(n, tiny, {"length": "long" if n == 1 else "short"}) for n in range(4)]
    async with serve(handler) as server, client(server) as c:
        summary = await c.run("caption", items, out, prices=Prices(1, 1))
        again = await c.run("caption", items, out)
    assert summary.succeeded + summary.failed == again.skipped == 4
    reader = read_results(out)
    assert sorted(outcome.id for outcome in reader) == [0, 1, 2, 3]
    assert reader.damaged_lines == again.damaged_lines == 0
    assert export(out, tmp_path / "r.csv") == 4
    for line in out.read_bytes().splitlines():
        json.loads(line, parse_constant=pytest.fail)


async def test_an_overlong_line_is_a_failed_item(
    tmp_path: Path, tiny: EncodedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer({"caption": "x" * (2000 if exchange.json["length"] == "long" else 5)})

    monkeypatch.setattr("moondream_async._bulk.run.MAX_LINE", 1000)
    out = tmp_path / "r.jsonl"
    items = [(n, tiny, {"length": "long" if n == 1 else "short"}) for n in range(3)]
    async with serve(handler) as server, client(server) as c:
        summary = await c.run("caption", items, out)
    assert (summary.succeeded, summary.failed) == (2, 1)
    failed = next(outcome for outcome in read_results(out) if not outcome.ok)
    assert failed.id == 1
    assert "at most 1,000 are read" in str(failed.error)


async def test_items_that_cannot_be_encoded_fail(tmp_path: Path, tiny: EncodedImage) -> None:
    ring: list[Any] = []
    ring.append(ring)
    deep: Any = 0
    for _ in range(5000):
        deep = [deep]
    items: list[Any] = [("good", tiny)]
    items += [
        ("a", tiny, {"settings": each}) for each in (ring, deep, {"x": ring}, {(1, 2): 3}, {"x": "y" * 5_000_000})
    ]
    items += [(10**5000, tiny), (Fraction(10**400), tiny), ("nan", tiny, {"settings": {"temperature": math.nan}})]
    out = tmp_path / "r.jsonl"
    async with serve(answer) as server, client(server) as c:
        summary = await c.run("caption", items, out)
        again = await c.run("caption", items, out)
    assert (summary.succeeded, summary.failed) == (1, len(items) - 1)
    assert (again.skipped, again.damaged_lines) == (len(items), 0)
    names = [f"#{n}" for n in range(1, 8)]
    assert sorted(ids(out)) == sorted(["good", "nan", *names])
    for line in out.read_bytes().splitlines():
        json.loads(line, parse_constant=pytest.fail)


@pytest.mark.parametrize("how", ["truncated", "removed"])
@pytest.mark.parametrize("at", [3, 8])
async def test_a_file_that_is_lost_during_the_run(how: str, at: int, tmp_path: Path, tiny: EncodedImage) -> None:
    out = tmp_path / "r.jsonl"

    async def lose_after(count: int) -> AsyncIterator[Any]:  # an item is taken once the one before is written
        for n in range(9):
            if n == count and how == "truncated":
                os.truncate(out, 0)
            elif n == count:
                out.unlink()
            if n < 8:
                yield n, tiny

    async with serve(answer) as server, client(server) as c:
        run = Run(c, "caption", lose_after(at), out, concurrency=1)
        with pytest.raises(ResultsFileError, match=how):
            await run.run()
    assert run.summary.succeeded == (len(ids(out)) if out.exists() else 0)
    assert run.summary.failed == 0


async def test_damaged_lines_are_counted_and_their_items_run_again(tmp_path: Path, tiny: EncodedImage) -> None:
    out = tmp_path / "r.jsonl"
    items = [(n, tiny) for n in range(5)]
    async with serve(answer) as server, client(server) as c:
        await c.run("caption", items, out)
        lines = out.read_bytes().splitlines(keepends=True)
        out.write_bytes(b"".join([lines[0][:50], b"\n\n", *lines[1:], lines[0][:20]]))
        summary = await c.run("caption", items, out)
    assert (summary.succeeded, summary.skipped, summary.damaged_lines) == (1, 4, 2)
    assert sorted(outcome.id for outcome in read_results(out)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("edit", ["without error", "damaged result"])
async def test_failed_lines_edited_by_hand_are_retried(edit: str, tmp_path: Path, tiny: EncodedImage) -> None:
    out, skills = tmp_path / "r.jsonl", {"caption": {}, "detect": {"object": "face"}}
    asked: list[str] = []

    async def handler(exchange: Exchange) -> None:
        asked.append(exchange.head.split()[1])
        if len(asked) == 2:
            await exchange.answer({"error": "no"}, status=400)
        else:
            await answer(exchange)

    async with serve(handler) as server, client(server) as c:
        await c.run(skills, [("a", tiny)], out)
        record = json.loads(out.read_bytes())
        if edit == "without error":
            del record["error"]
        else:
            record["result"]["caption"] = {"caption": 5}
        out.write_text(json.dumps(record))
        summary = await c.run(skills, [("a", tiny)], out, retry_failed=True)
    assert summary.succeeded == 1
    assert len(asked) == (3 if edit == "without error" else 4)
    [outcome] = read_results(out)
    assert outcome.ok
