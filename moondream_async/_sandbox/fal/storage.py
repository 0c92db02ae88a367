"""fal's file store: uploads whole, in parts, and to presigned addresses; and the tokens that it wants."""

from __future__ import annotations

import datetime
import secrets
from typing import Any

from ..storage import Storage

TOKEN_LASTS = 3600  # seconds


class FalStorage(Storage):
    """All files of one sandbox's fal.ai."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens: set[str] = set()

    def new_token(self) -> dict[str, Any]:
        """A token for uploads."""
        token = secrets.token_urlsafe(16)
        self.tokens.add(token)
        expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=TOKEN_LASTS)
        return {"token": token, "token_type": "Bearer", "expires_at": expires.isoformat()}
