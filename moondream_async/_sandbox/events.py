"""Streams in every documented shape (moondream-api.md 1.4), and what can go wrong with them."""

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

_GROUP = 3  # tokens in one event, as the engine sends them
_DRIP = 16  # bytes of a slow drip
_ENDLESS = 64 * 1024 * 1024  # bytes; an "endless" event ends here, so that no server runs away


class CutError(Exception):
    """The connection is to be cut."""


def tokens(text: str) -> list[str]:
    """The text in pieces, blanks kept: what a model would write one after the other."""
    return re.findall(r"\s*\S+|\s+$", text)


def text_events(shape: str, field: str, text: str, final: Event) -> Iterator[Event]:
    """The events of a query or caption stream.

    Args:
        shape: One of `faults.SHAPES`.
        field: `answer` or `caption`.
        text: The whole text.
        final: The answer as it would be without streaming.
    """
    pieces = tokens(text)
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
        stats = {
            "tokens": len(pieces),
            "duration": seconds,
            "tokens_per_sec": round(len(pieces) / seconds, 1),
        }
        yield {"stats": stats}
        yield {"completed": True}
    else:
        groups = ["".join(pieces[i : i + _GROUP]) for i in range(0, len(pieces), _GROUP)] or [""]
        for index, group in enumerate(groups[:-1]):
            yield {"chunk": group, "completed": False, "token_index": index * _GROUP}
        yield {"chunk": groups[-1], "completed": True, **final}


def segment_events(found: Segmentation, final: Event) -> Iterator[Event]:
    """The events of a segment stream: box, pieces of the coarse path, refined path and box."""
    if found.box is not None:
        yield {"type": "bbox", "bbox": found.box}
    pieces = tokens(found.coarse)
    for index in range(0, len(pieces), _GROUP):
        chunk = "".join(pieces[index : index + _GROUP])
        yield {"type": "path_delta", "chunk": chunk, "completed": False, "token_index": index}
    yield {"type": "final", "chunk": "", "completed": True, **final}


async def body(events: Iterator[Event], faults: Faults) -> AsyncIterator[bytes]:
    """The bytes of the stream, faults included."""
    if faults.endless:
        yield b'data: {"chunk": "'
        for _ in range(_ENDLESS // 65536):
            yield b"x" * 65536
    for index, event in enumerate(events):
        if index == faults.cut:
            raise CutError
        async for piece in _dripped(_encoded(index, event, faults), faults.drip):
            yield piece
        await anyio.lowlevel.checkpoint()


def _encoded(index: int, event: Event, faults: Faults) -> bytes:
    if index == faults.error_event:
        event = {"error": "Inference failed"}
    text = json.dumps(event)
    if index == faults.malformed:
        text = text[: len(text) // 2]
    return f"data: {text}\n\n".encode()


async def _dripped(data: bytes, seconds: float) -> AsyncIterator[bytes]:
    if not seconds:
        yield data
        return
    for start in range(0, len(data), _DRIP):
        yield data[start : start + _DRIP]
        await anyio.sleep(seconds)


def lost() -> Response:
    """The answer to a request that was done, cut off."""

    async def nothing() -> AsyncIterator[bytes]:
        yield b"{"
        raise CutError

    return StreamingResponse(nothing(), headers={"Content-Length": "1000"}, media_type="application/json")
