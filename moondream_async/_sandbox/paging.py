"""Pages of a list, and names in it."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .reading import Fields, Refusal

T = TypeVar("T")

_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def page(request: Request, name: str, entries: Sequence[T], told: Callable[[T], Fields], usual: int) -> Response:
    """The page that a request asks for.

    Args:
        request: With `limit` and `cursor`.
        name: The field of the answer.
        entries: All.
        told: An entry as it is on the wire.
        usual: How many, unless asked otherwise.
    """
    try:
        limit = int(request.query_params.get("limit", usual))
        first = int(base64.urlsafe_b64decode(request.query_params.get("cursor", "MA==")))
    except ValueError:
        raise Refusal(400, "limit or cursor cannot be read", code="invalid_request") from None
    if first < 0:
        raise Refusal(400, "limit or cursor cannot be read", code="invalid_request")
    if not 1 <= limit <= 100:
        raise Refusal(400, "limit must be from 1 to 100", code="invalid_request", param="limit")
    has_more = first + limit < len(entries)
    cursor = base64.urlsafe_b64encode(str(first + limit).encode()).decode() if has_more else None
    shown: list[Any] = [told(entry) for entry in entries[first : first + limit]]
    return JSONResponse({name: shown, "next_cursor": cursor, "has_more": has_more})


def ulid() -> str:
    """A name that looks like the service's."""
    return "01" + "".join(secrets.choice(_LETTERS) for _ in range(24))
