"""OpenAI-compatible chat completions: answers the last question about the last images."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from .._wire.responses import is_list, is_object
from . import events
from .faults import Faults
from .validation import Fields, RequestError, parse_flag, parse_settings, require_text

_ROLES = ("system", "user", "assistant")
_MAX_TOKENS = 4096

Query = Callable[[Fields], Any]


def _parse_request(data: Fields) -> tuple[str, list[str], Fields]:
    """Return the question, images and settings; raise `RequestError` for what the API rejects."""
    require_text(data, "model")
    messages = data.get("messages")
    if not is_list(messages) or not messages:
        raise RequestError("Field 'messages' must be a non-empty array", "messages")
    for name in ("tools", "stop", "response_format"):
        if data.get(name) and data[name] != {"type": "text"}:
            raise RequestError(f"'{name}' is not supported", name, code="unsupported_parameter")
    question, images = "", list[str]()
    for message in messages:
        if not is_object(message) or message.get("role") not in _ROLES:
            raise RequestError("Every message needs a role and a content", "messages")
        text, message_images = _parse_content(message.get("content"))
        if message["role"] == "user":
            question = text or question
            images = message_images or images
    if not question:
        raise RequestError("There is no question", "messages")
    limits = [data[name] for name in ("max_completion_tokens", "max_tokens") if data.get(name) is not None]
    max_tokens = limits[0] if limits else 768
    parse_settings({"settings": {name: data[name] for name in ("temperature", "top_p") if data.get(name) is not None}})
    if not isinstance(max_tokens, int) or not 1 <= max_tokens <= _MAX_TOKENS:
        raise RequestError(f"max_completion_tokens must be from 1 to {_MAX_TOKENS}")
    return question, images, {"max_tokens": max_tokens}


def complete(data: Fields, query: Query, metrics: Callable[[Fields, Any, float], Any]) -> Fields:
    """Return the completion, as it is without streaming."""
    question, images, settings = _parse_request(data)
    fields: Fields = {"question": question, "settings": settings}
    reasons = data.get("reasoning") is None or parse_flag(data, "reasoning")
    requests = [{**fields, "reasoning": reasons, "image_url": image} for image in images] or [fields]
    results = [query(request) for request in requests]
    usage = [metrics(request, result, 0.01) for request, result in zip(requests, results, strict=True)]
    message: Fields = {"role": "assistant", "content": "\n".join(str(result.value) for result in results)}
    reasoning = next((result.extra["reasoning"] for result in results if "reasoning" in result.extra), None)
    if reasoning is not None:
        message |= {"reasoning": reasoning["text"], "reasoning_details": {"grounding": reasoning["grounding"]}}
    prompt, completion = (sum(counts[name] for counts in usage) for name in ("input_tokens", "output_tokens"))
    return {
        "id": f"chatcmpl-sandbox-{secrets.token_hex(6)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": data["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": results[-1].finish_reason}],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
    }


async def stream(completion: Fields, data: Fields, faults: Faults) -> AsyncIterator[bytes]:
    """Yield the completion as server-sent chunks, then `[DONE]`."""
    options = data.get("stream_options")
    with_usage = is_object(options) and bool(options.get("include_usage"))
    chunks = _chunks(completion, with_usage=with_usage)
    async for piece in events.stream_body(chunks, faults):
        yield piece
    yield b"data: [DONE]\n\n"


def _chunks(completion: Fields, *, with_usage: bool) -> Iterator[Fields]:
    choice = completion["choices"][0]
    message = choice["message"]
    common = {**{name: completion[name] for name in ("id", "created", "model")}, "object": "chat.completion.chunk"}

    def chunk(delta: Fields, reason: str | None = None) -> Fields:
        return {**common, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    yield chunk({"role": "assistant", "content": ""})
    for piece in events.split_tokens(message.get("reasoning") or ""):
        yield chunk({"reasoning": piece})
    for piece in events.split_tokens(message["content"]):
        yield chunk({"content": piece})
    yield chunk({}, choice["finish_reason"])
    if with_usage:
        yield {**common, "choices": [], "usage": completion["usage"]}


def _parse_content(content: Any) -> tuple[str, list[str]]:
    if isinstance(content, str):
        return content, []
    texts, images = list[str](), list[str]()
    for part in content if is_list(content) else [None]:
        fields = part if is_object(part) else {}
        if fields.get("type") == "text" and isinstance(fields.get("text"), str):
            texts.append(fields["text"])
        elif fields.get("type") == "image_url" and isinstance(fields.get("image_url"), dict):
            images.append(_check_data_uri(fields["image_url"].get("url")))
        else:
            raise RequestError(f"Unknown part {json.dumps(part)[:80]}", "messages")
    return " ".join(texts), images


def _check_data_uri(url: Any) -> str:
    if not isinstance(url, str) or not url.startswith("data:"):
        raise RequestError("Remote image URLs are not supported; inline the image", code="invalid_image_url")
    return url
