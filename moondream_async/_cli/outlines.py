"""Draw outlines of straight lines with Pillow alone, for the demo without the extra `vision`."""

from __future__ import annotations

import re

from PIL import Image, ImageChops, ImageDraw

from ..types import SegmentResult

_COLOR = (145, 30, 180)
_OPACITY = 115  # of 255
_LINE = 4  # pixels
_LOOP = re.compile(r"M([^MZ]*)Z?")
_NUMBER = re.compile(r"-?[0-9.]+")

Point = tuple[float, float]


def draw_outline(image: Image.Image, outline: SegmentResult) -> Image.Image:
    """Return a copy of the image with a segment tinted, and its edge drawn. Its path may only have M, L and Z."""
    picture, mask = image.copy(), Image.new("1", image.size)
    loops = _loops(outline, image.size)
    for loop in loops:  # a loop inside another is a hole: the even-odd rule
        part = Image.new("1", image.size)
        ImageDraw.Draw(part).polygon(loop, fill=1)
        mask = ImageChops.logical_xor(mask, part)
    picture.paste(_COLOR, mask=mask.convert("L").point([0] * 255 + [_OPACITY]))
    for loop in loops:
        ImageDraw.Draw(picture).line([*loop, loop[0]], fill=_COLOR, width=_LINE)
    return picture


def _loops(outline: SegmentResult, size: tuple[int, int]) -> list[list[Point]]:
    box = outline.bbox
    if box is None:
        return []
    left, top = box.x_min * size[0], box.y_min * size[1]
    width, height = (box.x_max - box.x_min) * size[0], (box.y_max - box.y_min) * size[1]
    loops: list[list[Point]] = []
    for loop in _LOOP.findall(outline.path):
        numbers = [float(number) for number in _NUMBER.findall(loop)]
        loops.append([(left + x * width, top + y * height) for x, y in zip(numbers[::2], numbers[1::2], strict=True)])
    return loops
