"""Draw the pictures of the documentation: a scene, and the sandbox's answers drawn on it. Check them by eye.

`python -m tools.gallery [FOLDER]`; default: docs/pictures.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from benchmarks.scenes import draw
from moondream_async import BoundingBox, Client, DetectResult
from moondream_async._cli.sample_image import sample
from moondream_async.sandbox import Sandbox
from moondream_async.vision import annotate

LABELS = ("red", "blue", "yellow", "brown")


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    scene = sample()
    with Sandbox() as sandbox, Client(base_url=sandbox.base_url) as client:
        boxes = client.detect(scene, LABELS)
        points = client.point(scene, ["black"])
        tree = client.segment(scene, "green")
        tiles = compare_tiles(client)
    small = scene.resize((200, 133), Image.Resampling.LANCZOS)
    pictures = {
        "before": scene,
        "after": annotate(scene, boxes, points, tree, label="tree"),
        "mask": tree.mask(),
        "crop": boxes.objects[0].crop(scene, margin=0.2),
        "small": annotate(small, boxes),
        "large": annotate(scene.resize((4800, 3200)), boxes, tree, label="tree").resize((960, 640)),
        "tiles": tiles,
        "edges": annotate(scene, DetectResult(objects=tuple(boxes_at_edges()))),
    }
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.png", optimize=True)
    (folder / "outline.svg").write_text(tree.to_svg())


def compare_tiles(client: Client) -> Image.Image:
    """Return a scene of 12 MP twice: with what a single call finds in it, and with what is found in tiles."""
    large = draw(4000, 3000, count=150, sides=(40, 400)).image
    found = client.detect(large, "blue"), client.detect(large, "blue", tiles="auto")
    canvas = Image.new("RGB", (1210, 450), "white")
    for number, result in enumerate(found):
        canvas.paste(annotate(large, result).resize((600, 450), Image.Resampling.LANCZOS), (number * 610, 0))
    return canvas


def boxes_at_edges() -> list[BoundingBox]:
    """Return boxes at all corners and edges, whose labels must be moved inside."""
    return [
        BoundingBox(x, y, x + 0.12, y + 0.12, f"a long label at {x:g}, {y:g}")
        for x in (0, 0.44, 0.88)
        for y in (0, 0.44, 0.88)
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures"))
