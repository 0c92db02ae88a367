"""A whole answer, up to a limit."""

from __future__ import annotations

from typing import cast

import httpx

from .transport_errors import from_transport

LARGEST_BODY = 64 * 1024 * 1024
"""Bytes of any answer, such as the result of a fal endpoint."""

LARGEST_ANSWER = 8 * 1024 * 1024
"""Bytes of an answer of Moondream's API. None comes near; decoding one of this size does not hold up the event loop."""


class ResponseTooLargeError(Exception):
    """An answer, or one event of a stream, grew beyond its size cap."""


async def read_all(response: httpx.Response, limit: int = LARGEST_BODY) -> bytes:
    """Read the whole answer, up to a limit; the connection is free after this, however it ends.

    Raises:
        AnswerTooLargeError: It is larger, or compressed more than once.
    """
    if response.is_stream_consumed:  # by a hook of the user's own httpx client
        return response.content
    encoded = "content-encoding" in response.headers
    if encoded and "," in response.headers["content-encoding"]:  # unpacked in one go, however large
        await response.aclose()
        raise ResponseTooLargeError("the answer is compressed more than once")
    try:
        return await _joined(response, limit, encoded=encoded)
    except ResponseTooLargeError:
        raise
    except Exception as exc:
        raise from_transport(exc) from None
    finally:
        await response.aclose()


async def _joined(response: httpx.Response, limit: int, *, encoded: bool) -> bytes:
    data = bytearray()  # not a list: each of its chunks costs 40 bytes more than it holds
    async for chunk in response.aiter_bytes() if encoded else cast("httpx.AsyncByteStream", response.stream):
        data += chunk
        if len(data) > limit:
            raise ResponseTooLargeError(f"the answer has more than {limit:,} bytes")
    return bytes(data)
