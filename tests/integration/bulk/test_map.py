"""`map`: each item runs once, with bounded concurrency, whatever fails."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest
from PIL import Image

import moondream_async as md
from moondream_async import AsyncClient, Client, ConfigurationError, EncodedImage, ImageError, RetryPolicy
from tests.support.effort import scaled
from tests.support.loopback import Exchange, serve, until
from tests.support.pictures import file, tiny

IMAGE = tiny()


async def answer(exchange: Exchange) -> None:
    await exchange.answer({"caption": "x", "answer": exchange.json.get("question"), "objects": [], "points": []})


def client(server: Any, **options: Any) -> AsyncClient:
    return AsyncClient("the-key", base_url=server.base_url, retry=RetryPolicy(attempts=2, backoff=0), **options)


async def test_items_of_every_form(tmp_path: Any) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(file(Image.new("RGB", (9, 9)), "PNG"))
    items: list[Any] = [IMAGE, path, str(path), ("mine", IMAGE), (7, IMAGE, {"question": "other?"})]
    async with serve(answer) as server, client(server) as c:
        outcomes = [outcome async for outcome in c.map("query", items, question="what?", ordered=True)]
    assert [outcome.id for outcome in outcomes] == [0, str(path), str(path), "mine", 7]
    assert [outcome.index for outcome in outcomes] == list(range(5))
    assert [outcome.unwrap().answer for outcome in outcomes] == ["what?"] * 4 + ["other?"]
    assert all(outcome.ok and outcome.attempts == 1 and outcome.elapsed > 0 for outcome in outcomes)


@pytest.mark.parametrize("kind", ["list", "generator", "async generator", "set of bytes"])
async def test_iterables(kind: str) -> None:
    async def later() -> AsyncIterator[EncodedImage]:
        for _ in range(100):
            await asyncio.sleep(0)
            yield IMAGE

    data = {file(Image.new("RGB", (9, 9), (n, 0, 0)), "PNG") for n in range(100)}
    items: Any = {
        "list": [IMAGE] * 100,
        "generator": (IMAGE for _ in range(100)),
        "async generator": later(),
        "set of bytes": data,
    }[kind]
    async with serve(answer) as server, client(server) as c:
        assert sorted([o.index async for o in c.map("caption", items)]) == list(range(100))
        assert server.requests == 100
        await until(lambda: server.open <= 32)  # one more may have been opened ahead, and closed


async def test_as_completed_and_in_order() -> None:
    async def handler(exchange: Exchange) -> None:
        await asyncio.sleep(0.3 if exchange.json["question"] == "0" else 0)
        await answer(exchange)

    items = [(n, IMAGE, {"question": str(n)}) for n in range(20)]
    async with serve(handler) as server, client(server) as c:
        assert [o.id async for o in c.map("query", items)][-1] == 0
        assert [o.id async for o in c.map("query", items, ordered=True)] == list(range(20))


async def test_bad_items_do_not_stop_the_run() -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.json["question"] == "fail":
            await exchange.answer({"error": "no"}, status=400)
        elif exchange.json["question"] == "down":
            await exchange.answer({"error": "no"}, status=503)
        else:
            await answer(exchange)

    items: list[Any] = [
        IMAGE,
        b"no image",
        (1, IMAGE, {"question": "fail"}),
        (2, IMAGE, {"question": "down"}),
        (3, IMAGE, {"no_such": 1}),
        (1, 2, 3, 4),
        5,
        IMAGE,
    ]
    async with serve(handler) as server, client(server) as c:
        outcomes = [o async for o in c.map("query", items, question="?", ordered=True)]
    kinds = [type(outcome.error).__name__ for outcome in outcomes]
    assert kinds == [
        "NoneType",
        "ImageError",
        "BadRequestError",
        "ServerError",
        "ConfigurationError",
        "ConfigurationError",
        "ImageError",
        "NoneType",
    ]
    assert [outcome.attempts for outcome in outcomes] == [1, 0, 1, 2, 0, 0, 0, 1]
    with pytest.raises(ImageError):
        outcomes[1].unwrap()


async def test_bounded_concurrency_and_memory() -> None:
    now = most = taken = given = most_ahead = 0
    hold = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await hold.wait()
        await asyncio.sleep(0.001)
        now -= 1
        await answer(exchange)

    async def items() -> AsyncIterator[Any]:
        nonlocal taken, most_ahead
        for _ in range(300):
            taken += 1
            most_ahead = max(most_ahead, taken - given)
            yield IMAGE

    async with serve(handler) as server, client(server) as c:
        run = c.map("caption", items(), concurrency=4)
        assert taken == 0
        first = asyncio.create_task(anext(run))
        await until(lambda: now == 4)
        await asyncio.sleep(0.05)
        assert taken <= 6
        hold.set()
        await first
        given = 1
        async for _ in run:
            given += 1
            if given % 50 == 0:
                await asyncio.sleep(0.02)  # a slow consumer throttles the run
    assert given == 300
    assert most <= 4
    assert most_ahead <= 2 * 4 + 2


async def test_several_skills_encode_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from moondream_async._images import encoder
    from moondream_async._images.prepare import encode

    encoded: list[bool] = []

    def counted(image: object, options: Any, *, full_resolution: bool) -> EncodedImage:
        encoded.append(full_resolution)
        return encode(image, options, full_resolution=full_resolution)

    async def handler(exchange: Exchange) -> None:
        if "/segment" in exchange.head:
            await exchange.answer({"path": "M0,0"})
        elif "/point" in exchange.head:
            await exchange.answer({"error": "no"}, status=400)
        else:
            await answer(exchange)

    monkeypatch.setattr(encoder, "encode", counted)
    async with serve(handler) as server, client(server) as c:
        (one,) = [o async for o in c.map(["caption", "detect", "segment"], [Image.new("RGB", (9, 9))], object="cat")]
        assert list(one.unwrap()) == ["caption", "detect", "segment"]
        assert one.attempts == 3
        assert sorted(encoded) == [False, True]
        several = {"caption": {"length": "short"}, "point": {"object": "cat"}, "detect": {"object": "dog"}}
        (two,) = [o async for o in c.map(several, [IMAGE])]
        assert isinstance(two.error, md.BadRequestError)
        assert list(two.result) == ["caption"]  # what was paid for is kept
        assert two.attempts == 2


@pytest.mark.parametrize(("max_failures", "stops"), [(0, True), (2, True), (100, False), (None, False)])
async def test_max_failures(max_failures: int | None, stops: bool) -> None:
    items = [b"no image"] * 20
    outcomes: list[Any] = []
    async with serve(answer) as server, client(server) as c:
        try:
            async for outcome in c.map("caption", items, concurrency=1, max_failures=max_failures):
                outcomes.append(outcome)
            stopped = False
        except ImageError:
            stopped = True
    assert stopped == stops
    assert len(outcomes) == ((max_failures or 0) + 1 if stops else 20)


@pytest.mark.parametrize(("status", "stops"), [(401, True), (402, True), (400, False)])
async def test_stop_on_auth_error(status: int, stops: bool) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer({"error": "no"}, status=status)

    async with serve(handler) as server, client(server) as c:
        outcomes: list[Any] = []
        with pytest.raises(md.APIError) if stops else Nothing():
            async for outcome in c.map("caption", [IMAGE] * 50, concurrency=2):
                outcomes.append(outcome)
        assert len(outcomes) <= 4 if stops else len(outcomes) == 50
        assert len([o async for o in c.map("caption", [IMAGE] * 9, stop_on_auth_error=False)]) == 9


class Nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


async def test_errors_of_the_items_iterator_are_raised_after_in_flight_items() -> None:
    def items() -> Iterator[Any]:
        yield from [IMAGE] * 5
        raise KeyError("my own mistake")

    async with serve(answer) as server, client(server) as c:
        outcomes: list[Any] = []
        with pytest.raises(KeyError, match="my own mistake"):
            async for outcome in c.map("caption", items()):
                outcomes.append(outcome)
        assert len(outcomes) == 5


@pytest.mark.parametrize("how", ["break", "close", "cancel", "error"])
async def test_leaving_cancels_in_flight_items(how: str) -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.number > 3:
            await exchange.reader.read()
        await answer(exchange)

    async def consume(c: AsyncClient) -> None:
        run = c.map("caption", [IMAGE] * 100, concurrency=8)
        count = 0
        async for _ in run:
            count += 1
            if count == 3:
                if how == "break":
                    break
                if how == "close":
                    await run.aclose()
                    assert [o async for o in run] == []
                    break
                if how == "error":
                    raise ZeroDivisionError

    async with serve(handler) as server:
        async with client(server) as c:
            before = len(asyncio.all_tasks())
            task = asyncio.create_task(consume(c))
            if how == "cancel":
                await until(lambda: server.requests == 3 + 8)  # no connection is idle
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            del task
            gc.collect()
            await until(lambda: c.stats.in_flight == 0)
            await until(lambda: server.open == 0)
            assert server.requests < 40
            assert len(asyncio.all_tasks()) <= before


async def test_several_tasks_may_share_a_run() -> None:
    seen: list[int] = []

    async with serve(answer) as server, client(server) as c:
        run = c.map("caption", [IMAGE] * 60, concurrency=4)

        async def consume() -> None:
            async for outcome in run:
                seen.append(outcome.index)

        async with asyncio.timeout(10):
            await asyncio.gather(*(consume() for _ in range(5)))
    assert sorted(seen) == list(range(60))


async def test_leaving_does_not_wait_for_a_blocking_source() -> None:
    hold = threading.Event()

    def items() -> Iterator[Any]:
        yield IMAGE
        yield IMAGE
        hold.wait(10)

    async with serve(answer) as server, client(server) as c:
        try:
            run = c.map("caption", items())
            async with asyncio.timeout(5), run:
                pass
            task = asyncio.create_task(anext(run, None))
            await asyncio.sleep(0.05)
            async with asyncio.timeout(5):
                await run.aclose()
                task.cancel()
        finally:
            hold.set()


async def test_a_run_that_is_never_iterated_does_nothing() -> None:
    async with serve(answer) as server, client(server) as c:
        c.map("caption", [IMAGE])
        async with c.map("caption", [IMAGE]):
            pass
        await asyncio.sleep(0.02)
        assert server.requests == 0


async def test_no_items() -> None:
    async with AsyncClient("k") as c:
        assert [o async for o in c.map("caption", [])] == []
        assert [o async for o in c.map("caption", iter(()), ordered=True)] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("paint", [IMAGE]), "'paint' is not a skill"),
        (([], [IMAGE]), "must name"),
        ((5, [IMAGE]), "must name"),
        (("caption", "photo.jpg"), "not str"),
        (("caption", b"data"), "not bytes"),
        (("caption", 5), "not int"),
        (("caption", None), "not NoneType"),
    ],
)
def test_bad_arguments(arguments: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        AsyncClient("k").map(*arguments)


@pytest.mark.parametrize(
    "options",
    [{"concurrency": 0}, {"concurrency": True}, {"max_failures": -1}, {"object": "cat"}, {"stream": True}],
)
def test_bad_options(options: Any) -> None:
    with pytest.raises(ConfigurationError):
        AsyncClient("k").map("caption", [IMAGE], **options)


@pytest.mark.parametrize(
    ("skill", "arguments", "needed"),
    [
        ("detect", {}, "object"),
        ("segment", {}, "object"),
        ("query", {}, "question"),
        (["caption", "detect"], {}, "object"),
        ({"caption": {}, "query": {}}, {}, "question"),
    ],
)
@pytest.mark.parametrize("kind", [list, tuple, iter])
async def test_a_required_argument_that_no_item_has(kind: Any, skill: Any, arguments: Any, needed: str) -> None:
    async with serve(answer) as server, client(server) as c:
        with pytest.raises(ConfigurationError, match=f"needs {needed}="):
            [o async for o in c.map(skill, kind([IMAGE] * 3), **arguments)]
    assert server.requests == 0


@pytest.mark.parametrize("kind", [list, iter])
async def test_a_required_argument_that_some_items_lack_fails_them(kind: Any) -> None:
    items = [(0, IMAGE, {"object": "cat"}), IMAGE]
    async with serve(answer) as server, client(server) as c:
        outcomes = [o async for o in c.map("detect", kind(items), ordered=True)]
    assert outcomes[0].ok
    assert "detect needs object=" in str(outcomes[1].error)


async def drop(exchange: Exchange) -> None:
    exchange.cut()


@pytest.mark.parametrize("limit", [3, 20])
async def test_an_unreachable_server_stops_the_run(limit: int) -> None:
    async with (
        serve(drop) as server,
        client(
            server,
        ) as c,
    ):
        seen = 0
        outcomes = c.map("caption", [IMAGE] * 500, max_connection_failures=limit)
        with pytest.raises(md.APIConnectionError):
            async for outcome in outcomes:
                assert isinstance(outcome.error, md.APIConnectionError)
                seen += 1
    assert limit <= seen <= limit + 32
    assert outcomes.unreachable


async def test_responses_between_connection_errors_keep_the_run_alive() -> None:
    async def drop_most(exchange: Exchange) -> None:
        if exchange.json["question"] == "drop":
            exchange.cut()
        else:
            await exchange.answer({"error": {"message": "no"}}, 400)

    items = [(n, IMAGE, {"question": "drop" if n % 5 else "refuse"}) for n in range(40)]
    async with serve(drop_most) as server, client(server) as c:
        outcomes = [o async for o in c.map("query", items, concurrency=1, max_connection_failures=5)]
    assert len(outcomes) == 40


async def test_unreadable_images_do_not_count_as_connection_errors() -> None:
    async with serve(drop) as server, client(server) as c:
        items = [b"no image"] * 30 + [IMAGE]
        outcomes = [o async for o in c.map("caption", items, concurrency=1, max_connection_failures=2)]
    assert len(outcomes) == 31


async def cost_a_cent(exchange: Exchange) -> None:
    await exchange.answer({"caption": "x", "metrics": {"input_tokens": 9_000, "output_tokens": 1_000}})


@pytest.mark.parametrize("concurrency", [1, 16])
async def test_max_cost(concurrency: int) -> None:
    prices = md.Prices(1, 1)  # a cent for 10,000 tokens
    async with serve(cost_a_cent) as server, client(server) as c:
        outcomes = c.map("caption", [IMAGE] * 100, concurrency=concurrency, max_cost=0.2, prices=prices)
        assert [o.ok async for o in outcomes] == [True] * 20
        assert outcomes.cost_limit_reached
        assert server.requests == 20
        within = c.map("caption", [IMAGE] * 5, max_cost=0.2, prices=prices)
        assert len([o async for o in within]) == 5
        assert not within.cost_limit_reached


async def test_max_cost_needs_prices() -> None:
    with pytest.raises(ConfigurationError, match="max_cost needs prices"):
        AsyncClient("k").map("caption", [IMAGE], max_cost=1)
    AsyncClient("k", model="moondream3-preview").map("caption", [IMAGE], max_cost=1)


def test_on_trio() -> None:
    async def main() -> None:
        async with AsyncClient("k") as c:
            assert [o.ok async for o in c.map("caption", [b"no image"] * 20, concurrency=3)] == [False] * 20
            async for _ in c.map("caption", [b"no image"] * 20):
                break
            gc.collect()
            await anyio.sleep(0.01)

    anyio.run(main, backend="trio")


class TestSync:
    def test_a_run(self, moondream_sandbox: Any) -> None:
        threads: set[str] = set()

        def items() -> Iterator[Any]:
            for color in ("red", "blue", "lime"):
                threads.add(threading.current_thread().name)
                yield color, Image.new("RGB", (64, 64), color)
            yield "bad", b"no image"

        with Client(base_url=moondream_sandbox.base_url) as c:
            run = c.map("query", items(), question="What colours are there?", ordered=True)
            answers = {outcome.id: outcome.result.answer if outcome.result else None for outcome in run}
            assert answers == {"red": "Red.", "blue": "Blue.", "lime": "Green.", "bad": None}
            with c.map("caption", [Image.new("RGB", (9, 9))] * 50) as run:
                for _ in run:
                    break
            assert list(run) == []
            assert c.stats.in_flight == 0

    def test_failures_are_raised(self) -> None:
        with Client("k") as c:
            with pytest.raises(ImageError):
                list(c.map("caption", [b"no image"] * 5, max_failures=0))
            with pytest.raises(ConfigurationError):
                c.map("caption", "photo.jpg")


async def test_many_tiny_items() -> None:
    async with serve(answer) as server, client(server) as c:
        count, items = 0, scaled(1000, 3000)
        async for outcome in c.map("caption", (IMAGE for _ in range(items)), concurrency=64):
            assert outcome.ok
            count += 1
        assert count == server.requests == items


async def test_omitted_arguments_have_the_defaults_of_the_skills(tiny: EncodedImage) -> None:
    bodies: list[Any] = []

    async def handler(exchange: Exchange) -> None:
        bodies.append(exchange.json)
        await exchange.answer({"caption": "x"})

    async with serve(handler) as server, AsyncClient(base_url=server.base_url) as client:
        await client.caption(tiny)
        assert [outcome.ok async for outcome in client.map("caption", [tiny])] == [True]
    assert bodies[0] == bodies[1]
    assert bodies[0]["length"] == "normal"
