"""The examples in docstrings run against the sandbox, and every public method has one."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import json
import re
import textwrap
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import moondream_async
from moondream_async import AsyncClient, BoundingBox, Cache, MoondreamError, Point, Prices, bulk, types, vision, vl, web
from moondream_async._batches.resource import AsyncBatches
from moondream_async._fal.request_handle import AsyncRequestHandle
from moondream_async._tuning.finetune import AsyncFinetune
from moondream_async._tuning.resource import AsyncTuning
from moondream_async.fal import AsyncFalClient

BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
CLASSES = (AsyncClient, AsyncBatches, AsyncTuning, AsyncFinetune, AsyncFalClient, AsyncRequestHandle)
RESULTS = tuple(
    getattr(types, name) for name in ("Point", "BoundingBox", "DetectResult", "PointResult", "SegmentResult")
)
WITHOUT = {
    "aclose", "get", "iter_events", "plan", "verify_webhook", "cancel_while_leaving", "completed", "fetch", "out_of_time",
    "to_dict", "to_json", "keys", "items", "values", "show",
}  # fmt: skip
"""Methods without an example that runs: trivial ones, aliases, internal ones, and those with one in a guide."""


def public(kind: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in dir(kind):
        value = getattr(kind, name)
        if not name.startswith("_") and inspect.isfunction(value) and name not in WITHOUT:
            yield f"{kind.__name__}.{name}", value


METHODS = {name: method for kind in (*CLASSES, *RESULTS) for name, method in public(kind)}
FUNCTIONS = {
    **{
        f"vision.{name}": getattr(vision, name)
        for name in vision.__all__
        if name not in ("PALETTE", "to_fiftyone", "to_vlm_dict")
    },
    **{
        f"bulk.{name}": getattr(bulk, name)
        for name in ("export", "read_results", "read_records", "to_pandas", "to_polars")
    },
    "web.http_status": web.http_status,
    "web.error_body": web.error_body,
    "Prices.of": Prices.of,
    "Prices.cost": Prices.cost,
    "Cache.clear": Cache.clear,
    "vl": vl,
}


def examples(value: Any) -> list[str]:
    return [textwrap.dedent(code) for code in BLOCK.findall(inspect.getdoc(value) or "")]


@pytest.mark.parametrize("name", [*METHODS, *FUNCTIONS])
def test_there_is_a_short_example(name: str) -> None:
    found = examples({**METHODS, **FUNCTIONS}[name])
    assert len(found) == 1
    assert len(found[0].splitlines()) <= 6


def test_the_sync_clients_have_the_same_examples() -> None:
    for kind in ("Client", "Batches", "Tuning", "Finetune"):
        for name, method in public(getattr(moondream_async, kind)):
            if name.rpartition(".")[2] != "close":
                (code,) = examples(method)
                assert "await" not in code
                assert "async" not in code


@pytest.fixture
async def scope(
    tmp_path: Path, scene: bytes, moondream_sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[dict[str, Any]]:
    """The names that examples use, in a folder with the files that they use."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("photo.jpg", "a.jpg", "b.jpg", "photos/c.jpg"):
        (tmp_path / name).write_bytes(scene)
    line = {"id": "a", "skill": "caption", "input": {"image_url": "data:image/png;base64,iVBORw0KGgo="}}
    (tmp_path / "lines.jsonl").write_text(json.dumps(line))
    async with (
        AsyncClient(base_url=moondream_sandbox.base_url) as client,
        AsyncFalClient(base_url=moondream_sandbox.fal_url) as fal,
    ):
        names: dict[str, Any] = {**vars(moondream_async), **{name: getattr(vision, name) for name in vision.__all__}}
        names |= {name: getattr(bulk, name) for name in bulk.__all__} | {
            name: getattr(web, name) for name in web.__all__
        }
        names |= {"client": client, "fal": fal, "Path": Path, "json": json, "MoondreamError": MoondreamError}
        names |= {
            "box": BoundingBox(0.1, 0.1, 0.5, 0.5),
            "other": BoundingBox(0.2, 0.2, 0.6, 0.6),
            "point": Point(0.2, 0.3),
        }
        names |= {"Cache": Cache, "Prices": Prices, "vl": vl}
        yield names


async def prepare(code: str, names: dict[str, Any]) -> None:
    """Make what an example refers to."""
    client: AsyncClient = names["client"]
    if re.search(r"\bboxes\b", code):
        names["boxes"] = await client.detect("photo.jpg", ["red", "blue"])
    if re.search(r"\bpoints\b", code):
        names["points"] = await client.point("photo.jpg", "red")
    if re.search(r"\bsegment\b", code):
        names["segment"] = await client.segment("photo.jpg", "red")
    if re.search(r"\bjob\b", code) and not code.startswith("job = await client.batches.create"):
        names["job"] = await client.batches.create([("a", "photo.jpg")], "caption", folder="a.batch")
    if re.search(r"\bfinetune\b", code) and not code.startswith("finetune = await client.tuning.create"):
        names["finetune"] = finetune = await client.tuning.create(Path.cwd().name, rank=8)
        if "save_checkpoint" in code:
            tried = await finetune.rollouts("query", image="photo.jpg", question="Which color?")
            await finetune.train_step([tried.group([1.0])])
    if re.search(r"\bhandle\b", code) and not code.startswith("handle = "):
        names["handle"] = await names["fal"].submit("sandbox/echo", {"a": 1})
    if "results.jsonl" in code:
        await client.run("caption", [("a", "photo.jpg")], "results.jsonl")


async def run(code: str, names: dict[str, Any]) -> None:
    await prepare(code, names)
    compiled = compile(code, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    with contextlib.redirect_stdout(io.StringIO()):
        waiting = eval(compiled, names)
        if inspect.isawaitable(waiting):
            await waiting


SKIPPED = {
    "AsyncBatches.submit": "the file is the user's",
    "vl": "needs a key",
    "vision.annotate_video": "needs a film; it is in test_annotated_video.py",
}


@pytest.mark.parametrize("name", [name for name in (*METHODS, *FUNCTIONS) if name not in SKIPPED])
async def test_it_runs(name: str, scope: dict[str, Any]) -> None:
    (code,) = examples({**METHODS, **FUNCTIONS}[name])
    await run(code, scope)
