"""Make a contact sheet of a film: one frame every few seconds, each with its time and a caption.

    pip install 'moondream-async[video]'
    python contact_sheet.py film.mp4 --every 10

The sheet is written to film-contact-sheet.jpg. A frame whose caption fails is on it, too, with the reason.
"""

import argparse
import textwrap
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from moondream_async import Client
from moondream_async.video import Frame, frames

WIDTH, GAP, TEXT, LINES = 320, 12, 15, 3  # pixels; lines of a caption
CHARACTERS = 42  # of a line


def draw(cells: list[tuple[Image.Image, str]], columns: int) -> Image.Image:
    """Return the sheet: pictures with their texts below, row by row."""
    height = max(picture.height for picture, _ in cells) + GAP // 2 + LINES * (TEXT + 4)
    rows = -(-len(cells) // columns)
    size = columns * (WIDTH + GAP) + GAP, rows * (height + GAP) + GAP
    sheet = Image.new("RGB", size, (250, 250, 250))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    for number, (picture, text) in enumerate(cells):
        left, top = GAP + number % columns * (WIDTH + GAP), GAP + number // columns * (height + GAP)
        sheet.paste(picture, (left + (WIDTH - picture.width) // 2, top))
        lines = textwrap.wrap(text, CHARACTERS, max_lines=LINES, placeholder=" ...")
        pen.multiline_text((left, top + picture.height + GAP // 2), "\n".join(lines), (30, 30, 30), font)
    return sheet


def main(film: Path, out: Path, *, every: float, columns: int) -> None:
    pictures: dict[float, Image.Image] = {}

    def keep_small(shots: Iterator[Frame]) -> Iterator[Frame]:
        for frame in shots:
            small = frame.image.copy()
            small.thumbnail((WIDTH, WIDTH))
            pictures[frame.timestamp] = small
            yield frame

    cells: list[tuple[Image.Image, str]] = []
    with Client() as client:
        shots = keep_small(iter(frames(film, fps=1 / every)))
        for outcome in client.map("caption", shots, length="short", ordered=True, progress=True):
            caption = outcome.result.caption if outcome.ok else f"failed: {outcome.error}"
            minutes, seconds = divmod(round(outcome.id), 60)
            cells.append((pictures[outcome.id], f"{minutes}:{seconds:02} {caption}"))
            print(cells[-1][1])
    draw(cells, columns).save(out)
    print(f"{len(cells)} frames on {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    parser.add_argument("out", type=Path, nargs="?", help="default: FILM-contact-sheet.jpg")
    parser.add_argument("--every", type=float, default=10, metavar="SECONDS", help="default: 10")
    parser.add_argument("--columns", type=int, default=4)
    options = parser.parse_args()
    out = options.out or options.film.with_name(f"{options.film.stem}-contact-sheet.jpg")
    if out.exists() and out.samefile(options.film):
        parser.error("the output is the film itself")
    main(options.film, out, every=options.every, columns=options.columns)
