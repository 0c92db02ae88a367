"""The image of the demo."""

from __future__ import annotations

from PIL import Image, ImageDraw

_SIZE = (960, 640)


def sample() -> Image.Image:
    """Draw a small scene in flat colors: a sun, a house, a tree, a car and a ball."""
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
