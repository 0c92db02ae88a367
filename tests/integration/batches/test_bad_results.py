"""A bad line of a batch's results never hides another line, file or batch; what is accepted can be saved and read."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moondream_async import APIError, AsyncClient, BatchLineError, Client
from moondream_async._batches import wire
from moondream_async._batches.result_lines import MAX_VALUES, read_line, read_result
from moondream_async._cli import main
from moondream_async._http.lines import MAX_LINE
from moondream_async._wire.responses import MAX_DEPTH
from moondream_async.bulk import read_results
from tests.support.batches import KEY, jobs_of
from tests.support.loopback import Exchange, serve


def line(index: int, **fields: Any) -> str:
    given = {"id": f"i{index}", "line_index": index, "status": "ok", "result": {"caption": f"c{index}"}, **fields}
    return json.dumps(given)


def nested(depth: int) -> str:
    return line(2, result={"caption": "x", "deep": 0}).replace('"deep": 0', '"deep": ' + "[" * depth + "]" * depth)


BAD: dict[str, bytes | Callable[[], bytes]] = {
    "nested": nested(5_000).encode(),
    "nested a little too deeply": nested(MAX_DEPTH).encode(),
    "cut": line(2)[:-7].encode(),
    "null": b"null",
    "not an object": b'["i2", 2]',
    "a number": b"7",
    "no JSON": b"<html>502</html>",
    "bad UTF-8": line(2).replace("c2", "caf\u00e9").encode("latin-1"),
    "a lone quote": b'{"id":"i2","line_index":2,"status":"ok","result":{"caption":"x}}',
    "NaN": line(2, result={"caption": "x", "score": float("nan")}).encode(),
    "Infinity": line(2, result={"caption": "x", "score": float("inf")}).encode(),
    "a huge number": line(2).replace('"c2"', '"c2", "n": 1e999').encode(),
    "a number of many digits": line(2).replace('"c2"', '"c2", "n": ' + "1" * 5_000).encode(),
    "a caption that is no text": line(2, result={"caption": 7}).encode(),
    "a result that is no object": line(2, result=["x"]).encode(),
    "a result of another skill": line(2, result={"objects": []}).encode(),
    "a result without anything": line(2, result={}).encode(),
    "no result": json.dumps({"id": "i2", "line_index": 2, "status": "ok"}).encode(),
    "neither result nor error": json.dumps({"id": "i2", "line_index": 2}).encode(),
    "an odd status": line(2, status=["ok"]).encode(),
    "too many values": lambda: line(2, result={"caption": "x", "many": [1] * (MAX_VALUES + 1)}).encode(),
    "too long": lambda: line(2, result={"caption": "x" * (MAX_LINE + 1)}).encode(),
    "no index, and no JSON": b"{" + b" " * 5_000,
}


async def job_of(client: Any, tiny: Any, folder: Path, count: int = 5) -> Any:
    items = [(f"i{number}", tiny) for number in range(count)]
    return await client.batches.wait(await client.batches.create(items, "caption", folder=folder))


def bad_line(name: str) -> bytes:
    value = BAD[name]
    return value if isinstance(value, bytes) else value()


def rewrite(client: Any, job: Any, lines: list[bytes]) -> None:
    jobs_of(client)[job.id].outputs[0].write_bytes(b"\n".join(lines) + b"\n")


@pytest.mark.parametrize("name", BAD)
async def test_one_bad_line(at_sandbox: Any, tiny: Any, tmp_path: Path, name: str) -> None:
    client = at_sandbox()
    job = await job_of(client, tiny, tmp_path / "job")
    rewrite(client, job, [line(number).encode() if number != 2 else bad_line(name) for number in range(5)])
    outcomes = [outcome async for outcome in client.batches.results(job)]
    assert sorted((o.index, o.id, o.ok) for o in outcomes) == [(n, f"i{n}", n != 2) for n in range(5)]
    bad = next(outcome for outcome in outcomes if not outcome.ok)
    assert isinstance(bad.error, BatchLineError)
    assert (bad.error.code, bad.error.line_index) == ("unusable", 2)
    summary = await client.batches.save(job, tmp_path / "out.jsonl")
    assert (summary.succeeded, summary.failed) == (4, 1)
    read = list(read_results(tmp_path / "out.jsonl"))
    assert sorted((o.id, o.ok) for o in read) == [(f"i{n}", n != 2) for n in range(5)]
    known = [outcome async for outcome in client.batches.results(job.id)]  # without the folder
    assert sorted(o.result.caption for o in known if o.ok and o.id != "i2") == ["c0", "c1", "c3", "c4"]
    if name != "a result of another skill":
        assert [o.error.code for o in known if not o.ok] == ["unusable"]
    summary = await client.batches.save(job.id, tmp_path / "known.jsonl")
    assert summary.succeeded + summary.failed == 5
    assert len(list(read_results(tmp_path / "known.jsonl"))) == 5


async def test_a_good_line_wins_over_a_bad_one(at_sandbox: Any, tiny: Any, tmp_path: Path) -> None:
    client = at_sandbox()
    job = await job_of(client, tiny, tmp_path / "job")
    bad = b'{"id": "i1", "line_index": 1, "status": "ok", "result": NaN}'
    rewrite(client, job, [bad, *(line(number).encode() for number in range(5)), bad])
    assert all([outcome.ok async for outcome in client.batches.results(job)])


@pytest.mark.parametrize("index", [2, -1, 99, 10**30, 1.5, "3", True, None])
async def test_a_wrong_line_index(at_sandbox: Any, tiny: Any, tmp_path: Path, index: Any) -> None:
    """The line's id says what it is of; without a folder no line is taken for another."""
    client = at_sandbox()
    job = await job_of(client, tiny, tmp_path / "job")
    lines = [line(number).encode() for number in range(5)]
    lines[3] = json.dumps({**json.loads(lines[3]), "line_index": index}).encode()
    rewrite(client, job, lines)
    for known in (job, job.id):
        outcomes = [outcome async for outcome in client.batches.results(known)]
        assert sorted((o.id, o.unwrap().caption) for o in outcomes) == [(f"i{n}", f"c{n}") for n in range(5)]


