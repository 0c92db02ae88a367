"""`AsyncTuning`: finetunes, to be made, found and listed."""

from __future__ import annotations

from typing import Any

from .. import config
from .._api import ApiClient
from .._paginator import Pages
from .._public import public
from . import wire
from .finetune import AsyncFinetune
from .models import FinetuneInfo


@public()
class AsyncTuning:
    """Moondream Cloud's tuning API; `client.tuning`."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def create(self, name: str, rank: int) -> AsyncFinetune:
        """Make a finetune; asked for again, with the same name and rank, it is the same.

        Args:
            name: Letters, digits, `.`, `-` and `_`.
            rank: Of its LoRA: 8, 16, 24 or 32; more learns more, and slower.

        Raises:
            ConfigurationError: An argument cannot be used; nothing was sent.
            ConflictError: There is one of this name, of another rank.
            MoondreamError: As any call.
        """
        body = wire.finetune(name, rank)
        finetune_id = await self._api.call("POST", "tuning/finetunes", wire.created, body=body)
        return AsyncFinetune(self._api, FinetuneInfo(finetune_id=finetune_id, name=name, rank=rank))

    async def retrieve(self, finetune_id: str) -> AsyncFinetune:
        """Find a finetune.

        Raises:
            NotFoundError: There is none of this id.
            MoondreamError: As any call.
        """
        path = f"tuning/finetunes/{config.path_part('finetune_id', finetune_id)}"
        return AsyncFinetune(self._api, await self._api.call("GET", path, wire.info))

    def list(self, limit: int | None = None) -> Pages[AsyncFinetune]:
        """All finetunes of the key, the oldest first, page by page as they are asked for.

        Args:
            limit: How many to give at most; None gives all.

        Raises:
            MoondreamError: As any call.
        """

        def read(data: Any) -> AsyncFinetune:
            return AsyncFinetune(self._api, wire.info(data))

        return Pages(self._api, "tuning/finetunes", "finetunes", read, limit)
