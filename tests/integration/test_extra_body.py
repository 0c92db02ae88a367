"""Fields of requests that this version does not know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx

from moondream_async import AsyncClient, ConfigurationError, EncodedImage

BASE = "https://api.moondream.ai/v1"
ANSWER = {"answer": "x", "caption": "x", "objects": [], "points": [], "path": "", "completed": True}
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("query", {"question": "q"}), ("caption", {}), ("detect", {"object": "o"}), ("point", {"object": "o"}), ("segment", {"object": "o"}),
]  # fmt: skip


@pytest.mark.parametrize(("skill", "arguments"), CALLS)
@respx.mock
async def test_skills(tiny: EncodedImage, tmp_path: Path, skill: str, arguments: dict[str, Any]):
    sent: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        if sent[-1].get("stream"):
            events = f"data: {json.dumps({**ANSWER, 'chunk': '', 'type': 'final'})}\n\n"
            return httpx.Response(200, text=events, headers={"content-type": "text/event-stream"})
        return httpx.Response(200, json=ANSWER)

    respx.post(url__startswith=BASE).mock(side_effect=answer)
    async with AsyncClient("k" * 20) as client:
        call = getattr(client, skill)
        await call(tiny, **arguments)
        await call(tiny, **arguments, extra_body={"threshold": 0.3, "nested": {"a": [1]}})
        await call(tiny, **arguments, extra_body={})
        if skill not in ("detect", "point"):
            await (await call(tiny, **arguments, stream=True, extra_body={"threshold": 0.3})).result()
        start: Any = client.map
        async for outcome in start(skill, [tiny], **arguments, extra_body={"threshold": 0.5}):
            outcome.unwrap()
        run: Any = client.run
        await run(skill, [("a", tiny)], tmp_path / "out.jsonl", **arguments, extra_body={"threshold": 0.5})
        with pytest.raises(Exception, match="another run"):
            await run(skill, [("a", tiny)], tmp_path / "out.jsonl", **arguments, extra_body={"threshold": 0.6})
    assert sent[1] == {**sent[0], "threshold": 0.3, "nested": {"a": [1]}}
    assert sent[2] == sent[0]
    assert [body.get("threshold") for body in sent[3:]] == ([0.3] if skill not in ("detect", "point") else []) + [
        0.5,
        0.5,
    ]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([1], "must be a dict"), ("x", "must be a dict"), ({1: 2}, "str keys"), ({"a": {1}}, "JSON"), ({"a": float("nan")}, "JSON"),
        *(({name: 1}, "parameter of its own") for name in ("question", "image_url", "stream", "settings")),
        ({"model": "x"}, "with_options"),
    ],
)  # fmt: skip
@respx.mock
async def test_bad_fields(tiny: EncodedImage, extra: Any, message: str):
    async with AsyncClient("k" * 20) as client:
        with pytest.raises(ConfigurationError, match=message):
            await client.caption(tiny, extra_body=extra)
