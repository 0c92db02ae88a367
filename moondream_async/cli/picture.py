"""The demo's picture: a drawn scene, and the results drawn on it."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from ..types import BoundingBox, Point, SegmentResult

_SIZE = (960, 640)
_LABEL = 18  # pixels


def sample() -> Image.Image:
    """A small landscape in flat colours: sun, house, tree, car, ball."""
    image = Image.new("RGB", _SIZE, (240, 244, 248))
    draw = ImageDraw.Draw(image)
    draw.ellipse((760, 50, 880, 170), fill=(255, 220, 0))
    draw.rectangle((90, 260, 330, 500), fill=(139, 69, 19))
    draw.polygon([(60, 260), (210, 130), (360, 260)], fill=(140, 0, 0))
    draw.rectangle((180, 390, 240, 500), fill=(255, 220, 0))
    draw.ellipse((430, 180, 630, 400), fill=(40, 160, 60))
    draw.rectangle((512, 395, 548, 500), fill=(101, 67, 33))
    draw.rounded_rectangle((660, 410, 890, 490), 24, fill=(30, 90, 220))
    for x in (710, 840):
        draw.ellipse((x - 30, 460, x + 30, 520), fill=(20, 20, 20))
    draw.ellipse((380, 540, 440, 600), fill=(220, 0, 0))
    return image


def annotate(image: Image.Image, boxes: Sequence[BoundingBox], points: Sequence[Point], outline: SegmentResult) -> None:
    """Draw boxes with numbers, points as crosses, the outline as a tinted area."""
    _tint(image, outline)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(_LABEL)
    width, height = image.size
    for number, box in enumerate(boxes, 1):
        left, top = box.x_min * width, box.y_min * height
        draw.rectangle((left, top, box.x_max * width, box.y_max * height), outline="magenta", width=3)
        label = draw.textbbox((left + 3, max(0, top - _LABEL - 6)), str(number), font=font)
        draw.rectangle((label[0] - 3, label[1] - 3, label[2] + 3, label[3] + 3), fill="magenta")
        draw.text((left + 3, max(0, top - _LABEL - 6)), str(number), fill="white", font=font)
    for point in points:
        x, y = point.x * width, point.y * height
        for color, line in (("white", 7), ("black", 3)):
            draw.line((x - 12, y, x + 12, y), fill=color, width=line)
            draw.line((x, y - 12, x, y + 12), fill=color, width=line)


def _tint(image: Image.Image, outline: SegmentResult) -> None:
    if outline.bbox is None:
        return
    mask = Image.new("L", image.size)
    draw = ImageDraw.Draw(mask)
    for loop in _loops(outline.path, outline.bbox, image.size):
        draw.polygon(loop, fill=120)
        draw.line([*loop, loop[0]], fill=255, width=3)
    image.paste("cyan", mask=mask)


def _loops(path: str, box: BoundingBox, size: tuple[int, int]) -> list[list[tuple[float, float]]]:
    """The closed loops of a path of straight lines (`M x y L x y ... Z`, as the sandbox writes it), in pixels."""
    loops: list[list[tuple[float, float]]] = []
    for part in path.split("Z"):
        numbers = [float(word) for word in part.split() if word not in ("M", "L")]
        loop = [
            (
                (box.x_min + x * (box.x_max - box.x_min)) * size[0],
                (box.y_min + y * (box.y_max - box.y_min)) * size[1],
            )
            for x, y in zip(numbers[::2], numbers[1::2], strict=True)
        ]
        if len(loop) > 2:
            loops.append(loop)
    return loops
