"""How images are prepared: a public frozen value."""

from __future__ import annotations

import contextlib
from typing import Any, Literal, cast

import attrs

from .._public import public
from ..errors import ConfigurationError

LARGEST_UPLOAD = 10 * 1024 * 1024
"""Bytes of an image file that the service takes (moondream-api.md 1.6)."""

Color = tuple[int, int, int]
Resize = Literal["auto"] | int | None


def _resize(_: Any, field: Any, value: Any) -> None:
    if value is not None and value != "auto" and not (_is_whole(value) and value >= 1):
        raise ConfigurationError(f"resize must be 'auto', None or a longest side of at least 1 pixel, not {value!r}.")


def _whole(least: int, most: int) -> Any:
    def check(_: Any, field: Any, value: Any) -> None:
        if not _is_whole(value) or not least <= value <= most:
            raise ConfigurationError(f"{field.name} must be a whole number of {least:,} to {most:,}, not {value!r}.")

    return check


def _flag(_: Any, field: Any, value: Any) -> None:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{field.name} must be True or False, not {value!r}.")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    """Python's own value of a NumPy scalar, or array; all else as it is."""
    return value.tolist() if hasattr(value, "__array_interface__") and hasattr(value, "tolist") else value


def _color(value: Any) -> Color:
    value = _plain(value)
    if isinstance(value, str):
        return _named_color(value)
    if isinstance(value, (tuple, list)):
        parts = [_plain(part) for part in cast("list[object]", list(cast("Any", value)))]
        if len(parts) == 3 and all(_is_whole(part) and 0 <= cast("int", part) <= 255 for part in parts):
            return cast("Color", tuple(parts))
    raise ConfigurationError(
        f"background must be a colour such as 'white', '#ffffff' or (255, 255, 255), not {value!r}."
    )


def _named_color(name: str) -> Color:
    from PIL import ImageColor  # only for who names a colour: importing this module loads no Pillow

    color = None
    with contextlib.suppress(ValueError):
        color = ImageColor.getrgb(name)[:3]
    if color is not None and all(0 <= part <= 255 for part in color):
        return color
    raise ConfigurationError(f"background {name!r} is not a colour; give a CSS name, '#rrggbb' or (r, g, b).")


@public()
@attrs.frozen(kw_only=True)
class ImageOptions:
    """How images are made ready to send; for a client (`image_options=`) or one `encode_image` call.

    Args:
        resize: `"auto"` sends the size at which the model sees the most of the image, in the fewest pixels
            (reference: image-pipeline.md); `segment` then keeps full resolution, up to 8192 pixels a side.
            None keeps the original's size for every skill. A number is the longest side in pixels, for every
            skill. Nothing is ever enlarged. Default `"auto"`.
        quality: JPEG quality, 1 to 100, of what is encoded here; bytes that pass through as they are keep
            theirs. Default None: 90, and 75 where the model gets at least twice the pixels that it then
            averages its own from.
        max_bytes: The most bytes the image file may have when it is sent, before base64. Quality, then size,
            are reduced until it fits. Default 10 MiB, the service's limit.
        background: What transparent parts are put on: a CSS colour name, `"#rrggbb"`, or `(r, g, b)` of
            0..255. Default white.
        allow_private_urls: Whether an http(s) URL may lead to a private, loopback, link-local or otherwise
            not public address. Leave it False where URLs come from strangers. Default False.

    Raises:
        ConfigurationError: A value is out of range.
    """

    resize: Resize = attrs.field(default="auto", converter=_plain, validator=_resize)  # pyright: ignore[reportAssignmentType]
    quality: int | None = attrs.field(
        default=None, converter=_plain, validator=attrs.validators.optional(_whole(1, 100))
    )
    max_bytes: int = attrs.field(default=LARGEST_UPLOAD, converter=_plain, validator=_whole(1, 2**31))
    background: str | Color = attrs.field(default=(255, 255, 255), converter=_color)
    allow_private_urls: bool = attrs.field(default=False, converter=_plain, validator=_flag)

    @classmethod
    def of(cls, value: ImageOptions | None) -> ImageOptions:
        """Read what a user may pass: None is the default."""
        if value is None:
            return DEFAULT
        if not isinstance(value, ImageOptions):
            raise ConfigurationError(f"image_options must be ImageOptions(...), not {type(value).__name__}.")
        return value

    def evolve(self, **changes: Any) -> ImageOptions:
        """A copy with some values changed."""
        return attrs.evolve(self, **changes)


DEFAULT = ImageOptions()
