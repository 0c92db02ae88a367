"""`run` stops early: an unreachable server, a cost limit, a call that can never work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import moondream_async as md
from moondream_async import AsyncClient, ConfigurationError, EncodedImage, Prices, ResultsFileError, RetryPolicy
from moondream_async.bulk import read_records
from tests.support.loopback import Exchange, serve

CENT = {"caption": "x", "answer": "x", "metrics": {"input_tokens": 9_000, "output_tokens": 1_000}}
PRICES = Prices(1, 1)  # a cent for 10,000 tokens


def client(server: Any, **options: Any) -> AsyncClient:
    return AsyncClient("the-key", base_url=server.base_url, retry=RetryPolicy(attempts=1), **options)


async def answer(exchange: Exchange) -> None:
    await exchange.answer(CENT)


async def drop(exchange: Exchange) -> None:
    exchange.cut()


async def test_an_unreachable_server_stops_the_run_which_can_be_resumed(tmp_path: Path, tiny: EncodedImage) -> None:
    out, items = tmp_path / "r.jsonl", [(n, tiny) for n in range(200)]
    async with serve(drop) as server, client(server) as c:
        with pytest.raises(md.APIConnectionError):
            await c.run("caption", items, out)
    assert server.requests < 60
    assert list(read_records(out)) == []
    async with serve(answer) as server, client(server) as c:
        summary = await c.run("caption", items, out)
    assert (summary.succeeded, summary.failed, summary.skipped) == (200, 0, 0)


async def test_single_connection_errors_are_written_as_failed(tmp_path: Path, tiny: EncodedImage) -> None:
    async def drop_some(exchange: Exchange) -> None:
        if exchange.number % 3:
            exchange.cut()
        else:
            await exchange.answer(CENT)

    out = tmp_path / "r.jsonl"
    async with serve(drop_some) as server, client(server) as c:
        summary = await c.run("caption", [(n, tiny) for n in range(30)], out, max_connection_failures=5, concurrency=1)
    assert summary.failed > 10
    records = list(read_records(out))
    assert len(records) == 30
    assert sum(not record["ok"] for record in records) == summary.failed


async def test_results_of_an_item_that_then_lost_its_connection_are_kept(tmp_path: Path, tiny: EncodedImage) -> None:
    async def only_captions(exchange: Exchange) -> None:
        if "/caption" in exchange.head:
            await exchange.answer(CENT)
        else:
            exchange.cut()

    out = tmp_path / "r.jsonl"
    skills = {"caption": {}, "query": {"question": "?"}}
    async with serve(only_captions) as server, client(server) as c:
        await c.run(skills, [(n, tiny) for n in range(5)], out)
    assert [list(record["result"]) for record in read_records(out)] == [["caption"]] * 5


async def test_results_of_an_item_whose_key_was_then_rejected_are_kept(tmp_path: Path, tiny: EncodedImage) -> None:
    async def only_captions(exchange: Exchange) -> None:
        if "/caption" in exchange.head:
            await exchange.answer(CENT)
        else:
            await exchange.answer({"error": {"message": "no"}}, 401)

    out = tmp_path / "r.jsonl"
    skills = {"caption": {}, "query": {"question": "?"}}
    async with serve(only_captions) as server, client(server) as c:
        with pytest.raises(md.AuthenticationError):
            await c.run(skills, [(0, tiny)], out)
    assert [list(record["result"]) for record in read_records(out)] == [["caption"]]


async def test_a_budget(tmp_path: Path, tiny: EncodedImage) -> None:
    out, items = tmp_path / "r.jsonl", [(n, tiny) for n in range(50)]
    async with serve(answer) as server, client(server) as c:
        first = await c.run("caption", items, out, max_cost=0.2, prices=PRICES)
        assert (first.succeeded, first.cost_limit_reached, first.remaining) == (20, True, 30)
        assert first.cost == pytest.approx(0.2)
        second = await c.run("caption", items, out, max_cost=1, prices=PRICES)
        assert (second.succeeded, second.skipped, second.cost_limit_reached, second.remaining) == (30, 20, False, 0)
        assert server.requests == 50


@pytest.mark.parametrize("kind", [list, iter])
@pytest.mark.parametrize(
    ("skill", "arguments", "problem"),
    [
        ("detect", {}, "needs object="),
        ("query", {}, "needs question="),
        ("caption", {"lenght": "short"}, "takes no lenght"),
        ("caption", {"settings": {"max_token": 5}}, "Did you mean"),
        ("caption", {"max_cost": 1}, "max_cost needs prices"),
    ],
)
async def test_a_call_that_can_never_work_makes_no_file(
    kind: Any, skill: str, arguments: Any, problem: str, tmp_path: Path, tiny: EncodedImage
) -> None:
    out = tmp_path / "r.jsonl"
    async with serve(answer) as server, client(server) as c:
        with pytest.raises(ConfigurationError, match=problem):
            await c.run(skill, kind([tiny, tiny]), out, **arguments)
    assert server.requests == 0
    assert not out.exists()


@pytest.mark.parametrize("place", ["", "missing/r.jsonl", "text.txt"])
async def test_an_output_that_cannot_be_used(place: str, tmp_path: Path, tiny: EncodedImage) -> None:
    (tmp_path / "text.txt").write_text("not results\n")
    async with serve(answer) as server, client(server) as c:
        with pytest.raises(ConfigurationError) as error:
            await c.run("caption", [tiny], tmp_path / place)
    assert isinstance(error.value, ResultsFileError)
    assert server.requests == 0
    assert (tmp_path / "text.txt").read_text() == "not results\n"
