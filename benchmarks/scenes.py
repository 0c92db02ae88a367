"""Large drawn scenes with the boxes of everything in them."""

from __future__ import annotations

import io
import random

import attrs
from PIL import Image, ImageDraw

_GAP = 14  # pixels between objects
_COLORS = {"red": (255, 0, 0), "blue": (30, 90, 220)}

Box = tuple[float, float, float, float]


@attrs.frozen(eq=False)
class Scene:
    """A scene.

    Attributes:
        image: A JPEG.
        size: Width and height in pixels.
        boxes: The boxes in pixels, by color.
    """

    image: bytes = attrs.field(repr=False)
    size: tuple[int, int]
    boxes: dict[str, list[Box]]


def draw(width: int, height: int, *, count: int, sides: tuple[int, int], large: int = 2, seed: int = 0) -> Scene:
    """Draw ellipses and rectangles that do not touch, red and blue, on light gray.

    Args:
        width: Width of the scene in pixels.
        height: Height in pixels.
        count: Number of objects.
        sides: Smallest and largest side of an object in pixels.
        large: Number of objects with sides of a quarter to a half of the scene's height, besides.
        seed: Seed of the random numbers.
    """
    rng = random.Random(seed)
    picture = Image.new("RGB", (width, height), (238, 238, 238))
    pen = ImageDraw.Draw(picture)
    boxes: dict[str, list[Box]] = {color: [] for color in _COLORS}
    placed: list[Box] = []
    wanted = [(height // 4, height // 2)] * large + [sides] * count
    for low, high in wanted:
        for _ in range(200):
            w, h = rng.randint(low, high), rng.randint(low, high)
            left, top = rng.randint(_GAP, width - w - _GAP), rng.randint(_GAP, height - h - _GAP)
            box = (float(left), float(top), float(left + w), float(top + h))
            if all(_apart(box, other) for other in placed):
                break
        else:
            continue
        color = rng.choice(list(_COLORS))
        shape = rng.choice((pen.ellipse, pen.rectangle))
        shape((box[0], box[1], box[2] - 1, box[3] - 1), fill=_COLORS[color])
        placed.append(box)
        boxes[color].append(box)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=92)
    return Scene(file.getvalue(), (width, height), boxes)


def _apart(a: Box, b: Box) -> bool:
    return a[0] > b[2] + _GAP or b[0] > a[2] + _GAP or a[1] > b[3] + _GAP or b[1] > a[3] + _GAP
