"""Fetch the current state of a batch."""

from __future__ import annotations

from .._api import ApiClient
from ..config import path_part
from ..errors import APIError
from . import wire
from .models import Batch


async def retrieve(api: ApiClient, batch_id: str) -> Batch:
    """Return the current state of one batch.

    Raises:
        NotFoundError: There is no such batch.
        MoondreamError: The request failed.
    """
    try:
        return await api.call("GET", f"batch/{path_part('batch_id', batch_id)}", wire.batch, allow_error_field=True)
    except APIError as exc:
        exc.body = None if exc.status < 300 else exc.body  # it may hold presigned URLs
        raise
