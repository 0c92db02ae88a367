"""Cut every instance of an object out of an image: `python examples/crop_objects.py photo.jpg face`."""

from __future__ import annotations

import sys

from PIL import Image, ImageOps

from moondream_async import Client


def main(path: str, label: str) -> None:
    with Client() as client, Image.open(path) as opened:
        picture = ImageOps.exif_transpose(opened)
        for number, box in enumerate(client.detect(path, label).objects):
            edges = (
                int(box.x_min * picture.width),
                int(box.y_min * picture.height),
                int(box.x_max * picture.width),
                int(box.y_max * picture.height),
            )
            picture.crop(edges).save(f"{label}-{number}.png")
            print(f"{label}-{number}.png {edges}")


if __name__ == "__main__":
    main(*sys.argv[1:])
