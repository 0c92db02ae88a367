"""`moondream-async demo`: all skills over a real socket, against the sandbox, on a drawn image."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from ..client import AsyncClient
from ..errors import ConfigurationError
from ..sandbox import Sandbox
from ..vision import annotate
from . import output, picture


def run(out: str) -> None:
    """Run the demo and write the annotated picture to `out`."""
    asyncio.run(_demo(Path(out)))


async def _demo(out: Path) -> None:
    image = picture.sample()
    async with Sandbox() as sandbox, AsyncClient(base_url=sandbox.base_url) as client:
        print(f"A sandbox listens on {sandbox.base_url}: a stand-in for Moondream, with no model in it.")
        print("Its answers are computed from the pixels it receives. No key, no network.\n")
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
        print(f"image     {encoded}")
        print(f"query     How many yellow shapes are there?\n          {answer.answer}")
        print(f"caption   {caption.caption}")
        print(f"detect    objects\n{output.text(boxes)}")
        print(f"point     red: {', '.join(output.point(p) for p in points.points)}")
        print(f"segment   green: {outline.path[:60]}…")
        print(f"          five calls at once took {elapsed * 1000:.0f} ms\n")
        print("stream    ", end="", flush=True)
        async with await client.caption(encoded, stream=True) as stream:
            async for piece in stream:
                print(piece, end="", flush=True)
                await asyncio.sleep(0.03)  # so that a person sees it being written
        result = await stream.result()
        tokens = result.metrics.output_tokens if result.metrics else None
        print(f"\n          {tokens} tokens, finish reason {result.finish_reason}, request {result.request_id}\n")
    try:
        annotated = annotate(image, outline, boxes, points)
    except ConfigurationError as exc:  # without the extra `vision`
        print(f"(no outline in the picture: {exc})")
        annotated = annotate(image, boxes, points)
    try:
        annotated.save(out)
    except (OSError, ValueError) as exc:
        problem = str(exc)
    else:
        print(f"The annotated picture is {out}.")
        return
    raise ConfigurationError(f"The picture cannot be written to {out}: {problem}.")
