"""Read a request's body, up to a size and within a time."""

from __future__ import annotations

import anyio
from starlette.requests import Request

from .refusals import Refusal

_TIMEOUT = 60.0  # seconds for the whole body
_CLOSE = {"Connection": "close"}  # because the rest of the body is not read
_DISCARD_FACTOR = 4  # this multiple of the limit is read of larger bodies, so that the client sees the answer


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body of a request.

    Args:
        request: The request.
        limit: Its maximum size in bytes.

    Raises:
        Refusal: It is too large (413), or took too long (408).
        ClientDisconnect: The client has gone.
    """
    length = request.headers.get("content-length", "")
    if length.isdigit() and (len(length) > 18 or int(length) > _DISCARD_FACTOR * limit):
        raise _too_large(limit)
    body, size = bytearray(), 0
    with anyio.move_on_after(_TIMEOUT):
        async for chunk in request.stream():
            size += len(chunk)
            if size <= limit:
                body += chunk
            elif size > _DISCARD_FACTOR * limit:
                break
        if size > limit:
            raise _too_large(limit)
        return bytes(body)
    raise Refusal(408, f"The body did not arrive within {_TIMEOUT:g} s.", _CLOSE)


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"The body has more than {limit:,} bytes.", _CLOSE)
