"""Chat: messages with all kinds of images, whole and streamed; OpenAI's client against the sandbox."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from moondream_async import (
    AsyncClient,
    AuthenticationError,
    BadRequestError,
    ChatDelta,
    ChatResult,
    Client,
    ConfigurationError,
    EncodedImage,
    ImageError,
    StreamInterruptedError,
)
from tests.support.loopback import Exchange, serve
from tests.support.sandboxes import PooledSandbox

ASK = "How many red shapes are there?"


def question_about(image: Any, question: str = ASK) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [question, image]}]


@pytest.mark.parametrize("kind", ["path", "bytes", "encoded", "openai", "openai with a path", "named", "text part"])
async def test_kinds_of_images(kind: str, scene: bytes, tmp_path: Path, moondream_sandbox: Any) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(scene)
    uri = "data:image/png;base64," + base64.b64encode(scene).decode()
    part: Any = {
        "path": path,
        "bytes": scene,
        "encoded": EncodedImage.of(scene, media_type="image/png", size=(640, 480), original=(640, 480)),
        "openai": {"type": "image_url", "image_url": {"url": uri}},
        "openai with a path": {"type": "image_url", "image_url": {"url": str(path)}},
        "named": {"type": "image", "image": scene},
        "text part": scene,
    }[kind]
    question: Any = {"type": "text", "text": ASK} if kind == "text part" else ASK
    async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
        answer = await client.chat([{"role": "user", "content": [question, part]}], reasoning=False)
    assert answer.content == "One red region."
    assert answer.role == "assistant"
    assert answer.reasoning is None
    assert answer.finish_reason == "stop"
    assert answer.metrics is not None
    assert (answer.metrics.input_tokens or 0) > 700
    assert answer.request_id is not None
    assert answer["choices"][0]["message"]["content"] == answer["content"] == answer.content


async def test_several_turns_with_images_and_reasoning(scene: bytes, moondream_sandbox: Any) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": ["What is this?", scene, scene]},
        {"role": "assistant", "content": "Shapes."},
        {"role": "user", "content": ASK},
    ]
    async with AsyncClient(base_url=moondream_sandbox.base_url, model="moondream3-preview") as client:
        answer = await client.chat(messages)
    assert answer.content == "One red region.\nOne red region."  # the images of an earlier turn
    assert answer.reasoning is not None
    assert "I see a red square" in answer.reasoning.text
    assert answer.reasoning.grounding
    assert answer.extra["model"] == "moondream3-preview"
    assert messages[1]["content"][1] is scene  # the caller's messages are not changed


async def test_streams_have_the_same_content(scene: bytes, moondream_sandbox: Any) -> None:
    async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
        whole = await client.chat(question_about(scene))
        async with await client.chat(question_about(scene), stream=True) as stream:
            deltas = [delta async for delta in stream]
        result = await stream.result()
        assert client.stats.output_tokens == 2 * (whole.metrics.output_tokens or 0 if whole.metrics else 0)
    assert all(isinstance(delta, ChatDelta) for delta in deltas)
    assert "".join(delta.content or "" for delta in deltas) == whole.content == result.content == stream.text
    assert whole.reasoning is not None
    assert result.reasoning is not None
    assert "".join(delta.reasoning or "" for delta in deltas) == whole.reasoning.text == result.reasoning.text
    kinds = ["reasoning" if delta.reasoning else "content" for delta in deltas]
    assert kinds == sorted(kinds, reverse=True)
    assert (result.finish_reason, result.metrics) == (whole.finish_reason, whole.metrics)
    assert result.request_id


async def test_the_request(tiny: EncodedImage) -> None:
    sent: list[Exchange] = []

    async def handler(exchange: Exchange) -> None:
        sent.append(exchange)
        await exchange.answer({"choices": [{"message": {"content": None}}], "usage": {"prompt_tokens": 1}})

    async with serve(handler) as server, AsyncClient("the-key-" * 3, base_url=server.base_url) as client:
        answer = await client.chat(
            question_about(tiny), settings={"max_tokens": 5, "temperature": 0.5}, reasoning=False
        )
    assert answer.content == ""
    assert sent[0].head.startswith("POST /v1/chat/completions ")
    assert "authorization: bearer the-key-" in sent[0].head.lower()
    assert "x-moondream-auth" not in sent[0].head.lower()
    body = sent[0].json
    assert body["model"] == "moondream3.1-9B-A2B"
    assert (body["max_completion_tokens"], body["temperature"], body["reasoning"]) == (5, 0.5, False)
    assert "max_tokens" not in body
    assert body["messages"][0]["content"][1]["image_url"]["url"] == tiny.image_url


@pytest.mark.parametrize(
    "messages",
    [
        None,
        [],
        "Hello",
        {"role": "user", "content": "x"},
        ["Hello"],
        [{"role": "robot", "content": "x"}],
        [{"content": "x"}],
        [{"role": "user"}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": [{"type": "audio"}]}],
        [{"role": "user", "content": [{"type": "image_url"}]}],
        [{"role": "user", "content": [{"type": "text"}]}],
        [{"role": "user", "content": "x", "more": object()}],
    ],
)
async def test_invalid_messages(messages: Any) -> None:
    async with AsyncClient("k" * 20, base_url="http://127.0.0.1:9/v1") as client:
        with pytest.raises(ConfigurationError, match="message"):
            await client.chat(messages)
        assert client.stats.requests == 0


async def test_invalid_images_and_settings() -> None:
    async with AsyncClient("k" * 20, base_url="http://127.0.0.1:9/v1") as client:
        with pytest.raises(ImageError):
            await client.chat(question_about(b"no image"))
        with pytest.raises(ConfigurationError, match="temperature"):
            await client.chat(question_about(b"no image"), settings={"temperature": -1})
        assert client.stats.requests == 0


async def test_errors(scene: bytes, moondream_sandbox: Any) -> None:
    with PooledSandbox(api_key="right-key") as sandbox:
        async with AsyncClient("wrong-key", base_url=sandbox.base_url) as client:
            with pytest.raises(AuthenticationError):
                await client.chat(question_about(scene))
    async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
        with pytest.raises(BadRequestError, match="no question"):
            await client.chat([{"role": "system", "content": "x"}])


async def test_an_interrupted_stream(scene: bytes, moondream_sandbox: Any) -> None:
    headers = {"X-Sandbox-Fault": "cut=20"}
    async with AsyncClient(base_url=moondream_sandbox.base_url, headers=headers, retry=1) as client:
        stream = await client.chat(question_about(scene, "Describe it."), stream=True, reasoning=False)
        with pytest.raises(StreamInterruptedError) as interrupted:
            await stream.result()
    assert interrupted.value.partial
    assert interrupted.value.partial == stream.text


async def test_a_server_that_does_not_stream(tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer({"choices": [{"message": {"content": "all at once"}, "finish_reason": "stop"}]})

    async with serve(handler) as server, AsyncClient("k" * 20, base_url=server.base_url) as client:
        stream = await client.chat(question_about(tiny), stream=True)
        assert [delta.content async for delta in stream] == ["all at once"]
        assert (await stream.result()).finish_reason == "stop"


def test_sync(scene: bytes, moondream_sandbox: Any) -> None:
    with Client(base_url=moondream_sandbox.base_url) as client:
        answer = client.chat(question_about(scene), reasoning=False)
        assert isinstance(answer, ChatResult)
        with client.chat(question_about(scene), stream=True, reasoning=False) as stream:
            assert "".join(delta.content or "" for delta in stream) == answer.content
        assert stream.result().content == answer.content


def chunk(content: str | None = None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more}


USAGE = {"prompt_tokens": 3, "completion_tokens": 2}


@pytest.mark.parametrize(
    "events",
    [
        [chunk("He"), chunk("llo"), chunk(reason="stop", usage=USAGE)],  # without [DONE]
        [{"id": "c", "usage": USAGE}, chunk("He"), {"choices": None}, chunk("llo", "stop")],
        [chunk("He"), {"choices": [{"index": 1, "delta": {"content": "Z"}}], "usage": USAGE}, chunk("llo", "stop")],
        [chunk([{"type": "text", "text": "He"}]), chunk("llo", "stop", usage=USAGE)],  # type: ignore[arg-type]
        [{"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}], "usage": USAGE, "id": "c"}],
    ],
)
async def test_streams_in_other_formats(events: list[Any], tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start_stream()
        for event in events:
            await exchange.event(event)
        await exchange.end_stream()

    async with serve(handler) as server, AsyncClient("k" * 20, base_url=server.base_url) as client:
        stream = await client.chat(question_about(tiny), stream=True)
        assert "".join([delta.content or "" async for delta in stream]) == "Hello"
        result = await stream.result()
    assert (result.finish_reason, result.request_id) == ("stop", "c")
    assert result.metrics is not None
    assert result.metrics.output_tokens == 2


@pytest.mark.parametrize("streamed", [False, True])
async def test_reasoning_in_other_formats(tiny: EncodedImage, streamed: bool) -> None:
    span = {"start_idx": 0, "end_idx": 1, "points": [[0.5, 0.5]]}
    reasoning: list[Any] = [{"text": "So.", "grounding": [span]}, "So.", "So."]
    details: list[Any] = [None, {"grounding": [span]}, {"grounding": ["odd"]}]
    spans: list[int] = []

    async def handler(exchange: Exchange) -> None:
        message = {"content": "x", "reasoning": reasoning[len(spans)], "reasoning_details": details[len(spans)]}
        await exchange.answer({"choices": [{"message": message, "finish_reason": "stop"}]})

    async with serve(handler) as server, AsyncClient("k" * 20, base_url=server.base_url) as client:
        for _ in reasoning:
            answer = await client.chat(question_about(tiny), stream=streamed)
            result = answer if isinstance(answer, ChatResult) else await answer.result()
            assert result.reasoning is not None
            assert result.reasoning.text == "So."
            spans.append(len(result.reasoning.grounding))
    assert spans == [1, 1, 0]


async def test_results_read_like_those_of_the_official_client(scene: bytes, moondream_sandbox: Any) -> None:
    async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
        answer = await client.chat(question_about(scene))
        assert answer["message"]["content"] == answer.content
        assert answer["message"]["reasoning_details"]["grounding"]
        assert "message" in answer
        stream = await client.chat(question_about(scene), stream=True)
        assert "".join([piece async for piece in stream["message"]]) == answer.content
        reply = await client.chat([*question_about(scene), answer, {"role": "user", "content": ASK}], reasoning=False)
        assert reply.content == answer.content
    with Client(base_url=moondream_sandbox.base_url) as blocking:
        assert "".join(blocking.chat(question_about(scene), stream=True)["message"]) == answer.content


async def test_settings_do_not_replace_other_fields(tiny: EncodedImage) -> None:
    sent: list[Any] = []

    async def handler(exchange: Exchange) -> None:
        sent.append(exchange.json)
        await exchange.answer({"choices": [{"message": {"role": "assistant", "content": "x"}}]})

    async with serve(handler) as server, AsyncClient("k" * 20, base_url=server.base_url) as client:
        answer = await client.chat(question_about(tiny))
        settings: Any = {"messages": [], "model": "evil", "seed": 7}
        await client.chat([answer, *question_about(tiny)], settings=settings)
        assert (sent[1]["model"], sent[1]["seed"]) == ("moondream3.1-9B-A2B", 7)
        assert sent[1]["messages"][0] == {"role": "assistant", "content": "x"}
        with pytest.raises(ConfigurationError, match="not both"):
            await client.chat(question_about(tiny), settings={"max_tokens": 1, "max_completion_tokens": 2})  # type: ignore[typeddict-unknown-key]


async def test_invalid_requests_to_the_sandbox(moondream_sandbox: Any) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "?"}]}
    async with httpx.AsyncClient() as http:
        url = moondream_sandbox.base_url + "/chat/completions"
        for more in ({"temperature": -1}, {"top_p": 7}, {"max_tokens": 0}, {"temperature": "hot"}):
            assert (await http.post(url, json={**body, **more})).status_code == 400, more
        for more in ({"reasoning": None}, {"response_format": {"type": "text"}}):
            assert (await http.post(url, json={**body, **more})).status_code == 200, more


def openai_messages(scene: bytes) -> Any:
    url = "data:image/png;base64," + base64.b64encode(scene).decode()
    parts = [{"type": "text", "text": ASK}, {"type": "image_url", "image_url": {"url": url}}]
    return [{"role": "user", "content": parts}]


async def test_openais_client(scene: bytes) -> None:
    import openai  # slow to import

    with PooledSandbox(api_key="the-key") as sandbox:
        async with openai.AsyncOpenAI(api_key="the-key", base_url=sandbox.base_url) as client:
            messages = openai_messages(scene)
            whole = await client.chat.completions.create(model="moondream3-preview", messages=messages)
            assert whole.choices[0].message.content == "One red region."
            assert whole.usage is not None
            assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
            stream = await client.chat.completions.create(
                model="moondream3-preview", messages=messages, stream=True, stream_options={"include_usage": True}
            )
            chunks = [chunk async for chunk in stream]
            assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "One red region."
            assert chunks[-1].usage == whole.usage
            assert [model.id async for model in client.models.list()]
            with pytest.raises(openai.BadRequestError, match="Remote image"):
                messages[0]["content"][1]["image_url"]["url"] = "https://example.com/a.jpg"
                await client.chat.completions.create(model="moondream3-preview", messages=messages)
            with pytest.raises(openai.BadRequestError, match="response_format"):
                await client.chat.completions.create(
                    model="m", messages=openai_messages(scene), response_format={"type": "json_object"}
                )
        with openai.OpenAI(api_key="wrong", base_url=sandbox.base_url, max_retries=0) as wrong:
            with pytest.raises(openai.AuthenticationError):
                await asyncio.to_thread(wrong.chat.completions.create, model="m", messages=openai_messages(scene))
