"""The image that a result is about, so that the result can be shown on it. No pixels are kept alive or loaded."""

from __future__ import annotations

import os
import weakref
from typing import Any, TypeVar, cast

import attrs

from ..types import Result
from .encoded import EncodedImage
from .source_names import MAX_PATH_LENGTH, is_data_uri

R = TypeVar("R", bound=Result)


@attrs.define(eq=False)  # not frozen, which would take longer to make
class ImageSource:
    """Where the image is: on a disk, on the web, or in this process for as long as something else needs it.

    Attributes:
        place: The absolute path or the URL; None for an image in memory.
        allow_private: Whether a URL may lead to an address that is not public.
    """

    place: str | None
    allow_private: bool = False
    _reference: weakref.ref[Any] | None = attrs.field(default=None, alias="reference")

    @classmethod
    def of(cls, image: object, *, allow_private: bool = False) -> ImageSource | None:
        """Return the source of an image; None for bytes, files and texts, which cannot be referred to."""
        if isinstance(image, EncodedImage):
            return cls(None, reference=weakref.ref(image))
        if isinstance(image, (bytes, bytearray, memoryview)):
            return None
        try:
            if isinstance(image, os.PathLike):
                image = os.fsdecode(cast("os.PathLike[str]", image))
            if isinstance(image, str):
                is_place = len(image) <= MAX_PATH_LENGTH and not is_data_uri(image)
                return cls(_absolute(image), allow_private) if is_place else None
            return None if hasattr(image, "read") else cls(None, reference=weakref.ref(image))
        except Exception:  # some objects have no weak references, and a user's object may raise anything
            return None

    @classmethod
    def of_id(cls, item_id: object) -> ImageSource | None:
        """Return the source that an item's ID names; None if it cannot be a path.

        IDs come from files, which may come from elsewhere: their URLs are not fetched.
        """
        return cls.of(item_id) if isinstance(item_id, str) and "://" not in item_id else None

    @property
    def image(self) -> Any:
        """The path, the URL or the image; None if the image is gone."""
        return self.place if self._reference is None else self._reference()

    def __reduce__(self) -> tuple[Any, ...]:
        return ImageSource, (self.place,)

    def __deepcopy__(self, _: object) -> ImageSource:
        return self


def remember(result: R, source: ImageSource | None, label: object = None) -> R:
    """Store the source of its image in a result, and in its results by label. Return the same result.

    Args:
        result: The result.
        source: The image's source; None if it cannot be referred to.
        label: The argument `object` of the call, which is stored too if it is a single label.
    """
    if isinstance(label, str):
        object.__setattr__(result, "_label", label)
    if source is not None:
        parts: dict[str, Result] = getattr(result, "by_label", None) or {}
        for each in (result, *parts.values()):
            object.__setattr__(each, "_source", source)
    return result


def _absolute(place: str) -> str:
    if os.path.isabs(place) or "://" in place or place[:5].lower() == "file:":  # noqa: PTH117 - Path takes 4 times as long
        return place
    return os.path.join(os.getcwd(), place)  # noqa: PTH109, PTH118
