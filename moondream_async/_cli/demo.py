"""`moondream-async demo`: run all skills on a drawn image, against the sandbox over a real socket."""

from __future__ import annotations

import asyncio
import time

from PIL.Image import Image

from .._client.async_client import AsyncClient
from .._extras import is_installed
from ..sandbox import Sandbox
from ..types import Result, SegmentResult
from ..vision import annotate
from . import formatting, pictures, sample_image
from .arguments import Arguments
from .console import show
from .inline_images import show_inline
from .outlines import draw_outline


def run(arguments: Arguments) -> None:
    """Run the demo and write the annotated image to `--out`."""
    pictures.check_name(arguments.out)
    picture = asyncio.run(_demo())
    pictures.write(picture, arguments.out)
    show(f"Annotated image saved to {arguments.out}.")
    if arguments.show:
        show_inline(picture)


async def _demo() -> Image:
    """Run all skills and print their results; return the annotated image."""
    image = sample_image.sample()
    async with Sandbox() as sandbox, AsyncClient(base_url=sandbox.base_url) as client:
        show(f"Sandbox running on {sandbox.base_url}: a stand-in for Moondream, without a model.")
        show("It computes its answers from the pixels it receives. No key, no network.\n")
        encoded = await client.encode_image(image)
        started = time.perf_counter()
        answer, caption, boxes, points, outline = await asyncio.gather(
            client.query(encoded, "How many yellow shapes are there?", reasoning=True),
            client.caption(encoded, length="short"),
            client.detect(encoded, "objects"),
            client.point(encoded, "red"),
            client.segment(encoded, "green"),
        )
        elapsed = time.perf_counter() - started
        show(f"image     {encoded}")
        show(f"query     How many yellow shapes are there?\n          {answer.answer}")
        show(f"caption   {caption.caption}")
        show(f"detect    objects\n{formatting.text(boxes)}")
        show(f"point     red: {', '.join(formatting.point(p) for p in points.points)}")
        show(f"segment   green: {outline.path[:60]}…")
        show(f"          five concurrent calls took {elapsed * 1000:.0f} ms\n")
        show("stream    ", end="", flush=True)
        async with await client.caption(encoded, stream=True) as stream:
            async for piece in stream:
                show(piece, end="", flush=True)
                await asyncio.sleep(0.03)  # slow enough to see the text arrive
        result = await stream.result()
        tokens = result.metrics.output_tokens if result.metrics else None
        show(f"\n          {tokens} tokens, finish reason {result.finish_reason}, request {result.request_id}\n")
    return _annotated(image, outline, boxes, points)


def _annotated(image: Image, outline: SegmentResult, *others: Result) -> Image:
    if is_installed("vision"):
        return annotate(image, outline, *others)
    return annotate(draw_outline(image, outline), *others)
