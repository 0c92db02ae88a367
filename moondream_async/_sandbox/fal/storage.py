"""fal's file store, and the tokens for uploads."""

from __future__ import annotations

import datetime
import secrets
from typing import Any

from ..storage import Storage

TOKEN_LIFETIME = 3600  # seconds


class FalStorage(Storage):
    """The files of one sandbox's fal.ai API."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: set[str] = set()

    def new_token(self) -> dict[str, Any]:
        """Return a new token for uploads."""
        token = secrets.token_urlsafe(16)
        self.tokens.add(token)
        expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=TOKEN_LIFETIME)
        return {"token": token, "token_type": "Bearer", "expires_at": expires.isoformat()}
