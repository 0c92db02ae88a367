"""Stop a run on Ctrl-C: the first one finishes what is in flight, the second stops at once."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable

import anyio

from .._bulk.run import Run, count_in_flight
from .._progress.durations import duration
from ..errors import MoondreamError

_SIGNAL_REPEAT = 0.5  # seconds within which a shell may deliver the same Ctrl-C again


async def run_until_signal(run: Run, say: Callable[[str], None]) -> tuple[MoondreamError | None, int | None]:
    """Run until done. Return what stopped the run: an error, a signal, or neither.

    Args:
        run: The run.
        say: Prints a message.
    """
    error: MoondreamError | None = None
    signals: list[tuple[int, float]] = []

    async def listen() -> None:
        if sys.platform == "win32":  # Ctrl-C stops immediately
            return
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as received:
            async for number in received:
                now = time.monotonic()
                if not signals:
                    run.finish()
                    say(_describe_rest(run))
                elif now > signals[-1][1] + _SIGNAL_REPEAT:
                    tasks.cancel_scope.cancel()
                signals.append((number, now))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        try:
            await run.run()
        except MoondreamError as exc:
            error = exc
        tasks.cancel_scope.cancel()
    return error, signals[0][0] if signals else None


def _describe_rest(run: Run) -> str:
    """Say how many items are in flight, and how long they take, at the rate so far."""
    count, rate = count_in_flight(run), run.summary.rate
    time_left = f", about {duration(max(1, count / rate))}" if rate else ""
    return f"Finishing in-flight items: {count} in flight{time_left}; again to stop now."
