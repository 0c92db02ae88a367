"""Make a Parquet file of a folder of product photos: for each a caption, and fields of your own.

    pip install 'moondream-async[parquet,structured]'
    python product_catalogue.py photos catalogue.parquet

The first photo shows what the others will cost; you are asked before they are sent. If the program is interrupted, run
the same command again: finished photos are in catalogue.parquet.db, and only the others are paid for.
"""

import argparse
import asyncio
import json
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import attrs
import pyarrow as arrow  # type: ignore[import-untyped]
import pyarrow.parquet as parquet  # type: ignore[import-untyped]

from moondream_async import (
    AnswerError,
    AsyncClient,
    BadRequestError,
    ImageError,
    Prices,
    Stats,
    UnprocessableEntityError,
)

SUFFIXES = {".avif", ".gif", ".heic", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
OF_ONE_PHOTO = (AnswerError, BadRequestError, ImageError, UnprocessableEntityError)  # other errors stop the program


@attrs.frozen
class Product:
    """The fields to ask for."""

    kind: str
    color: str
    background_color: str
    pieces: int


QUESTION = "Which product is on this photo? Describe it by these fields."
TASK = f"{QUESTION} {[field.name for field in attrs.fields(Product)]}"  # other fields are another task


async def describe(client: AsyncClient, photo: Path, store: sqlite3.Connection) -> None:
    try:
        image = await client.encode_image(photo)
        calls = client.caption(image, "short"), client.ask_json(image, QUESTION, Product)
        caption, product = await asyncio.gather(*calls)
    except OF_ONE_PHOTO as exc:
        print(f"{photo}: failed: {exc}", file=sys.stderr)
        return
    row = {"photo": str(photo), "caption": caption.caption, **attrs.asdict(product)}
    with store:  # commits
        store.execute("INSERT OR REPLACE INTO photos VALUES (?, ?, ?)", (TASK, str(photo), json.dumps(row)))


async def describe_all(photos: Sequence[Path], model: str, store: sqlite3.Connection) -> Stats:
    slots = asyncio.Semaphore(32)  # photos in memory
    async with AsyncClient(model=model) as client:

        async def limited(photo: Path) -> None:
            async with slots:
                await describe(client, photo, store)

        await asyncio.gather(*map(limited, photos))
        return client.stats


def describe_first(todo: list[Path], model: str, store: sqlite3.Connection) -> bool:
    """Describe the first photo that works, and take it off the list; ask whether to continue at this price."""
    tokens = 0
    while todo and not tokens:
        stats = asyncio.run(describe_all([todo.pop(0)], model, store))
        tokens = stats.input_tokens + stats.output_tokens
        if tokens and todo:
            prices = Prices.of(model)
            dollars = "at unknown prices" if prices is None else f"about ${prices.cost(stats) * len(todo):.4f}"
            print(f"A photo takes {tokens:,} tokens; {len(todo)} more: {tokens * len(todo):,} tokens, {dollars}.")
            return input("Continue? [y/N] ").strip().lower() == "y"
    return True


def main(folder: Path, out: Path, *, model: str, yes: bool) -> None:
    photos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    with closing(sqlite3.connect(f"{out}.db")) as store:
        store.execute("CREATE TABLE IF NOT EXISTS photos (task, photo, row, PRIMARY KEY (task, photo))")
        finished = {photo for (photo,) in store.execute("SELECT photo FROM photos WHERE task = ?", (TASK,))}
        todo = [photo for photo in photos if str(photo) not in finished]
        print(f"{len(photos)} photos, {len(photos) - len(todo)} of them finished before")
        if not yes and not describe_first(todo, model, store):
            return
        asyncio.run(describe_all(todo, model, store))
        found = store.execute("SELECT row FROM photos WHERE task = ? ORDER BY photo", (TASK,))
        rows = [json.loads(row) for (row,) in found]
    if rows:
        parquet.write_table(arrow.Table.from_pylist(rows), out)  # pyright: ignore - untyped
    print(f"{len(rows)} rows in {out}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="moondream3-preview")
    parser.add_argument("--yes", action="store_true", help="start without the question")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"there is no folder {options.folder}")
    main(**vars(options))
