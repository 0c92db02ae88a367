"""Chat completions, in OpenAI's shape: the last message is answered from the pixels of the last images."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

from . import events
from .faults import Faults
from .reading import Fields, Refusal, flag, settings, text

_ROLES = ("system", "user", "assistant")
_MAX = 4096  # tokens of an answer

Answer = Callable[[Fields], Any]


def read(data: Fields) -> tuple[str, list[str], Fields]:
    """The question, the images and the settings of a request; refuses what the endpoint refuses."""
    text(data, "model")
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "Field 'messages' must be a non-empty array", code="invalid_request", param="messages")
    for name in ("tools", "stop", "response_format"):
        if data.get(name) and data[name] != {"type": "text"}:
            raise Refusal(400, f"'{name}' is not supported", code="unsupported_parameter", param=name)
    question, images = "", list[str]()
    for message in cast("list[Any]", messages):
        if not isinstance(message, dict) or cast("Fields", message).get("role") not in _ROLES:
            raise Refusal(400, "Every message needs a role and a content", code="invalid_request", param="messages")
        said, shown = _parts(cast("Fields", message).get("content"))
        if cast("Fields", message)["role"] == "user":
            question = said or question
            images = shown or images
    if not question:
        raise Refusal(400, "There is no question", code="invalid_request", param="messages")
    given = [data[name] for name in ("max_completion_tokens", "max_tokens") if data.get(name) is not None]
    budget = given[0] if given else 768
    settings({"settings": {name: data[name] for name in ("temperature", "top_p") if data.get(name) is not None}})
    if not isinstance(budget, int) or not 1 <= budget <= _MAX:
        raise Refusal(400, f"max_completion_tokens must be from 1 to {_MAX}", code="invalid_request")
    return question, images, {"max_tokens": budget}


def answer(data: Fields, ask: Answer, count: Callable[[Fields, Any, float], Any]) -> Fields:
    """The whole answer, as it is without streaming."""
    question, images, chosen = read(data)
    thinks = data.get("reasoning") is None or flag(data, "reasoning")
    asked = [{"question": question, "settings": chosen, "reasoning": thinks, "image_url": image} for image in images]
    given = asked or [{"question": question, "settings": chosen}]
    done = [ask(each) for each in given]
    usage = [count(each, one, 0.01) for each, one in zip(given, done, strict=True)]
    message: Fields = {"role": "assistant", "content": "\n".join(str(one.value) for one in done)}
    thoughts = next((one.more["reasoning"] for one in done if "reasoning" in one.more), None)
    if thoughts is not None:
        message |= {"reasoning": thoughts["text"], "reasoning_details": {"grounding": thoughts["grounding"]}}
    read_tokens, written = (sum(each[name] for each in usage) for name in ("input_tokens", "output_tokens"))
    return {
        "id": f"chatcmpl-sandbox-{secrets.token_hex(6)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": data["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": done[-1].finish_reason}],
        "usage": {"prompt_tokens": read_tokens, "completion_tokens": written, "total_tokens": read_tokens + written},
    }


async def stream(whole: Fields, data: Fields, faults: Faults) -> AsyncIterator[bytes]:
    """The same in chunks, and the end mark."""
    options = data.get("stream_options")
    with_usage = isinstance(options, dict) and bool(cast("Fields", options).get("include_usage"))
    chunks = _chunks(whole, with_usage=with_usage)
    async for piece in events.body(chunks, faults):
        yield piece
    yield b"data: [DONE]\n\n"


def _chunks(whole: Fields, *, with_usage: bool) -> Iterator[Fields]:
    choice = whole["choices"][0]
    message = choice["message"]
    common = {**{name: whole[name] for name in ("id", "created", "model")}, "object": "chat.completion.chunk"}

    def chunk(delta: Fields, reason: str | None = None) -> Fields:
        return {**common, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    yield chunk({"role": "assistant", "content": ""})
    for piece in events.tokens(message.get("reasoning") or ""):
        yield chunk({"reasoning": piece})
    for piece in events.tokens(message["content"]):
        yield chunk({"content": piece})
    yield chunk({}, choice["finish_reason"])
    if with_usage:
        yield {**common, "choices": [], "usage": whole["usage"]}


def _parts(content: Any) -> tuple[str, list[str]]:
    if isinstance(content, str):
        return content, []
    said, images = list[str](), list[str]()
    for part in cast("list[Any]", content) if isinstance(content, list) else [None]:
        fields = cast("Fields", part) if isinstance(part, dict) else {}
        if fields.get("type") == "text" and isinstance(fields.get("text"), str):
            said.append(fields["text"])
        elif fields.get("type") == "image_url" and isinstance(fields.get("image_url"), dict):
            images.append(_inline(fields["image_url"].get("url")))
        else:
            raise Refusal(400, f"Unknown part {json.dumps(part)[:80]}", code="invalid_request", param="messages")
    return " ".join(said), images


def _inline(url: Any) -> str:
    if not isinstance(url, str) or not url.startswith("data:"):
        raise Refusal(400, "Remote image URLs are not supported; inline the image", code="invalid_image_url")
    return url
