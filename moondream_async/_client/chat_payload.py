"""The body of a chat request, whose images are prepared when the call has its slot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from .._api import ApiClient
from .._concurrency.forks import no_fork
from .._wire import chat


@attrs.frozen(eq=False)
class ChatPayload:
    """The body of a request to `/chat/completions`.

    Args:
        api: Prepares the images.
        messages: The user's messages.
        build: Builds the body from messages whose images are data URIs.
    """

    _api: ApiClient = attrs.field(repr=False)
    _messages: Any = attrs.field(repr=False)
    _build: Callable[[list[dict[str, Any]]], bytes] = attrs.field(repr=False)

    @property
    def takes_time(self) -> bool:
        """Whether to connect meanwhile: there may be images to prepare."""
        return True

    async def prepare(self) -> bytes:
        """Return the body, preparing the images."""
        return self._build(await chat.prepare_messages(self._messages, self._encode_all))

    async def _encode_all(self, images: list[Any]) -> list[str]:
        with no_fork():
            from .._concurrency.gather import gather

        return [image.image_url for image in await gather(self._api.encode_image, images)]
