"""`Client` has the names, parameters, docstrings and types of `AsyncClient`, and works in blocking code."""

from __future__ import annotations

import _thread
import asyncio
import gc
import inspect
import re
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import moondream_async as md
from moondream_async import AsyncClient, Client, EncodedImage
from moondream_async._client.streams import AsyncSegmentStream, AsyncTextStream
from moondream_async._sync.streams import SegmentStream, TextStream
from moondream_async.bulk import read_results

RENAMED = {
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
}


def public_members(kind: type) -> dict[str, Any]:
    members = {RENAMED.get(name, name): value for name, value in inspect.getmembers(kind)}
    special = {"__enter__", "__exit__", "__iter__", "__next__", "__getitem__", "__repr__"}
    return {name: value for name, value in members.items() if not name.startswith("_") or name in special}


def to_sync(text: str | None) -> str:
    text = re.sub(r"(?<!\.)\bAsync(Client|TextStream|SegmentStream|ChatStream)\b", r"\1", text or "")
    text = re.sub(r"\basync (with|for)\b", r"\1", text).replace("await ", "").replace("An async client", "A client")
    return " ".join(text.replace("aclose", "close").split())


@pytest.mark.parametrize(
    ("a", "b"), [(AsyncClient, Client), (AsyncTextStream, TextStream), (AsyncSegmentStream, SegmentStream)]
)
def test_sync_and_async_classes_have_the_same_members(a: type, b: type) -> None:
    async_members, sync_members = public_members(a), public_members(b)
    assert set(async_members) == set(sync_members)
    for name, value in async_members.items():
        if name in ("__getitem__", "__repr__") and name not in vars(a):
            continue
        twin = sync_members[name]
        if isinstance(value, property):
            assert isinstance(twin, property)
            assert to_sync(value.__doc__) == to_sync(twin.__doc__), name
            continue
        assert not inspect.iscoroutinefunction(twin), name
        assert to_sync(value.__doc__) == to_sync(twin.__doc__), name
        left, right = inspect.signature(value), inspect.signature(twin)
        assert [(p.name, p.kind, p.default) for p in left.parameters.values()] == [
            (p.name, p.kind, p.default) for p in right.parameters.values()
        ], name
        for parameter, other in zip(left.parameters.values(), right.parameters.values(), strict=True):
            assert to_sync(str(parameter.annotation)) == to_sync(str(other.annotation)), name
    assert to_sync(a.__doc__) == to_sync(b.__doc__)


@pytest.fixture
def client(moondream_sandbox: Any) -> Any:
    with Client(base_url=moondream_sandbox.base_url) as client:
        yield client


def with_fault(client: Client, fault: str) -> Client:
    return client.with_options(headers={"X-Sandbox-Fault": fault})


def test_snippets_from_the_docs_of_the_official_client(moondream_sandbox: Any, scene: bytes) -> None:
    import io

    from PIL import Image

    image = Image.open(io.BytesIO(scene))
    model = md.vl(api_key="k", endpoint=moondream_sandbox.base_url)
    assert "red" in model.query(image, "What colors are there?")["answer"].lower()
    result = model.caption(image, length="short")
    assert result["caption"]
    assert result["request_id"]
    assert "".join(model.query(image, question="What is this?", stream=True)["answer"]).startswith("An image")
    assert "".join(model.query(image, "What is this?", stream=True)["chunk"]).startswith("An image")
    assert "".join(model.caption(image, length="short", stream=True)["caption"])
    boxes, chunks, paths = [], [], []
    for update in model.segment(image, "red", stream=True):
        if "bbox" in update and not update.get("completed"):
            boxes.append(update["bbox"]["x_min"])
        if "chunk" in update:
            chunks.append(update["chunk"])
        if update.get("completed"):
            paths.append(update["path"])
    assert len(boxes) == len(paths) == 1
    assert chunks
    encoded = model.encode_image(image)
    assert len(model.detect(encoded, "objects")["objects"]) == 3
    assert len(model.point(encoded, "red")["points"]) == 1
    model.close()


