"""The body of a rollouts request, and images as data URIs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import attrs

from .._api import ApiClient
from ..types import Meta
from . import wire
from .models import Rollouts


@attrs.define(eq=False)
class RolloutsPayload:
    """The body of a rollouts request, built when the call has its slot.

    Attributes:
        request: The request as it was sent; training groups repeat it. None until the body is built.
    """

    _api: ApiClient = attrs.field(repr=False)
    _finetune_id: str
    _arguments: dict[str, Any]
    _image: Any = attrs.field(repr=False)
    _num_rollouts: int
    _ground_truth: Mapping[str, Any] | None
    request: dict[str, Any] | None = None

    def __attrs_post_init__(self) -> None:
        self._build(None if self._image is None else "data:")  # check before preparing the image

    @property
    def takes_time(self) -> bool:
        """Whether there is an image to prepare."""
        return self._image is not None

    async def prepare(self) -> bytes:
        """Return the body."""
        return self._build(await image_url(self._api, self._image))

    def read(self, data: Any, _: Meta) -> Rollouts:
        """Parse the response."""
        return wire.parse_rollouts(data, cast("dict[str, Any]", self.request))

    def _build(self, url: str | None) -> bytes:
        self.request = wire.skill_request(self._arguments, url)
        return wire.rollouts_body(self._finetune_id, self.request, self._num_rollouts, self._ground_truth)


async def image_url(api: ApiClient, image: Any) -> str | None:
    """Return the image as a data URI, or None if there is none."""
    return None if image is None else (await api.encode_image(image)).image_url
