"""Draw results on images: boxes, points, outlines and labels, readable at any image size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from .._images.options import Color
from .._images.prepare import upright
from .._public import public
from ..errors import ConfigurationError
from ..types import BoundingBox, DetectResult, Point, PointResult, Result, SegmentResult
from .detections import to_name
from .masks import mask

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

PALETTE: tuple[Color, ...] = (
    (230, 25, 75),
    (0, 130, 200),
    (60, 180, 75),
    (245, 130, 48),
    (145, 30, 180),
    (255, 225, 25),
    (0, 160, 160),
    (240, 50, 230),
    (128, 80, 20),
    (170, 255, 195),
)
"""Colors that are easy to distinguish on most images. Each new label gets the next one."""

_MASK_OPACITY = 0.45
_LINE, _TEXT, _DOT = 0.0035, 0.026, 0.009  # sizes, as fractions of the image's mean side
_MIN_LINE, _MIN_TEXT, _MIN_DOT = 2, 12, 4  # pixels
_MAX_LABEL = 500  # characters of a label that are considered
_BRIGHT = 0.5  # luminance above which text on a color is black


@public("vision")
def annotate(image: Any, *results: Result, label: str | None = None, font: str | None = None) -> Image:
    """Draw results on a copy of their image.

    ```python
    annotate("photo.jpg", boxes, points, segment).save("annotated.png")
    ```

    Args:
        image: The image that the results are for: anything the skills accept except a URL. EXIF orientation is applied
            first, because results refer to the upright image.
        results: Results of `detect`, `point` and `segment`.
        label: Label for boxes, points and outlines without one of their own. Default None: no label.
        font: Path of a TrueType font, for labels in non-Latin scripts. Default None: Pillow's font.

    Returns:
        A Pillow image of mode RGB, which notebooks display.

    Raises:
        ImageError: The image cannot be used.
        PathError: A segment's path cannot be parsed or filled.
        ConfigurationError: A result has nothing to draw, the font cannot be read, or the extra `vision` is missing
            for a segment.
    """
    check_label(label)
    picture = upright(image)
    draw_results(picture, results, label=label, font=font)
    return picture


def check_label(label: object) -> None:
    """Check the label of things without one of their own.

    Raises:
        ConfigurationError: It is neither a string nor None.
    """
    if label is not None and not isinstance(label, str):
        raise ConfigurationError(f"label must be a string, not {label!r}.")


def draw_results(
    picture: Image,
    results: Sequence[Result],
    *,
    label: str | None,
    font: str | None,
    colors: dict[str | int, Color] | None = None,
) -> None:
    """Draw results onto their image.

    Args:
        picture: The upright image.
        results: As for `annotate`.
        label: As for `annotate`.
        font: As for `annotate`.
        colors: The colors of labels so far, to which new ones are added.

    Raises:
        PathError, ConfigurationError: As in `annotate`.
    """
    canvas = _Canvas.on(picture, font)
    if colors is not None:
        canvas.colors = colors
    for number, result in enumerate(results):
        if isinstance(result, SegmentResult):
            canvas.draw_segment(result, label, number)
    for number, result in enumerate(results):
        if isinstance(result, (DetectResult, PointResult)):
            canvas.draw_detections(result, label, number)
        elif not isinstance(result, SegmentResult):
            raise ConfigurationError(f"A {type(result).__name__} has nothing to draw.")
    for at, name, color in canvas.captions:  # after everything else, so that nothing covers them
        canvas.draw_caption(at, name, color)


def draw_outline(picture: Image, loops: Iterable[Sequence[tuple[float, float]]]) -> None:
    """Draw closed loops, in pixels of the picture, onto it."""
    canvas = _Canvas.on(picture, None)
    for loop in loops:
        canvas.draw.line([*loop, loop[0]], fill=PALETTE[0], width=canvas.line, joint="curve")


@attrs.define(eq=False)
class _Canvas:
    picture: Image
    draw: ImageDraw
    font: FreeTypeFont | Any
    line: int
    dot: int
    colors: dict[str | int, Color] = attrs.field(factory=dict[Any, Color])
    captions: list[tuple[tuple[int, int], str, Color]] = attrs.field(factory=list[Any])

    @classmethod
    def on(cls, picture: Image, font: str | None) -> _Canvas:
        from PIL import ImageDraw, ImageFont

        side = math.sqrt(picture.width * picture.height)
        size = max(_MIN_TEXT, round(side * _TEXT))
        try:
            loaded: Any = ImageFont.load_default(size) if font is None else ImageFont.truetype(font, size)
        except (OSError, ValueError, TypeError, AttributeError) as exc:
            raise ConfigurationError(f"The font {font!r} cannot be read: {exc}.") from None
        line, dot = max(_MIN_LINE, round(side * _LINE)), max(_MIN_DOT, round(side * _DOT))
        return cls(picture, ImageDraw.Draw(picture), loaded, line, dot)

    def color_of(self, label: str | None, number: int) -> Color:
        """Return the color of a label or, without a label, of the result with this number."""
        return self.colors.setdefault(label or number, PALETTE[len(self.colors) % len(PALETTE)])

    def draw_detections(self, result: DetectResult | PointResult, label: str | None, number: int) -> None:
        """Draw the boxes or points of a result, and note their captions."""
        for each in result.objects if isinstance(result, DetectResult) else result.points:
            name = label if each.label in (None, "") else to_name(each.label)
            color = self.color_of(name, number)
            at = self.draw_box(each, color) if isinstance(each, BoundingBox) else self.draw_point(each, color)
            if name:
                self.captions.append((at, name, color))

    def draw_box(self, box: BoundingBox, color: Color) -> tuple[int, int]:
        """Draw a frame inside the box's edges, and return the position for its caption."""
        left, top, right, bottom = box.to_pixels(*self.picture.size)
        right, bottom = max(left, right - 1), max(top, bottom - 1)
        width = min(self.line, max(1, (right - left) // 2), max(1, (bottom - top) // 2))
        self.draw.rectangle((left, top, right, bottom), outline=color, width=width)
        return left, top

    def draw_point(self, point: Point, color: Color) -> tuple[int, int]:
        """Draw a dot with a white and a dark rim, visible on any image, and return the position for its caption."""
        x, y = point.to_pixels(*self.picture.size)
        for radius, fill in ((self.dot + 2, (20, 20, 20)), (self.dot + 1, (255, 255, 255)), (self.dot - 1, color)):
            self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
        return x + self.dot, y - self.dot

    def draw_segment(self, result: SegmentResult, label: str | None, number: int) -> None:
        """Tint the inside of a segment and draw its edge."""
        from PIL import Image, ImageChops, ImageFilter, ImageOps

        color = self.color_of(label, number)
        inside = mask(result, self.picture.size, antialias=True)
        bbox = inside.getbbox()
        if bbox is None:
            return
        edge = min(self.line, 8)
        part = ImageOps.expand(inside.crop(bbox), border=edge + 1)  # eroding needs some outside all around
        corner = bbox[0] - edge - 1, bbox[1] - edge - 1
        solid = Image.new("RGB", part.size, color)
        self.picture.paste(solid, corner, part.point([round(value * _MASK_OPACITY) for value in range(256)]))
        eroded = part.filter(ImageFilter.MinFilter(2 * edge + 1))
        self.picture.paste(solid, corner, ImageChops.subtract(part, eroded))
        if label:
            self.captions.append(((bbox[0], bbox[1]), label, color))

    def draw_caption(self, at: tuple[int, int], text: str, color: Color) -> None:
        """Draw a caption on its color, above a position or, if it does not fit there, below; inside the image."""
        text = self._shorten(" ".join(text[:_MAX_LABEL].split()))
        padding = max(1, self.line)
        left, top, right, bottom = self.draw.textbbox((0, 0), text, font=self.font)
        width, height = right - left + 2 * padding, bottom - top + 2 * padding
        x = max(0, min(at[0], self.picture.width - width))
        y = at[1] - height if at[1] >= height else max(0, min(at[1], self.picture.height - height))
        self.draw.rectangle((x, y, x + width, y + height), fill=color)
        text_color = (0, 0, 0) if _luminance(color) > _BRIGHT else (255, 255, 255)
        self.draw.text((x + padding - left, y + padding - top), text, fill=text_color, font=self.font)

    def _shorten(self, text: str) -> str:
        """Shorten a caption to the image's width."""
        max_width = self.picture.width - 2 * self.line
        if self.draw.textlength(text, font=self.font) <= max_width:
            return text
        while text and self.draw.textlength(text + "...", font=self.font) > max_width:
            text = text[: -max(1, len(text) // 8)]
        return text + "..."


def _luminance(color: Color) -> float:
    red, green, blue = color
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255
