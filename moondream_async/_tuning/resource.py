"""`AsyncTuning`: create, retrieve and list finetunes."""

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
        """Create a finetune, or return the existing one with the same name and rank.

        ```python
        finetune = await client.tuning.create("red-shapes", rank=8)
        ```

        Args:
            name: Name of letters, digits, `.`, `-` and `_`.
            rank: Rank of the LoRA: 8, 16, 24 or 32. A higher rank learns more, but more slowly.

        Raises:
            ConfigurationError: An argument is invalid. Nothing was sent.
            ConflictError: A finetune with this name and another rank exists.
            MoondreamError: The call failed.
        """
        body = wire.create_body(name, rank)
        finetune_id = await self._api.call("POST", "tuning/finetunes", wire.parse_finetune_id, body=body)
        return AsyncFinetune(self._api, FinetuneInfo(finetune_id=finetune_id, name=name, rank=rank))

    async def retrieve(self, finetune_id: str) -> AsyncFinetune:
        """Return the finetune with an id.

        ```python
        finetune = await client.tuning.retrieve(finetune.info.finetune_id)
        ```

        Raises:
            NotFoundError: The finetune does not exist.
            MoondreamError: The call failed.
        """
        path = f"tuning/finetunes/{config.path_part('finetune_id', finetune_id)}"
        return AsyncFinetune(self._api, await self._api.call("GET", path, wire.parse_info))

    def list(self, limit: int | None = None) -> Pages[AsyncFinetune]:
        """List the API key's finetunes, oldest first. Pages are fetched as you iterate.

        ```python
        async for finetune in client.tuning.list():
            print(finetune.name, finetune.rank)
        ```

        Args:
            limit: Maximum number of finetunes; None for all.

        Raises:
            MoondreamError: The call failed.
        """

        def parse(data: Any) -> AsyncFinetune:
            return AsyncFinetune(self._api, wire.parse_info(data))

        return Pages(self._api, "tuning/finetunes", "finetunes", parse, limit)
