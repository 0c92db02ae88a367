"""Read a whole response, up to a limit."""

from __future__ import annotations

from typing import cast

import httpx

from .pooled_request import raw_headers_of
from .transport_errors import from_transport

MAX_RESPONSE = 64 * 1024 * 1024
"""Maximum size of any response, such as the result of a fal endpoint, in bytes."""

MAX_API_RESPONSE = 8 * 1024 * 1024
"""Maximum size of a response of Moondream's API, in bytes. None comes near; decoding this much does not block long."""


class ResponseTooLargeError(Exception):
    """A response, or one event of a stream, is larger than its limit."""


async def read_all(response: httpx.Response, limit: int = MAX_RESPONSE) -> bytes:
    """Read the whole body. The connection is free after this, however it ends.

    Raises:
        ResponseTooLargeError: It is larger than the limit, or compressed more than once.
    """
    if response.is_stream_consumed:  # read by a hook of the HTTP client
        return response.content
    try:
        return await _read(response, limit)
    except ResponseTooLargeError:
        raise
    except Exception as exc:
        raise from_transport(exc) from None
    finally:
        await cast("httpx.AsyncByteStream", response.stream).aclose()


async def _read(response: httpx.Response, limit: int) -> bytes:
    # Each lookup in httpx's headers takes as long as making this dict.
    headers = {name.lower(): value for name, value in raw_headers_of(response)}
    encoded = b"content-encoding" in headers
    if encoded and "," in response.headers["content-encoding"]:  # httpx would decompress it in one go, however large
        raise ResponseTooLargeError("it is compressed more than once")
    length = headers.get(b"content-length", b"")
    if length.isdigit() and len(length) < 20 and int(length) > limit:
        raise ResponseTooLargeError(f"it has {int(length):,} bytes; the limit is {limit:,}")
    data = bytearray()  # not a list: each chunk in it would take 40 bytes more
    async for chunk in response.aiter_bytes() if encoded else cast("httpx.AsyncByteStream", response.stream):
        data += chunk
        if len(data) > limit:
            raise ResponseTooLargeError(f"it has more than {limit:,} bytes")
    return bytes(data)
