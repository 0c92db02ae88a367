"""Run scripts in processes forked from one that has imported the package, which saves the imports."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FORKS: Any = multiprocessing.get_context("forkserver") if os.name == "posix" else None
IMPORTED = [
    "moondream_async._client.async_client",
    "moondream_async._batches.resource",
    "moondream_async._batches.multipart_upload",
    "moondream_async._images.encoder",
    "moondream_async._http.client",
    "anyio._backends._asyncio",
    "httpx",
]


@contextmanager
def started(command: list[str], *, seconds: float = 60, **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a command, and kill it at the end of the block or after a time, so that it never blocks the tests."""
    with subprocess.Popen(command, **options) as process:
        timer = threading.Timer(seconds, process.kill)
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            process.kill()


async def run_script(
    script: str, args: list[str], folder: Path, *, kill_when: Callable[[], bool] | None = None
) -> tuple[int, str]:
    """Run a script in a folder, with all warnings as errors; return its exit code and what it wrote to stderr.

    The script is killed as soon as `kill_when` returns True.
    """
    errors, child_end = _FORKS.Pipe(duplex=False)
    _FORKS.set_forkserver_preload(IMPORTED)  # only the first call has an effect
    process = _FORKS.Process(target=_run, args=(script, args, folder, child_end))
    process.start()
    child_end.close()
    try:
        async with asyncio.timeout(120):
            while process.exitcode is None:
                if kill_when is not None and kill_when():
                    process.kill()
                    kill_when = None
                await asyncio.sleep(0.002)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.join()
    with errors, open(errors.fileno(), encoding="utf-8", closefd=False) as file:
        return process.exitcode, file.read()


def _run(script: str, args: list[str], folder: Path, errors: Any) -> None:
    warnings.simplefilter("error")
    os.chdir(folder)
    os.dup2(errors.fileno(), 2)
    errors.close()
    sys.argv = ["script", *args]
    exec(compile(script, "script", "exec"), {"__name__": "__main__"})
