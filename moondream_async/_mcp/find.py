"""Search a folder: one skill over its images, in runs that are short enough for a client and continue each other."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import attrs
from mcp.server.mcpserver import Context

from .._bulk.call_budget import CallBudget
from .._bulk.estimates import usage
from .._bulk.outcomes import Outcome
from .._bulk.reading import read_results
from .._bulk.run import Run
from .._client.async_client import AsyncClient
from .._concurrency.background_task import BackgroundTask
from .._concurrency.threads import run_in_thread
from .._images.folders import LazyFile, Place, images_below
from ..errors import ConfigurationError, ImageError
from ..types import DetectResult, Metrics

_INTAKE_SECONDS = 30.0  # after that, no more images are started
_CALL_SECONDS = 15.0  # of one call, retries included, so that the last ones end before a client gives up
_CONCURRENCY = 16
_REPORT_SECONDS = 0.5


def images_by_id(folder: Place) -> dict[str, Place]:
    """Return the images in a folder and below; blocking. Raise `ImageError` if it cannot be read.

    An ID has the time of the file's last change, so that a changed image is examined again.
    """
    if not folder.path.is_dir():
        raise ImageError(f"{str(folder.path)!r} is not a folder.")
    return {_id_of(place.path, folder.path): place for place in images_below(folder)}


def _id_of(path: Path, folder: Path) -> str:
    name = os.fsencode(path.relative_to(folder)).decode("utf-8", "backslashreplace")
    with suppress(OSError):  # reading it will report the error
        return f"{name}@{path.lstat().st_mtime_ns}"
    return name


@attrs.frozen
class Finder:
    """Runs `detect` or `query` over many images, and writes the results to a file."""

    client: AsyncClient
    budget: CallBudget
    skill: str
    arguments: dict[str, Any]

    def file_of(self, folder: Place, output: Path) -> Path:
        """Return the results file, in the folder `output`, of all calls with the same folder, arguments and model."""
        key = [str(folder.path), self.skill, self.arguments, self.client.base_url, self.client.model]
        path = output / f"find-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]}.jsonl"
        if path.is_symlink():
            raise ConfigurationError(f"{str(path)!r} is a link, and is not written to.")
        return path

    async def find(
        self, images: Mapping[str, Place], file: Path, max_images: int, ctx: Context[Any, Any], *, retry_failed: bool
    ) -> tuple[dict[str, Outcome[Any]], Metrics]:
        """Examine images that have not been examined; return the outcomes of all so far, and the tokens of this call.

        Raise `BudgetError` if the budget does not allow a single call.
        """
        before = await run_in_thread(_read, file)
        pending = [key for key in images if key not in before or (retry_failed and not before[key].ok)]
        longest = usage({self.skill: self.arguments}, longest=True)
        count = self.budget.affordable(min(len(pending), max_images), longest)
        if pending and not count:
            raise self.budget.error(longest)
        items = {key: images[key] for key in pending[:count]}
        tokens = await self._examine(items, file, longest, ctx) if items else Metrics(0, 0)
        outcomes = await run_in_thread(_read, file)
        return {key: outcomes[key] for key in images if key in outcomes}, tokens

    async def _examine(
        self, items: Mapping[str, Place], file: Path, longest: Metrics, ctx: Context[Any, Any]
    ) -> Metrics:
        started = 0

        async def lazily() -> AsyncGenerator[tuple[str, LazyFile]]:
            nonlocal started
            for key, place in items.items():
                started += 1
                yield key, LazyFile(place)

        retry = attrs.evolve(self.client._api.settings.retry, deadline=_CALL_SECONDS)  # pyright: ignore[reportPrivateUsage]
        options: dict[str, Any] = {"concurrency": _CONCURRENCY, "retry_failed": True, "arguments": self.arguments}
        run = Run(self.client.with_options(retry=retry), self.skill, lazily(), file, **options)
        watch = BackgroundTask(functools.partial(_watch, run, len(items), ctx))
        with self.budget.reserve(longest, calls=len(items)) as spending:
            watch.start()
            try:
                await run.run()
            finally:
                await watch.stop()
                done = run.summary
                metrics = Metrics(done.input_tokens, done.output_tokens)
                lost = max(0, started - done.succeeded - done.failed) * (self.budget.cost_of(longest) or 0.0)
                spending.settle((self.budget.cost_of(metrics) or 0.0) + lost, calls=started)
        if (count := len(items)) == done.succeeded + done.failed:
            await ctx.report_progress(count, count, f"{count:,} of {count:,} images")
        return metrics


def _read(file: Path) -> dict[str, Outcome[Any]]:
    return {str(outcome.id): outcome for outcome in read_results(file)} if file.exists() else {}


async def _watch(run: Run, total: int, ctx: Context[Any, Any]) -> None:
    """Report the progress of a run, which must always increase, and end it in time."""
    ends, reported = time.monotonic() + _INTAKE_SECONDS, -1
    while True:
        done = run.summary.succeeded + run.summary.failed
        if reported < done < total:  # the end is reported by the caller
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # the client has gone
                await ctx.report_progress(done, total, f"{done:,} of {total:,} images")
            reported = done
        await anyio.sleep(_REPORT_SECONDS)
        if time.monotonic() > ends:
            run.finish()


def describe(outcome: Outcome[Any]) -> dict[str, Any] | None:
    """Return the fields of `FolderImage` for an image; None if nothing was found in it."""
    result = outcome.result
    if not isinstance(result, DetectResult):
        return {"answer": str(result)} if outcome.error is None else {"error": str(outcome.error)}
    size = result.image_size or (0, 0)
    return {"boxes": [list(box.to_pixels(*size)) for box in result.objects]} if result.objects else None
