"""Draw the images that benchmarks prepare: reproducible, and with the detail of real images."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable

from PIL import Image, ImageChops, ImageDraw, ImageFont

Size = tuple[int, int]


def photo(size: Size, orientation: int = 1) -> bytes:
    """Return a JPEG like a phone's: detail of every scale that the lens resolves, edges, and sensor noise."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return _encode(_draw_landscape(size, finest=4, grain=5), "JPEG", quality=92, exif=exif)


def texture(size: Size) -> bytes:
    """Return a JPEG full of detail down to single pixels: leaves, gravel or fur through a very good lens."""
    return _encode(_draw_landscape(size, finest=1, grain=0), "JPEG", quality=92)


def screenshot(size: Size, *, text: int = 22, kind: str = "PNG") -> bytes:
    """Return windows full of text of this height in pixels, one with an image; a JPEG has quality 90."""
    picture = Image.new("RGB", size, "#e8e8ee")
    draw, dice = ImageDraw.Draw(picture), random.Random(1)
    for column in range(3):
        left, right = size[0] * column // 3 + 20, size[0] * (column + 1) // 3 - 20
        draw.rectangle((left, 60, right, size[1] - 60), fill="white", outline="#888888")
        draw.rectangle((left, 60, right, 110), fill=("#3060c0", "#308050", "#805030")[column])
        _draw_text(draw, (left + 20, 140, right - 20, size[1] - 80), text, dice)
    picture.paste(_draw_landscape((size[0] // 4, size[1] // 4), finest=1, grain=0), (size[0] // 3 + 60, size[1] // 2))
    return _encode(picture, kind, **({"quality": 90} if kind == "JPEG" else {}))


def scan(size: Size) -> bytes:
    """Return a JPEG like a scanner's: a gray page of print, with the grain of the paper."""
    page = Image.new("L", size, 245)
    margin = size[0] // 10
    _draw_text(ImageDraw.Draw(page), (margin, margin, size[0] - margin, size[1] - margin), 34, random.Random(2))
    grain = Image.effect_noise(size, 6)
    return _encode(ImageChops.add(page, grain, 1, -128), "JPEG", quality=85)


CASES: dict[str, Callable[[], bytes]] = {
    "12 MP photo, JPEG": lambda: photo((4000, 3000)),
    "12 MP photo on its side, JPEG": lambda: photo((4000, 3000), 6),
    "12 MP texture, JPEG": lambda: texture((4000, 3000)),
    "12 MP screenshot, PNG": lambda: screenshot((4000, 3000)),
    "A4 scan at 300 dpi, JPEG": lambda: scan((2480, 3508)),
    "1920 x 1080, JPEG": lambda: photo((1920, 1080)),
    "1920 x 1080 screenshot, JPEG": lambda: screenshot((1920, 1080), text=16, kind="JPEG"),
    "1920 x 1080 screenshot, PNG": lambda: screenshot((1920, 1080), text=16),
    "640 x 480, JPEG": lambda: photo((640, 480)),
}


def _draw_landscape(size: Size, *, finest: int, grain: float) -> Image.Image:
    # Brightness has detail of every scale; colors change slowly, as cameras record them.
    light = _fractal_noise(size, 0, finest)
    small = size[0] // 8, size[1] // 8
    colors = [_fractal_noise(small, seed, 4).resize(size, Image.Resampling.BICUBIC) for seed in (1, 2)]
    faint = [color.point([128 + (value - 128) // 2 for value in range(256)]) for color in colors]
    if grain:
        light = ImageChops.add(light, Image.effect_noise(size, grain), 1, -128)
    picture = Image.merge("YCbCr", (light, *faint)).convert("RGB")
    draw, dice = ImageDraw.Draw(picture), random.Random(3)
    for _ in range(40):
        x, y, r = dice.randrange(size[0]), dice.randrange(size[1]), dice.randrange(8, max(9, size[1] // 12))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=tuple(dice.randrange(256) for _ in range(3)))
    return picture


def _fractal_noise(size: Size, seed: int, finest: int) -> Image.Image:
    """Return noise of every scale from `finest` pixels up; coarser noise is stronger (1/f, as in nature)."""
    dice = random.Random(seed)
    total = Image.new("L", size, 128)
    step, contrast = finest, 4.0 * 1.6 ** math.log2(finest)
    while min(size) // step >= 4:
        small = (max(2, size[0] // step), max(2, size[1] // step))
        noise = Image.frombytes("L", small, dice.randbytes(small[0] * small[1])).resize(size, Image.Resampling.BICUBIC)
        faint = noise.point([round((value - 128) * contrast / 128) + 128 for value in range(256)])
        total = ImageChops.add(total, faint, 1, -128)
        step, contrast = step * 2, min(60.0, contrast * 1.6)
    return total


def _draw_text(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], height: int, dice: random.Random) -> None:
    font = ImageFont.load_default(height)
    letters = "etaoinshrdlucmfwypvbgkETAOINSHRDLU0123456789.,;"
    for top in range(box[1], box[3] - height, height * 3 // 2):
        line = ""
        while draw.textlength(line, font) < box[2] - box[0] - height * 6:
            line += "".join(dice.choices(letters, k=dice.randrange(2, 10))) + " "
        draw.text((box[0], top), line, fill=0, font=font)


def _encode(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