def test_result_classes_are_the_same_objects(client: Client, tiny: EncodedImage) -> None:
    assert type(client.query(tiny, "?")) is md.QueryResult
    assert type(client.encode_image(tiny)) is md.EncodedImage


def test_streams(client: Client, scene: bytes) -> None:
    with client.caption(scene, stream=True) as stream:
        first = next(stream)
        assert stream.text == first
        rest = "".join(stream)
    result = stream.result()
    assert stream.text == first + rest == result.caption
    assert result.metrics is not None
    outline = client.segment(scene, "blue", stream=True).result()
    assert outline.path.startswith("M ")
    with client.segment(scene, "blue", stream=True) as steps:
        next(steps)
        next(steps)
        assert steps.text
        assert "".join(u.chunk or "" for u in steps)
        assert steps.text == outline.path


def test_stream_errors(client: Client, scene: bytes) -> None:
    stream = with_fault(client, "cut=2").caption(scene, stream=True)
    with pytest.raises(md.StreamInterruptedError) as caught:
        "".join(stream)
    assert caught.value.partial == stream.text
    with pytest.raises(md.StreamInterruptedError):
        next(stream)
    with pytest.raises(md.StreamInterruptedError):
        stream.result()
    closed = client.caption(scene, stream=True)
    next(closed)
    closed.close()
    assert list(closed) == []
    with pytest.raises(md.StreamInterruptedError, match="closed before its end"):
        closed.result()


