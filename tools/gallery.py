"""Make the pictures of the documentation. Look at them before you commit them.

`python tools/gallery.py` writes docs/pictures: the sandbox's answers drawn on a scene, what the command prints, and the
playground if there is chromium. `python tools/gallery.py --checks FOLDER` draws hard cases, to check by eye.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import scenes
from moondream_async import BoundingBox, Client, DetectResult
from moondream_async._cli.sample_image import sample
from moondream_async.sandbox import Sandbox
from moondream_async.vision import annotate, redact
from tools.recordings import record

LABELS = ("red", "blue", "yellow", "brown")


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draw(folder)
    record_commands(folder)
    chromium = os.getenv("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        print("playground.png is left as it is: there is no chromium.")
    else:
        photograph_playground(folder / "playground.png", chromium)


def draw(folder: Path) -> None:
    scene = sample()
    with Sandbox() as sandbox, Client(base_url=sandbox.base_url) as client:
        boxes = client.detect(scene, LABELS)
        some = client.detect(scene, ["red", "blue"])
        points = client.point(scene, ["black"])
        tree = client.segment(scene, "green")
        tiles = compare_tiles(client)
    pictures = {
        "before": scene,
        "after": annotate(scene, boxes, points, tree, label="tree"),
        "boxes": annotate(scene, some),
        "outline": annotate(scene, tree, label="green"),
        "mask": tree.mask(),
        "redacted": redact(scene, some, how="pixelate"),
        "tiles": tiles,
    }
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.png", optimize=True)


def compare_tiles(client: Client) -> Image.Image:
    """Return a scene of 12 MP twice: with what a single call finds in it, and with what is found in tiles."""
    large = scenes.draw(4000, 3000, count=150, sides=(40, 400)).image
    found = client.detect(large, "blue"), client.detect(large, "blue", tiles="auto")
    canvas = Image.new("RGB", (1210, 450), "white")
    for number, result in enumerate(found):
        canvas.paste(annotate(large, result).resize((600, 450), Image.Resampling.LANCZOS), (number * 610, 0))
    return canvas


def record_commands(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as work, Sandbox() as sandbox, Sandbox(rate_limit=4) as slow:
        scene = sample()
        scene.save(Path(work, "photo.jpg"), quality=95)
        Path(work, "photos").mkdir()
        for number in range(40):
            scene.crop((30, 110, 390, 520)).save(Path(work, "photos", f"{number:02}.jpg"))
        detect = "moondream-async detect photo.jpg red blue --save found.png"
        run = "moondream-async run caption photos --length short -o captions.jsonl --prices 0.30,1"
        record("moondream-async", folder / "help.svg", folder=work, base_url=sandbox.base_url, slower=0)
        record(detect, folder / "detect.svg", folder=work, base_url=sandbox.base_url, slower=0)
        record("moondream-async demo", folder / "demo.svg", folder=work, base_url=sandbox.base_url, slower=4)
        record(run, folder / "run.svg", folder=work, base_url=slow.base_url)


def photograph_playground(file: Path, chromium: str) -> None:
    from playwright.sync_api import expect, sync_playwright

    from moondream_async import AsyncClient
    from moondream_async._playground.app import build
    from tests.support.servers import running_in_thread

    with tempfile.TemporaryDirectory() as work, Sandbox() as sandbox, sync_playwright() as playwright:
        picture = Path(work, "sample.png")
        sample().save(picture)
        app = build(AsyncClient(base_url=sandbox.base_url), sample=picture.read_bytes(), notice="a stand-in")
        with running_in_thread(app) as url:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1200, "height": 760})
            page.goto(url)
            page.get_by_role("button", name="Use the sample picture").click()
            expect(page.get_by_role("status")).to_contain_text("Picture ready")
            page.get_by_role("radio", name="detect").check(force=True)
            page.get_by_label("What to look for").fill("red, blue, yellow")
            page.get_by_role("button", name="Run").click()
            expect(page.get_by_role("status")).to_contain_text("Done")
            page.screenshot(path=file)
            browser.close()


def draw_checks(folder: Path) -> None:
    """Draw small and large pictures, crops, and boxes at the edges."""
    folder.mkdir(parents=True, exist_ok=True)
    scene = sample()
    with Sandbox() as sandbox, Client(base_url=sandbox.base_url) as client:
        boxes = client.detect(scene, LABELS)
        tree = client.segment(scene, "green")
    small = scene.resize((200, 133), Image.Resampling.LANCZOS)
    pictures = {
        "crop": boxes.objects[0].crop(scene, margin=0.2),
        "small": annotate(small, boxes),
        "large": annotate(scene.resize((4800, 3200)), boxes, tree, label="tree").resize((960, 640)),
        "edges": annotate(scene, DetectResult(objects=tuple(boxes_at_edges()))),
    }
    for name, picture in pictures.items():
        picture.save(folder / f"{name}.png", optimize=True)
    (folder / "outline.svg").write_text(tree.to_svg())


def boxes_at_edges() -> list[BoundingBox]:
    """Return boxes at all corners and edges, whose labels must be moved inside."""
    return [
        BoundingBox(x, y, x + 0.12, y + 0.12, f"a long label at {x:g}, {y:g}")
        for x in (0, 0.44, 0.88)
        for y in (0, 0.44, 0.88)
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--checks"]:
        draw_checks(Path(sys.argv[2]))
    else:
        main(Path(__file__).resolve().parent.parent / "docs" / "pictures")
