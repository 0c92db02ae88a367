"""Pages of a list, and ids."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from .validation import Fields, RequestError

T = TypeVar("T")

_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def paginate(
    request: Request, name: str, entries: Sequence[T], serialize: Callable[[T], Fields], default_limit: int
) -> Response:
    """Return the page that a request asks for.

    Args:
        request: The request, with the query parameters `limit` (1 to 100) and `cursor`.
        name: Response field of the entries.
        entries: All entries.
        serialize: Returns the JSON fields of an entry.
        default_limit: Entries per page without a `limit`.

    Raises:
        RequestError: `limit` or `cursor` is invalid.
    """
    try:
        limit = int(request.query_params.get("limit", default_limit))
        first = int(base64.urlsafe_b64decode(request.query_params.get("cursor", "MA==")))
    except ValueError:
        raise RequestError("limit or cursor cannot be read") from None
    if first < 0:
        raise RequestError("limit or cursor cannot be read")
    if not 1 <= limit <= 100:
        raise RequestError("limit must be from 1 to 100", "limit")
    has_more = first + limit < len(entries)
    cursor = base64.urlsafe_b64encode(str(first + limit).encode()).decode() if has_more else None
    page: list[Any] = [serialize(entry) for entry in entries[first : first + limit]]
    return JSONResponse({name: page, "next_cursor": cursor, "has_more": has_more})


def new_id() -> str:
    """Return a random id in the service's format."""
    return "01" + "".join(secrets.choice(_LETTERS) for _ in range(24))