class LongStream:
    """A fake `AsyncTextStream` with many pieces, each available at once."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.count = 0

    def __aiter__(self) -> LongStream:
        return self

    async def __anext__(self) -> str:
        if self.count == self.length:
            raise StopAsyncIteration
        self.count += 1
        return "x"

    async def aclose(self) -> None:
        pass

    async def result(self) -> str:
        return "x" * self.count


def test_a_long_stream_is_prefetched_with_a_bound(client: Client) -> None:
    portal = client._portal  # pyright: ignore[reportPrivateUsage]
    for _ in range(20):
        source: Any = LongStream(5_000)
        assert len("".join(TextStream(portal, source))) == 5_000
    source = LongStream(1_000_000)
    with TextStream(portal, source) as stream:
        for _ in range(1000):
            next(stream)
        assert source.count <= 1000 + 256
    assert source.count < 1_000_000


def test_a_dropped_stream_warns(client: Client, scene: bytes) -> None:
    stream = with_fault(client, "drip=0.01").caption(scene, stream=True)
    next(stream)
    with pytest.warns(ResourceWarning, match="dropped before its end"):
        del stream
        gc.collect()


def test_threads_share_a_client(client: Client, tiny: EncodedImage) -> None:
    answers: list[str] = []

    def work() -> None:
        for _ in range(10):
            answers.append(client.query(tiny, "how big?").answer)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["1 by 1 pixels."] * 80


def test_inside_a_running_event_loop(client: Client, tiny: EncodedImage) -> None:
    async def notebook_cell() -> str:
        return client.query(tiny, "how big?").answer

    assert asyncio.run(notebook_cell()) == "1 by 1 pixels."


def test_the_thread_ends_with_the_last_client(tiny: EncodedImage, moondream_sandbox: Any) -> None:
    def threads() -> int:
        return sum(t.name == "moondream-async" for t in threading.enumerate())

    before = threads()
    with Client(base_url=moondream_sandbox.base_url) as first, Client(base_url=moondream_sandbox.base_url) as second:
        first.query(tiny, "?")
        second.query(tiny, "?")
        assert threads() == max(1, before)
    assert threads() == before


def test_use_after_close(tiny: EncodedImage, moondream_sandbox: Any) -> None:
    client = Client(base_url=moondream_sandbox.base_url)
    client.query(tiny, "?")
    client.close()
    client.close()
    with pytest.raises(md.ConfigurationError, match="closed"):
        client.query(tiny, "?")


def test_errors_are_short_and_typed(client: Client, scene: bytes) -> None:
    with pytest.raises(md.ConfigurationError) as caught:
        client.detect(scene, "")
    assert len(caught.traceback) <= 5
    assert caught.value.__context__ is None
    with pytest.raises(md.ServerError) as failed:
        with_fault(client.with_options(retry=1), "status=500;times=0").detect(scene, "x")
    assert failed.value.request_id
    assert "sandbox" in failed.value.request_id


def test_a_call_on_the_clients_own_loop_raises(client: Client, tiny: EncodedImage) -> None:
    async def call_on_loop() -> None:
        client.query(tiny, "?")

    with pytest.raises(md.ConfigurationError, match="AsyncClient"):
        client._portal.call(call_on_loop)  # pyright: ignore[reportPrivateUsage]


def test_context_variables_propagate(client: Client) -> None:
    import contextvars

    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    variable.set("mine")

    async def read() -> str:
        return variable.get()

    assert client._portal.call(read) == "mine"  # pyright: ignore[reportPrivateUsage]


def test_full_tracebacks(client: Client, scene: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOONDREAM_FULL_TRACEBACK", "1")
    with pytest.raises(md.ConfigurationError) as caught:
        client.detect(scene, "")
    assert "checks.py" in str(caught.traceback[-1].path)


def shown_frames(error: BaseException) -> list[str]:
    """The functions of this package that a notebook shows: those that are not hidden, and the last."""
    frames = [
        frame for frame, _ in traceback.walk_tb(error.__traceback__) if "/moondream_async/" in frame.f_code.co_filename
    ]
    return [each.f_code.co_name for each in frames[:-1] if not each.f_locals.get("__tracebackhide__")] + ["..."]


async def test_tracebacks_in_notebooks_are_short(moondream_sandbox: Any, scene: bytes) -> None:
    async with md.AsyncClient(base_url=moondream_sandbox.base_url) as client:
        for call in (client.detect(scene, ""), client.caption(b"text"), client.segment(b"text", "x", stream=True)):
            with pytest.raises(md.MoondreamError) as caught:
                await call
            assert shown_frames(caught.value) == ["..."]
            assert len(caught.traceback) <= 3


def test_tracebacks_of_sync_calls_in_notebooks_are_short(client: Client, scene: bytes) -> None:
    calls = [lambda: client.detect(scene, ""), lambda: client.map("caption", 5), lambda: client.run("x", [], "out")]  # type: ignore[call-overload]  # pyright: ignore
    for call in calls:
        with pytest.raises(md.MoondreamError) as caught:
            call()
        assert shown_frames(caught.value) == ["..."]


def test_an_interrupted_run_says_how_to_go_on(client: Client, scene: bytes, tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"

    def items() -> Iterator[tuple[int, bytes]]:
        for number in range(1000):
            if number == 40:  # at most 2 x 4 items are taken ahead
                _thread.interrupt_main()
            if number > 40:
                time.sleep(0.05)
            yield number, scene

    with pytest.raises(KeyboardInterrupt) as caught:
        client.run("caption", items(), out, concurrency=4)
    done = sum(outcome.ok for outcome in read_results(out))
    note = f"Interrupted: {done} items are done, and their results are in {str(out)!r}. "
    assert caught.value.__notes__ == [note + "Make the same call again to resume."]
    assert client.run("caption", [(number, scene) for number in range(done)], out).succeeded <= 4


def test_subclasses_and_clones(moondream_sandbox: Any, tiny: EncodedImage) -> None:
    class CustomClient(Client):
        pass

    with CustomClient(base_url=moondream_sandbox.base_url, model="a") as client:
        clone = client.with_options(model="b")
        assert type(clone) is CustomClient
        assert (client.model, clone.model) == ("a", "b")
        assert clone.query(tiny, "how big?").answer == "1 by 1 pixels."
    with pytest.raises(md.ConfigurationError, match="closed"):
        clone.query(tiny, "?")


def test_a_client_can_be_opened_and_closed_many_times(moondream_sandbox: Any) -> None:
    for _ in range(20):
        with Client(base_url=moondream_sandbox.base_url) as client:
            client.models()
    assert not [t for t in threading.enumerate() if t.name == "moondream-async"]


def test_inside_trio_with_its_context(moondream_sandbox: Any) -> None:
    async def main() -> list[Any]:
        with Client(base_url=moondream_sandbox.base_url) as client:
            return client.models()

    assert anyio.run(main, backend="trio")
