"""Read frames of video files and live cameras, upright and with timestamps, as items for `map`.

`frames` yields all frames, or a number per second; `latest` keeps only the newest of a live source. Needs the extra
`video`.

```python
from moondream_async import Client
from moondream_async.video import frames

with Client() as client:
    for outcome in client.map("detect", frames("film.mp4", fps=1), object="person", ordered=True):
        print(f"{outcome.id:.1f} s", len(outcome.unwrap().objects))
```
"""

from __future__ import annotations

import math
import numbers
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Generic, NamedTuple, Self, TypeVar, cast

import anyio

from ._concurrency.background_task import BackgroundTask
from ._concurrency.closing import AsyncClosing
from ._concurrency.threads import ThreadIterator
from ._video.decoding import decode, import_av
from ._video.schedule import Schedule
from .errors import ConfigurationError

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")


class Frame(NamedTuple):
    """A frame of a video. As a tuple it is an item of `map`, with the timestamp as its id.

    Attributes:
        timestamp: Seconds from the start of the video.
        image: The frame as an upright Pillow image of mode RGB. It is converted on first use, which raises
            `ImageError` if that fails; the skills convert it at the size that they send.
    """

    timestamp: float
    image: Image


class Frames:
    """The frames of a video. Returned by `frames`.

    Iterate with `for`, or with `async for` to decode in a thread. Every iteration starts at the beginning.
    """

    def __init__(
        self, source: str | Path, fps: float | None, start: float, end: float | None, *, realtime: bool
    ) -> None:
        self._source, self._fps, self._start, self._end = source, fps, start, end
        self._realtime = realtime

    def __iter__(self) -> Iterator[Frame]:
        """Decode in the calling thread.

        Raises:
            ImageError: The video cannot be opened, or has no frames.
        """
        from ._video.pictures import to_image  # imports Pillow

        started_at, schedule = time.monotonic(), Schedule(self._fps, self._start)
        for timestamp, picture in decode(self._source, schedule):
            if self._end is not None and timestamp >= self._end:
                return
            if not schedule.takes(timestamp):
                continue
            if self._realtime:
                time.sleep(max(0.0, started_at + timestamp - self._start - time.monotonic()))
            yield Frame(timestamp, to_image(self._source, picture))

    async def __aiter__(self) -> AsyncIterator[Frame]:
        iterator = ThreadIterator(self)
        try:
            async for frame in iterator:
                yield frame
        finally:
            iterator.close()


def frames(
    source: str | os.PathLike[str],
    *,
    fps: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    realtime: bool = False,
) -> Frames:
    """Read the frames of a video.

    Timestamps continue to increase if those in the video restart or jump (joined files, restarted cameras). Frames
    without a timestamp get one from the frame rate.

    Args:
        source: A path, or anything else that FFmpeg opens: `rtsp://...`, `http://...`, a camera such as `/dev/video0`.
            A `Path`, or the name of an existing file, is always opened as a file, even if it contains colons. Unlike
            image URLs, sources are not checked: do not pass sources from untrusted users.
        fps: Maximum frames per second to yield; None for all. Default None.
        start: Seconds into the video at which to start. Default 0.
        end: Seconds into the video before which to stop; None for its end. Default None.
        realtime: Whether to yield a file's frames at its playback speed, like a camera. Default False: as fast as they
            can be decoded.

    Raises:
        ConfigurationError: An argument is invalid, or the extra `video` is not installed.
        ImageError: While iterating: the video cannot be opened, or has no frames.
    """
    import_av()
    if not isinstance(source, (str, os.PathLike)):
        raise ConfigurationError(f"source must be a path or URL, not {type(source).__name__}.")
    for name, value, minimum in (("fps", fps, 1e-6), ("start", start, 0.0), ("end", end, 0.0)):
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if value is not None and not (is_number and minimum <= value < math.inf):
            raise ConfigurationError(f"{name} must be a number of at least {minimum:g}, not {value!r}.")
    name_or_path = source if isinstance(source, str) else Path(os.fsdecode(source))
    rate, last = None if fps is None else float(fps), None if end is None else float(end)
    return Frames(name_or_path, rate, float(start), last, realtime=realtime)


class Latest(AsyncClosing, Generic[T]):
    """An iterator that yields only the newest item of a live source. Returned by `latest`.

    Items that arrive while the consumer is busy are dropped. Use `async with`, or `with` in blocking code, to close the
    source at the end of the block.

    Attributes:
        dropped: Number of items dropped so far.
    """

    def __init__(self, source: Iterable[T] | AsyncIterable[T]) -> None:
        self._source = source
        self.dropped = 0
        self._newest: list[T] = []
        self._done = False
        self._error: Exception | None = None
        self._background: BackgroundTask | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """Return the newest item that was not returned yet, waiting for one if necessary.

        Raises:
            Exception: The source's error, after its last item.
        """
        if self._background is None:
            self._background = BackgroundTask(self._read)
            self._news = anyio.Event()
            self._background.start()
        while not self._newest and not self._done:
            if self._news.is_set():
                self._news = anyio.Event()
            await self._news.wait()
        if self._newest:
            return self._newest.pop()
        error, self._error = self._error, None
        raise error or StopAsyncIteration

    async def aclose(self) -> None:
        """Stop reading and close the source; calling it again has no effect."""
        self._done = True
        if self._background is not None:
            await self._background.stop()

    def close(self) -> None:
        """Request the same as `aclose` without waiting for it; can be called from any thread."""
        self._done = True
        if self._background is not None:
            self._background.cancel_soon()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def _read(self) -> None:
        is_async = isinstance(self._source, AsyncIterable)
        source = (
            cast("AsyncIterable[T]", self._source) if is_async else ThreadIterator(cast("Iterable[T]", self._source))
        )
        try:
            async for item in source:
                self.dropped += len(self._newest)
                self._newest[:] = [item]
                self._news.set()
        except Exception as exc:
            self._error = exc
        finally:
            if isinstance(source, ThreadIterator):
                source.close()
            self._done = True
            self._news.set()


def latest(source: Iterable[T] | AsyncIterable[T]) -> Latest[T]:
    """Skip all but the newest item of a live source, so that `map` with a low concurrency never lags behind.

    ```python
    async with latest(frames("rtsp://camera/stream")) as live:
        async for outcome in client.map("detect", live, object="person", concurrency=1):
            print(outcome.id, outcome.result, live.dropped)
    ```

    Args:
        source: Frames, or any other iterable; a blocking one is read in a thread.

    Raises:
        ConfigurationError: `source` is not iterable.
    """
    if not (isinstance(source, (Iterable, AsyncIterable)) or hasattr(source, "__getitem__")):
        raise ConfigurationError(
            f"source must be frames or another iterable, not {type(cast('object', source)).__name__}."
        )
    return Latest(source)
