"""Event streams in every known shape, with injected faults."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import anyio.lowlevel
from starlette.responses import Response, StreamingResponse

from .faults import Faults
from .skills import Segmentation

Event = dict[str, Any]

_TOKENS_PER_EVENT = 3  # as in the engine
_DRIP_BYTES = 16
_ENDLESS_BYTES = 64 * 1024 * 1024  # an "endless" event ends here, so that the server stops sending


class CutError(Exception):
    """Raised in a response's body to cut the connection."""


def split_tokens(text: str) -> list[str]:
    """Split a text into words with the whitespace before them, as a model would emit them."""
    return re.findall(r"\s*\S+|\s+$", text)


def text_events(shape: str, field: str, text: str, final: Event) -> Iterator[Event]:
    """Yield the events of a `query` or `caption` stream.

    Args:
        shape: One of `faults.SHAPES`.
        field: `answer` or `caption`.
        text: The whole text.
        final: The response body as it is without streaming.
    """
    pieces = split_tokens(text)
    if shape == "final":
        yield {field: text}
    elif shape == "text":
        yield from ({"text": piece} for piece in pieces)
        yield {"completed": True}
    elif shape == "docs":
        common = {"request_id": final["request_id"]}
        yield from ({"chunk": piece, "completed": False, **common} for piece in pieces)
        yield {"completed": True, "chunk": "", "org_id": "sandbox", **common}
    elif shape == "station":
        yield from ({"chunk": piece} for piece in pieces)
        seconds = max(0.001, final["metrics"]["decode_time_ms"] / 1000)
        rate = round(len(pieces) / seconds, 1)
        yield {"stats": {"tokens": len(pieces), "duration": seconds, "tokens_per_sec": rate}}
        yield {"completed": True}
    else:
        groups = ["".join(pieces[i : i + _TOKENS_PER_EVENT]) for i in range(0, len(pieces), _TOKENS_PER_EVENT)] or [""]
        for index, group in enumerate(groups[:-1]):
            yield {"chunk": group, "completed": False, "token_index": index * _TOKENS_PER_EVENT}
        yield {"chunk": groups[-1], "completed": True, **final}


def segment_events(segmentation: Segmentation, final: Event) -> Iterator[Event]:
    """Yield the events of a `segment` stream: box, pieces of the coarse path, final box and refined path."""
    if segmentation.box is not None:
        yield {"type": "bbox", "bbox": segmentation.box}
    pieces = split_tokens(segmentation.coarse)
    for index in range(0, len(pieces), _TOKENS_PER_EVENT):
        chunk = "".join(pieces[index : index + _TOKENS_PER_EVENT])
        yield {"type": "path_delta", "chunk": chunk, "completed": False, "token_index": index}
    yield {"type": "final", "chunk": "", "completed": True, **final}


async def stream_body(events: Iterator[Event], faults: Faults) -> AsyncIterator[bytes]:
    """Yield the bytes of an event stream, with the faults of the request."""
    if faults.endless:
        yield b'data: {"chunk": "'
        for _ in range(_ENDLESS_BYTES // 65536):
            yield b"x" * 65536
    for index, event in enumerate(events):
        if index == faults.cut:
            raise CutError
        async for piece in _drip(_encode(index, event, faults), faults.drip):
            yield piece
        await anyio.lowlevel.checkpoint()


def _encode(index: int, event: Event, faults: Faults) -> bytes:
    if index == faults.error_event:
        event = {"error": "Inference failed"}
    text = json.dumps(event)
    if index == faults.malformed:
        text = text[: len(text) // 2]
    return f"data: {text}\n\n".encode()


async def _drip(data: bytes, seconds: float) -> AsyncIterator[bytes]:
    if not seconds:
        yield data
        return
    for start in range(0, len(data), _DRIP_BYTES):
        yield data[start : start + _DRIP_BYTES]
        await anyio.sleep(seconds)


def cut_response() -> Response:
    """Return a response whose connection is cut after the first byte."""

    async def first_byte() -> AsyncIterator[bytes]:
        yield b"{"
        raise CutError

    return StreamingResponse(first_byte(), headers={"Content-Length": "1000"}, media_type="application/json")
