"""A whole answer, up to a limit."""

from __future__ import annotations

from typing import cast

import httpx

LARGEST_ANSWER = 64 * 1024 * 1024
"""Bytes; no answer of a skill comes near."""


class AnswerTooLargeError(Exception):
    """An answer, or one event of a stream, grew beyond its size cap."""


async def read_all(response: httpx.Response) -> bytes:
    """The whole answer, up to 64 MiB; the connection is free after this, however it ends.

    Raises:
        AnswerTooLargeError: It is larger, or compressed more than once.
    """
    if response.is_stream_consumed:  # by a hook of the user's own httpx client
        return response.content
    encoded = "content-encoding" in response.headers
    if encoded and "," in response.headers["content-encoding"]:  # unpacked in one go, however large
        await response.aclose()
        raise AnswerTooLargeError("the answer is compressed more than once")
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in response.aiter_bytes() if encoded else cast("httpx.AsyncByteStream", response.stream):
            chunks.append(chunk)
            size += len(chunk)
            if size > LARGEST_ANSWER:
                raise AnswerTooLargeError(f"the answer has more than {LARGEST_ANSWER:,} bytes")
        return b"".join(chunks)
    finally:
        await response.aclose()
