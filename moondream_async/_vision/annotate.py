"""Results drawn on their image: boxes, points, outlines and labels, readable at any size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import attrs

from .._public import public
from ..errors import ConfigurationError
from ..types import BoundingBox, DetectResult, Point, PointResult, Result, SegmentResult
from .detections import name_of
from .images import upright
from .masks import mask

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

Color = tuple[int, int, int]

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
"""Colours that are told apart on most pictures; one for each label, in turn."""

_TINT = 0.45  # of a mask's colour
_LINE, _TEXT, _DOT = 0.0035, 0.026, 0.009  # of the image's mean side
_THINNEST, _SMALLEST_TEXT, _SMALLEST_DOT = 2, 12, 4  # pixels
_LONGEST_TEXT = 500  # characters of a label that are looked at
_BRIGHT = 0.5  # luminance, from which text on it is black


@public("vision")
def annotate(image: Any, *results: Result, label: str | None = None, font: str | None = None) -> Image:
    """Draw results on a copy of their image.

    Args:
        image: The image that was asked about: anything that the skills take but a URL. It is turned upright first.
        results: What was found: of `detect`, `point` and `segment`.
        label: For those that have no label of their own. Default None: none.
        font: The path of a TrueType font, for labels beyond Latin letters; None takes Pillow's own.

    Returns:
        A Pillow image of mode RGB; a notebook shows it by itself.

    Raises:
        ImageError: The image cannot be used.
        PathError: A segment's path cannot be read.
        ConfigurationError: A result has nothing to draw, or the font cannot be read.
    """
    if label is not None and not isinstance(label, str):
        raise ConfigurationError(f"label must be a text, not {label!r}.")
    picture = upright(image)
    canvas = _Canvas.on(picture, font)
    for number, result in enumerate(results):
        if isinstance(result, SegmentResult):
            canvas.area(result, label, number)
    for number, result in enumerate(results):
        if isinstance(result, (DetectResult, PointResult)):
            canvas.things(result, label, number)
        elif not isinstance(result, SegmentResult):
            raise ConfigurationError(f"A {type(result).__name__} has nothing to draw.")
    canvas.write_captions()
    return picture


def on_blank(result: Result) -> Image | None:
    """A result on an empty canvas of its image's size, made small; None if the size is not known."""
    from PIL import Image

    if result.image_size is None:
        return None
    scale = min(1.0, 640 / max(result.image_size))
    width, height = (max(1, round(side * scale)) for side in result.image_size)
    return annotate(Image.new("RGB", (width, height), (238, 240, 243)), result)


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
        size = max(_SMALLEST_TEXT, round(side * _TEXT))
        try:
            face: Any = ImageFont.load_default(size) if font is None else ImageFont.truetype(font, size)
        except (OSError, ValueError, TypeError, AttributeError) as exc:
            problem = str(exc)
        else:
            line, dot = max(_THINNEST, round(side * _LINE)), max(_SMALLEST_DOT, round(side * _DOT))
            return cls(picture, ImageDraw.Draw(picture), face, line, dot)
        raise ConfigurationError(f"The font {font!r} cannot be read: {problem}.")

    def color_of(self, label: str | None, number: int) -> Color:
        """The same for the same label; of what has none, for the same result."""
        return self.colors.setdefault(label or number, PALETTE[len(self.colors) % len(PALETTE)])

    def things(self, result: DetectResult | PointResult, label: str | None, number: int) -> None:
        """Boxes or points."""
        found = result.objects if isinstance(result, DetectResult) else result.points
        for thing in found:
            name = label if thing.label in (None, "") else name_of(thing.label)
            color = self.color_of(name, number)
            at = self.box(thing, color) if isinstance(thing, BoundingBox) else self.point(thing, color)
            if name:
                self.captions.append((at, name, color))

    def write_captions(self) -> None:
        """All labels, last of all: nothing covers them."""
        for at, name, color in self.captions:
            self.caption(at, name, color)

    def box(self, box: BoundingBox, color: Color) -> tuple[int, int]:
        """A frame inside the box's edges; returns where its label goes."""
        left, top, right, bottom = box.to_pixels(*self.picture.size)
        right, bottom = max(left, right - 1), max(top, bottom - 1)
        width = min(self.line, max(1, (right - left) // 2), max(1, (bottom - top) // 2))
        self.draw.rectangle((left, top, right, bottom), outline=color, width=width)
        return left, top

    def point(self, point: Point, color: Color) -> tuple[int, int]:
        """A dot with a white rim and a dark one, to be seen on anything; returns where its label goes."""
        x, y = point.to_pixels(*self.picture.size)
        for radius, fill in ((self.dot + 2, (20, 20, 20)), (self.dot + 1, (255, 255, 255)), (self.dot - 1, color)):
            self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
        return x + self.dot, y - self.dot

    def area(self, result: SegmentResult, label: str | None, number: int) -> None:
        """The inside, tinted, and its edge."""
        from PIL import Image, ImageChops, ImageFilter, ImageOps

        color = self.color_of(label, number)
        inside = mask(result, self.picture.size, antialias=True)
        reach = inside.getbbox()
        if reach is None:
            return
        edge = min(self.line, 8)
        part = ImageOps.expand(inside.crop(reach), border=edge + 1)  # so that there is an outside all around
        corner = reach[0] - edge - 1, reach[1] - edge - 1
        solid = Image.new("RGB", part.size, color)
        self.picture.paste(solid, corner, part.point([round(value * _TINT) for value in range(256)]))
        eroded = part.filter(ImageFilter.MinFilter(2 * edge + 1))
        self.picture.paste(solid, corner, ImageChops.subtract(part, eroded))
        if label:
            self.captions.append(((reach[0], reach[1]), label, color))

    def caption(self, at: tuple[int, int], text: str, color: Color) -> None:
        """A label on its colour, above the place or, where there is no room, below it; inside the image."""
        text = self._fitting(" ".join(text[:_LONGEST_TEXT].split()))
        pad = max(1, self.line)
        left, top, right, bottom = self.draw.textbbox((0, 0), text, font=self.font)
        width, height = right - left + 2 * pad, bottom - top + 2 * pad
        x = max(0, min(at[0], self.picture.width - width))
        y = at[1] - height if at[1] >= height else max(0, min(at[1], self.picture.height - height))
        self.draw.rectangle((x, y, x + width, y + height), fill=color)
        ink = (0, 0, 0) if _luminance(color) > _BRIGHT else (255, 255, 255)
        self.draw.text((x + pad - left, y + pad - top), text, fill=ink, font=self.font)

    def _fitting(self, text: str) -> str:
        room = self.picture.width - 2 * self.line
        if self.draw.textlength(text, font=self.font) <= room:
            return text
        while text and self.draw.textlength(text + "...", font=self.font) > room:
            text = text[: -max(1, len(text) // 8)]
        return text + "..."


def _luminance(color: Color) -> float:
    red, green, blue = color
    return (0.299 * red + 0.587 * green + 0.114 * blue) / 255
