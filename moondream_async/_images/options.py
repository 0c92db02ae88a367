"""Options for preparing images."""

from __future__ import annotations

import contextlib
from typing import Any, Literal, cast

import attrs

from .._public import public
from ..errors import ConfigurationError

_MAX_UPLOAD_SIZE = 10 * 1024 * 1024  # bytes of an image file that the service accepts (moondream-api.md 1.6)

Color = tuple[int, int, int]
Resize = Literal["auto"] | int | None


def _check_resize(_: Any, field: Any, value: Any) -> None:
    if value is not None and value != "auto" and not (_is_integer(value) and value >= 1):
        raise ConfigurationError(f"resize must be 'auto', None or a longest side of at least 1 pixel, not {value!r}.")


def _in_range(low: int, high: int) -> Any:
    def check(_: Any, field: Any, value: Any) -> None:
        if not _is_integer(value) or not low <= value <= high:
            raise ConfigurationError(f"{field.name} must be a whole number from {low:,} to {high:,}, not {value!r}.")

    return check


def _check_bool(_: Any, field: Any, value: Any) -> None:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{field.name} must be True or False, not {value!r}.")


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _to_python(value: Any) -> Any:
    """Convert a NumPy scalar or array to Python values; return anything else unchanged."""
    return value.tolist() if hasattr(value, "__array_interface__") and hasattr(value, "tolist") else value


def parse_color(option: str, value: Any) -> Color:
    """Return the color that an option names: a CSS name, `"#rrggbb"`, or three numbers of 0 to 255.

    Raises:
        ConfigurationError: It is no color.
    """
    value = _to_python(value)
    if isinstance(value, str):
        return _parse_color_name(option, value)
    if isinstance(value, (tuple, list)):
        channels = [_to_python(channel) for channel in cast("list[object]", list(cast("Any", value)))]
        if len(channels) == 3 and all(_is_integer(each) and 0 <= cast("int", each) <= 255 for each in channels):
            return cast("Color", tuple(channels))
    raise ConfigurationError(f"{option} must be a color such as 'white', '#ffffff' or (255, 255, 255), not {value!r}.")


def _parse_background(value: Any) -> Color:
    return parse_color("background", value)


def _parse_color_name(option: str, name: str) -> Color:
    from PIL import ImageColor  # imported only when needed: importing this module must not load Pillow

    color = None
    with contextlib.suppress(ValueError):
        color = ImageColor.getrgb(name)[:3]
    if color is not None and all(0 <= channel <= 255 for channel in color):
        return color
    raise ConfigurationError(f"{option} must be a CSS color name, '#rrggbb' or (r, g, b), not {name!r}.")


@public()
@attrs.frozen(kw_only=True)
class ImageOptions:
    """How images are prepared for sending, for a client (`image_options=`) or a single `encode_image` call.

    Args:
        resize: `"auto"` sends the size at which the model gets the most detail, in the fewest pixels
            (reference: image-pipeline.md); for `segment` it keeps the full resolution, up to 8192 pixels a side.
            None keeps the original size for every skill. A number is the maximum longest side in pixels, for every
            skill. Images are never enlarged. Default `"auto"`.
        quality: JPEG quality, 1 to 100, of re-encoded images; files that are sent unchanged keep their own.
            Default None: 90, or 75 if at least twice the pixels that the model uses are sent, because it averages
            them.
        max_bytes: Maximum size of the image file in bytes, before base64, 1 to 2**31. Quality, then size, are reduced
            until it fits. Default 10 MiB, the service's limit.
        background: Color behind transparent parts: a CSS color name, `"#rrggbb"`, or `(r, g, b)` of 0..255.
            Default white.
        allow_private_urls: Whether an http(s) URL may lead to a private, loopback, link-local or otherwise
            non-public address. Leave it False if URLs come from untrusted users. Default False.

    Raises:
        ConfigurationError: A value is out of range.
    """

    resize: Resize = attrs.field(default="auto", converter=_to_python, validator=_check_resize)  # pyright: ignore[reportAssignmentType]
    quality: int | None = attrs.field(
        default=None, converter=_to_python, validator=attrs.validators.optional(_in_range(1, 100))
    )
    max_bytes: int = attrs.field(default=_MAX_UPLOAD_SIZE, converter=_to_python, validator=_in_range(1, 2**31))
    background: str | Color = attrs.field(default=(255, 255, 255), converter=_parse_background)
    allow_private_urls: bool = attrs.field(default=False, converter=_to_python, validator=_check_bool)

    @classmethod
    def of(cls, value: ImageOptions | None) -> ImageOptions:
        """Check a value that a user passed, and replace None with the defaults.

        Raises:
            ConfigurationError: It is neither `ImageOptions` nor None.
        """
        if value is None:
            return DEFAULT
        if not isinstance(value, ImageOptions):
            raise ConfigurationError(f"image_options must be ImageOptions(...), not {type(value).__name__}.")
        return value

    def evolve(self, **changes: Any) -> ImageOptions:
        """Return a copy with some values changed."""
        return attrs.evolve(self, **changes)


DEFAULT = ImageOptions()