async def test_ids_of_other_types(at_sandbox: Any, tiny: Any, tmp_path: Path) -> None:
    client = at_sandbox()
    job = await job_of(client, tiny, tmp_path / "job")
    odd = [{"a": 1}, ["x"], "x" * 5_000_000, None, "\ud800"]
    rewrite(client, job, [line(number, id=name).encode() for number, name in enumerate(odd)])
    for known, ids in ((job, [f"i{n}" for n in range(5)]), (job.id, [0, 1, 2, 3, "\ud800"])):
        assert [o.id async for o in client.batches.results(known)] == ids
        summary = await client.batches.save(known, tmp_path / f"{len(ids)}{ids[0]}.jsonl")
        assert summary.succeeded == 5
        assert [o.id for o in read_results(tmp_path / f"{len(ids)}{ids[0]}.jsonl")] == ids


async def test_empty_lines(at_sandbox: Any, tiny: Any, tmp_path: Path) -> None:
    """Blank lines, byte order marks, CRLF, lines of items that are not there."""
    client = at_sandbox()
    job = await job_of(client, tiny, tmp_path / "job")
    lines = [line(number).encode() + b"\r" for number in range(5)]
    lines = [b"\xef\xbb\xbf" + lines[0], b"", b" \r", *lines[1:], b"null", line(77).encode(), b"", b""]
    rewrite(client, job, lines)
    assert [o.ok async for o in client.batches.results(job)] == [True] * 5
    known = [o async for o in client.batches.results(job.id)]
    assert [o.ok for o in known].count(True) == 6


