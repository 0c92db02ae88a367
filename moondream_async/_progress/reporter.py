"""`progress=`: True for a display, or the user's function; and how often it is called."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeAlias, TypeVar

import anyio
import attrs

from .._concurrency.background_task import BackgroundTask
from .._concurrency.callbacks import call_callback
from .._log import log
from ..errors import ConfigurationError
from . import text
from .displays import Display, find_display
from .figures import Progress

T = TypeVar("T")

ProgressOption: TypeAlias = bool | Callable[[Progress], Any] | None
"""True for a display, a function, or False or None for nothing."""

_INTERVAL = 0.2  # seconds between two calls


def check_progress(progress: object) -> None:
    """Check a `progress` argument.

    Raises:
        ConfigurationError: It is neither a boolean nor None nor a function.
    """
    if not (progress is None or isinstance(progress, bool) or callable(progress)):
        raise ConfigurationError(f"progress must be True, False or a function, not {type(progress).__name__}.")


@contextmanager
def displayed(
    progress: bool | Callable[[T], Any] | None, show: Callable[[Display, T], None]
) -> Generator[Callable[[T], Any] | None]:
    """Yield the function to call with progress; None if there is none. A display is open as long as the context.

    Args:
        progress: The user's argument.
        show: Updates a display.

    Raises:
        ConfigurationError: As in `check_progress`.
    """
    check_progress(progress)
    if not isinstance(progress, bool):
        yield progress
    elif progress and (display := find_display()) is not None:
        with display:
            yield partial(show, display)
    else:
        yield None


class Reporter:
    """Calls the user's function, or updates a display, at most five times a second, and once at the end.

    It runs in a task of its own, so that it does not delay the items. An error in the user's function is logged, and
    has no other effect.

    Args:
        progress: The user's argument.
        current: Returns the figures so far.

    Raises:
        ConfigurationError: As in `check_progress`.
    """

    def __init__(self, progress: ProgressOption, current: Callable[[], Progress]) -> None:
        check_progress(progress)
        self._progress = progress
        self._current = current

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Report as long as the context is open."""
        with displayed(self._progress, show_items) as callback:
            if callback is None:
                yield
                return
            task = BackgroundTask(partial(self._report_regularly, callback))
            task.start()
            try:
                yield
            finally:
                await task.stop()
                await _call(callback, self._current())

    async def _report_regularly(self, callback: Callable[[Progress], Any]) -> None:
        previous: Progress | None = None
        while True:
            await anyio.sleep(_INTERVAL)
            now = self._current()
            if previous is None or attrs.evolve(now, elapsed=previous.elapsed) != previous:
                previous = now
                await _call(callback, now)


def show_items(display: Display, now: Progress) -> None:
    """Update a display with the progress of `map` or `run`."""
    display.update(now.done, now.total, text.details(now), narrow=text.details(now, narrow=True))


async def _call(callback: Callable[[Progress], Any], now: Progress) -> None:
    with anyio.CancelScope(shield=True):  # the last call is also made if the run is canceled
        try:
            await call_callback(callback, now)
        except Exception:
            log.exception("The progress function failed; the run continues.")
