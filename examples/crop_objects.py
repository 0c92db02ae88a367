"""Cut every instance of an object out of an image: `python crop_objects.py photo.jpg face`."""

import argparse
from pathlib import Path

from moondream_async import Client


def main(photo: Path, label: str) -> None:
    with Client() as client:
        found = client.detect(photo, label)
    for number, crop in enumerate(found.crops(photo, margin=0.1)):
        crop.save(f"{photo.stem}-{label}-{number}.png")
        print(f"{photo.stem}-{label}-{number}.png: {crop.width} x {crop.height}")
    print(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photo", type=Path)
    parser.add_argument("label")
    main(**vars(parser.parse_args()))