async def test_a_deleted_batch_does_not_hide_others(
    at_sandbox: Any, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_LINES", 2)
    client = at_sandbox()
    job = await job_of(client, tiny, tmp_path / "job")
    outputs = [jobs_of(client)[name].outputs for name in job.ids]
    outputs[0][0] = outputs[0][0].with_name("gone")
    outputs[0][0].mkdir()  # which the sandbox cannot send
    seen: list[Any] = []
    with pytest.raises(APIError):
        async for outcome in client.batches.results(job):
            seen.append(outcome.id)
    assert sorted(seen) == ["i2", "i3", "i4"]
    with pytest.raises(APIError):
        await client.batches.save(job, tmp_path / "out.jsonl")
    assert sorted(o.id for o in read_results(tmp_path / "out.jsonl")) == ["i2", "i3", "i4"]
    del jobs_of(client)[job.ids[1]]
    with pytest.raises(APIError):
        await client.batches.save(job, tmp_path / "other.jsonl")
    assert [o.id for o in read_results(tmp_path / "other.jsonl")] == ["i4"]


def test_the_command(tiny: Any, tmp_path: Path, moondream_sandbox: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with Client(base_url=moondream_sandbox.base_url) as client:
        items = [(f"i{number}", tiny) for number in range(3)]
        job = client.batches.wait(client.batches.create(items, "caption", folder=tmp_path / "job"))
    output = moondream_sandbox._app.state.batches.jobs[job.id].outputs[0]
    output.write_bytes(b"\n".join([line(0).encode(), bad_line("nested"), line(1).encode()]))
    args = ["--base-url", moondream_sandbox.base_url]
    assert main(["batch", "results", str(tmp_path / "job"), *args]) == 3
    lines = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [one["ok"] for one in lines] == [True, True, False]
    assert "nested too deeply" in lines[2]["error"] or "cannot be read" in lines[2]["error"]
    assert main(["batch", "results", str(tmp_path / "job"), "--out", str(tmp_path / "out.jsonl"), *args]) == 3
    assert len(list(read_results(tmp_path / "out.jsonl"))) == 3


def test_what_is_accepted_can_be_read_from_a_deep_stack(tmp_path: Path) -> None:
    found, error = read_result(read_line(nested(MAX_DEPTH - 4).encode()), "caption")
    assert error is None
    assert found is not None
    deep = json.dumps({"x": found.to_dict()})

    def down(levels: int) -> Any:
        return json.loads(deep) if levels == 0 else down(levels - 1)

    assert down(sys.getrecursionlimit() - 250 - len(deep) // 1000)["x"]["caption"] == "x"


def test_commas_in_a_string_are_not_counted_as_values() -> None:
    found, error = read_result(read_line(line(2, result={"caption": "a, " * MAX_VALUES}).encode()), "caption")
    assert error is None
    assert found is not None
    assert found["caption"] == "a, " * MAX_VALUES


@pytest.mark.parametrize("coding", ["", "gzip"])
async def test_a_long_line_does_not_hold_the_loop(coding: str) -> None:
    """Other tasks run many times while megabytes of a line come in small chunks, and while it is read."""
    size = 4_000_000
    long = line(0, result={"caption": "x" * size}).encode() + b"\n" + line(1).encode()
    body = gzip.compress(long) if coding else long
    turns: list[int] = []

    async def handler(exchange: Exchange) -> None:
        if exchange.head.startswith("GET /file"):
            head = f"Content-Encoding: {coding}\r\n" if coding else ""
            await exchange.send(f"HTTP/1.1 200 OK\r\n{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            chunks = [
                b"%x\r\n%s\r\n" % (len(part), part) for part in (body[n : n + 200] for n in range(0, len(body), 200))
            ]
            await exchange.send(b"".join(chunks) + b"0\r\n\r\n")
            return
        url = exchange.server.base_url.removesuffix("/v1") + "/file"
        await exchange.answer({"id": "B", "status": "completed", "outputs": [{"index": 0, "url": url}]})

    async def ticking() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    async with serve(handler) as server:
        async with AsyncClient(KEY, base_url=server.base_url) as client:
            ticks = asyncio.create_task(ticking())
            found = [outcome async for outcome in client.batches.results("B")]
            ticks.cancel()
    assert [len(outcome.unwrap().caption) for outcome in found] == [size, 2]
    assert len(turns) > 10


@pytest.mark.parametrize("endless", [b"\n", b" \r\n", b"null\n", b"x"])
async def test_a_file_without_end(endless: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moondream_async._batches.results._MAX_LINES", 5_000)
    monkeypatch.setattr("moondream_async._http.presigned_download._MAX_SKIPPED", 30_000_000)

    async def handler(exchange: Exchange) -> None:
        if not exchange.head.startswith("GET /file"):
            url = exchange.server.base_url.removesuffix("/v1") + "/file"
            await exchange.answer({"id": "B", "status": "completed", "outputs": [{"index": 0, "url": url}]})
            return
        await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await exchange.chunk(line(0).encode() + b"\n")
        while True:
            await exchange.chunk(endless * 60_000)

    async with serve(handler) as server, AsyncClient(KEY, base_url=server.base_url, retry=1) as client:
        seen: list[Any] = []
        with pytest.raises(APIError, match=r"a line has more|more than 5,000 lines"):
            async for outcome in client.batches.results("B"):
                seen.append(outcome)
    assert seen[0].id == "i0"
    assert len(seen) <= 5_000


async def test_an_encoding_that_was_not_requested() -> None:
    async def handler(exchange: Exchange) -> None:
        url = exchange.server.base_url.removesuffix("/v1") + "/file"
        answer = {"id": "B", "status": "completed", "outputs": [{"index": 0, "url": url}]}
        await exchange.answer(answer, headers="Content-Encoding: zstd\r\n" if "/file" in exchange.head else "")

    async with serve(handler) as server, AsyncClient(KEY, base_url=server.base_url, retry=1) as client:
        with pytest.raises(APIError, match="compressed as 'zstd'"):
            [outcome async for outcome in client.batches.results("B")]
