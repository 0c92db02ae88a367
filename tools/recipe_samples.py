"""Draw the inputs of the recipes, in flat colors that the sandbox recognizes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

PINK, YELLOW, RED, BLUE, GREEN = (255, 180, 200), (255, 220, 0), (200, 0, 0), (30, 90, 220), (40, 160, 60)
BLACK, GRAY, WHITE, BROWN = (25, 25, 25), (170, 170, 170), (255, 255, 255), (101, 67, 33)
SKY = (238, 238, 238)


def product(kind: str, color: tuple[int, int, int], background: tuple[int, int, int] = WHITE) -> Image.Image:
    """Draw a mug, a bottle or a ball."""
    image = Image.new("RGB", (600, 600), background)
    draw = ImageDraw.Draw(image)
    if kind == "mug":
        draw.ellipse((330, 220, 500, 420), outline=color, width=34)
        draw.rounded_rectangle((150, 160, 420, 480), 40, fill=color)
    elif kind == "bottle":
        draw.rectangle((265, 70, 335, 220), fill=color)
        draw.rounded_rectangle((210, 190, 390, 540), 50, fill=color)
    else:
        draw.ellipse((130, 130, 470, 470), fill=color)
    return image


def products(folder: Path) -> None:
    """Make `photos`: three products, one of them turned by EXIF, and a file that is not an image."""
    photos = folder / "photos"
    photos.mkdir()
    product("mug", BLUE).save(photos / "mug.jpg", quality=92)
    product("bottle", GREEN, SKY).save(photos / "bottle.png")
    product("ball", RED, YELLOW).save(photos / "ball.webp", lossless=True)
    (photos / "damaged.jpg").write_bytes(b"not an image")


SITE = {
    "index.html": """<!doctype html>
<title>Shop</title>
<img src="/images/mug.jpg" width="300">
<img src="images/bottle.png" alt="Our green bottle">
<img src="images/line.png" alt="">
""",
    "blog/new.md": """# New in the shop

![](../images/ball.png) and, again, ![](../images/mug.jpg)

`![](not-an-image.png)` is code.
""",
}


def site(folder: Path) -> None:
    """Make `site`: a page of HTML and one of Markdown, with three images without alt text."""
    for name, text in SITE.items():
        page = folder / "site" / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text)
    images = folder / "site" / "images"
    images.mkdir()
    product("mug", BLUE).save(images / "mug.jpg", quality=92)
    product("bottle", GREEN).save(images / "bottle.png")
    product("ball", RED).save(images / "ball.png")


def street() -> Image.Image:
    """Draw a street with two people and a car."""
    image = Image.new("RGB", (900, 600), SKY)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 430, 900, 600), fill=GRAY)
    draw.rounded_rectangle((480, 260, 840, 480), 60, fill=RED)
    draw.rectangle((540, 290, 780, 360), fill=WHITE)
    for x in (560, 760):
        draw.ellipse((x - 48, 432, x + 48, 528), fill=BLACK)
    draw.rectangle((595, 395, 725, 437), fill=YELLOW)
    draw.text((660, 416), "MD 2026", BLACK, ImageFont.load_default(26), anchor="mm")
    for x, shirt in ((130, BLUE), (310, GREEN)):
        draw.rectangle((x - 55, 260, x + 55, 500), fill=shirt)
        draw.ellipse((x - 58, 120, x + 58, 264), fill=PINK)
        for eye in (x - 22, x + 22):
            draw.ellipse((eye - 7, 170, eye + 7, 184), fill=BLACK)
        draw.arc((x - 28, 190, x + 28, 232), 20, 160, fill=BLACK, width=5)
    return image


def photos(folder: Path) -> None:
    """Make `photos`: a street as a camera saved it, with its place in EXIF; a picture without people; a damaged one."""
    target = folder / "photos"
    (target / "holiday").mkdir(parents=True)
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"  # GPS latitude reference
    exif[0x0110] = "camera"
    street().save(target / "street.jpg", quality=92, exif=exif)
    product("ball", RED).save(target / "holiday" / "ball.png")
    (target / "holiday" / "damaged.jpg").write_bytes(b"not an image")


def road(second: float) -> Image.Image:
    """Draw a frame of the film: a red car crosses the picture from second 3 to 9."""
    image = Image.new("RGB", (640, 360), SKY)
    draw = ImageDraw.Draw(image)
    draw.ellipse((520, 30, 590, 100), fill=YELLOW)
    draw.polygon([(40, 220), (110, 70), (180, 220)], fill=GREEN)
    draw.rectangle((0, 260, 640, 360), fill=BROWN)
    left = round(-200 + (second - 3) / 6 * 840)
    draw.rounded_rectangle((left, 200, left + 190, 300), 24, fill=RED)
    for x in (left + 45, left + 145):
        draw.ellipse((x - 24, 276, x + 24, 324), fill=BLACK)
    return image


def write_film(path: Path, draw: Callable[[float], Image.Image], seconds: float, fps: int) -> None:
    """Write a film of the frames that `draw` returns for each time in seconds."""
    import av

    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=Fraction(fps))
        stream.width, stream.height = draw(0).size
        stream.pix_fmt, stream.bit_rate, stream.gop_size = "yuv420p", 4_000_000, fps
        for number in range(math.ceil(seconds * fps)):
            container.mux(stream.encode(av.VideoFrame.from_image(draw(number / fps))))
        container.mux(stream.encode(None))


def film(folder: Path) -> None:
    """Make `film.mp4`, of 12 seconds."""
    write_film(folder / "film.mp4", road, 12, 5)


def coco(folder: Path) -> None:
    """Make `images` and `instances.json`: 5 objects, of which one is labeled wrongly and one inaccurately."""
    (folder / "images").mkdir()
    boxes: dict[int, list[tuple[int, tuple[int, int, int, int]]]] = {
        1: [(1, (50, 60, 200, 210)), (2, (300, 100, 500, 300))],
        2: [(1, (100, 100, 300, 300)), (1, (400, 100, 500, 200))],
        3: [(2, (200, 120, 440, 360))],
    }
    colors = {1: RED, 2: BLUE}
    annotations: list[dict[str, Any]] = []
    for number, objects in boxes.items():
        image = Image.new("RGB", (640, 480), WHITE)
        for category, (left, top, right, bottom) in objects:
            ImageDraw.Draw(image).rectangle((left, top, right - 1, bottom - 1), fill=colors[category])
            bbox = [left, top, right - left, bottom - top]
            if number == 3:
                bbox[0] += 60  # IoU 0.6 with what is drawn
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": category, "iscrowd": 0}
            annotations.append({**entry, "bbox": bbox, "area": bbox[2] * bbox[3]})
        image.save(folder / "images" / f"{number}.png")
    annotations[2] |= {"bbox": [20, 380, 60, 60], "area": 3600}  # nothing is drawn there
    images = [{"id": number, "file_name": f"{number}.png", "width": 640, "height": 480} for number in boxes]
    categories = [{"id": 1, "name": "red box"}, {"id": 2, "name": "blue box"}]
    truth = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(truth))


def nothing(folder: Path) -> None:
    """Make no inputs."""


SAMPLES: dict[str, Callable[[Path], None]] = {
    "product-catalogue": products,
    "alt-text": site,
    "blur-faces": photos,
    "camera-alarm": film,
    "contact-sheet": film,
    "coco-eval": coco,
}
"""The inputs of each page in docs/recipes, made in a folder."""
