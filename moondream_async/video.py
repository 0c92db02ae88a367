"""Frames of a film or camera, upright, with their times, ready for `map`; and the newest of them only.

Needs the extra `video`.

```python
from moondream_async import Client
from moondream_async.video import frames

with Client() as client:
    for outcome in client.map("detect", frames("film.mp4", fps=1), object="person", ordered=True):
        print(f"{outcome.id:.1f} s", len(outcome.unwrap().objects))
```
"""

from __future__ import annotations

import importlib
import math
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar, cast

import anyio

from .errors import ConfigurationError, ImageError
from .images.prepare import MOST_PIXELS
from .net.background import Background
from .net.threads import Aside

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

_OPEN_WITHIN, _READ_WITHIN = 30.0, 60.0  # seconds to reach a source, and between two packets
_EARLY = 1e-6  # seconds by which a frame may be before its time; times are fractions


class Frame(NamedTuple):
    """A frame; as a tuple an item of `map`, whose id is the time.

    Attributes:
        timestamp: Seconds from the start of the film.
        image: The picture, upright, RGB.
    """

    timestamp: float
    image: Image


class Frames:
    """The frames of a video; iterable with `for` and, decoded in a thread, with `async for`, each time from the start.

    Made by `frames`.
    """

    def __init__(self, source: str, fps: float | None, start: float, end: float | None, *, realtime: bool) -> None:
        self._source, self._fps, self._start, self._end = source, fps, start, end
        self._realtime = realtime

    def __iter__(self) -> Iterator[Frame]:
        """Decode in the calling thread.

        Raises:
            ImageError: The video cannot be opened, or has no pictures.
        """
        began, due = time.monotonic(), self._start
        for timestamp, picture in _decoded(self._source, self._start):
            if self._end is not None and timestamp >= self._end:
                return
            if timestamp < due - _EARLY:
                continue
            if self._fps is not None:
                due += (math.floor((timestamp - due) * self._fps + _EARLY) + 1) / self._fps
            if self._realtime:
                time.sleep(max(0.0, began + timestamp - self._start - time.monotonic()))
            yield Frame(timestamp, _upright(picture))

    async def __aiter__(self) -> AsyncIterator[Frame]:
        aside = Aside(self)
        try:
            async for frame in aside:
                yield frame
        finally:
            aside.close()


def frames(
    source: str | os.PathLike[str],
    *,
    fps: float | None = None,
    start: float = 0.0,
    end: float | None = None,
    realtime: bool = False,
) -> Frames:
    """The frames of a video.

    Args:
        source: A path, or whatever else FFmpeg opens: `rtsp://...`, `http://...`, a camera such as `/dev/video0`.
            It is opened as it is, without the checks that images by URL go through: not for names from strangers.
        fps: Frames per second to take; None takes all. Default None.
        start: Seconds into the film at which to begin. Default 0.
        end: Seconds into the film before which to end; None for its end. Default None.
        realtime: Whether a film is played at its own speed, as a camera would. Default False: as fast as it decodes.

    Raises:
        ConfigurationError: A value cannot be used, or the extra is missing. While iterating:
            `ImageError`, when the video cannot be opened, or has no pictures.
    """
    _av()
    if not isinstance(source, (str, os.PathLike)):
        raise ConfigurationError(f"source must be a path or URL, not {type(source).__name__}.")
    for name, value, least in (("fps", fps, 1e-6), ("start", start, 0.0), ("end", end, 0.0)):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and not (is_number and least <= value < math.inf):
            raise ConfigurationError(f"{name} must be a number of at least {least:g}, not {value!r}.")
    return Frames(os.fspath(source), fps, start, end, realtime=realtime)


class Latest(Generic[T]):
    """The newest of what a live source gives; what comes while the user is busy is dropped.

    Made by `latest`. `async with`, or in blocking code `with`, makes sure that the source is left when the block is.

    Attributes:
        dropped: How many were.
    """

    def __init__(self, source: Iterable[T] | AsyncIterable[T]) -> None:
        self._source = source
        self.dropped = 0
        self._newest: list[T] = []
        self._done = False
        self._error: Exception | None = None
        self._background: Background | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """The newest that was not given yet; waits for one.

        Raises:
            Exception: What the source raised, after the last was given.
        """
        if self._background is None:
            self._background = Background(self._read)
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
        """Leave the source; safe to call again."""
        self._done = True
        if self._background is not None:
            await self._background.stop()

    def close(self) -> None:
        """The same without waiting, from any thread."""
        self._done = True
        if self._background is not None:
            self._background.cancel_soon()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def _read(self) -> None:
        is_async = isinstance(self._source, AsyncIterable)
        source = cast("AsyncIterable[T]", self._source) if is_async else Aside(cast("Iterable[T]", self._source))
        try:
            async for item in source:
                self.dropped += len(self._newest)
                self._newest[:] = [item]
                self._news.set()
        except Exception as exc:
            self._error = exc
        finally:
            if isinstance(source, Aside):
                source.close()
            self._done = True
            self._news.set()


def latest(source: Iterable[T] | AsyncIterable[T]) -> Latest[T]:
    """Of a live source only the newest, so that what is looked at is never old: for `map` with a small concurrency.

    ```python
    async with latest(frames("rtsp://camera/stream")) as live:
        async for outcome in client.map("detect", live, object="person", concurrency=1):
            print(outcome.id, outcome.result, live.dropped)
    ```

    Args:
        source: Frames, or anything else; a blocking iterable is read in a thread.
    """
    return Latest(source)


def _decoded(source: str, start: float) -> Iterator[tuple[float, Any]]:
    """Times and pictures, from some key frame before `start`."""
    av = _av()
    try:
        if start:
            found = _opened(av, source, start)
            first = next(found, None)
            # Some containers can only be entered at a key frame after what is asked for, or at none.
            if first is not None and first[0] <= start:
                yield first
                yield from found
                return
        yield from _opened(av, source, 0.0)
    except av.error.FFmpegError as exc:
        problem = str(exc)
    else:
        return
    raise ImageError(f"{source!r} cannot be read as a video: {problem}.")


def _opened(av: Any, source: str, start: float) -> Iterator[tuple[float, Any]]:
    with av.open(source, timeout=(_OPEN_WITHIN, _READ_WITHIN)) as container:
        stream = next(iter(container.streams.video), None)
        if stream is None:
            raise ImageError(f"{source!r} has no pictures in it.")
        stream.thread_type = "AUTO"
        first: float | None = None if stream.start_time is None else float(stream.start_time * stream.time_base)
        if start:
            container.seek(int(start / stream.time_base) + (stream.start_time or 0), stream=stream)
        for packet in container.demux(stream):
            for picture in _pictures(packet, av):
                first = picture.time if first is None else first
                yield picture.time - (first or 0.0), picture


def _pictures(packet: Any, av: Any) -> list[Any]:
    try:
        pictures: list[Any] = packet.decode()
    except av.error.InvalidDataError:  # a damaged packet; the film goes on after it
        return []
    for picture in pictures:
        if picture.width * picture.height > MOST_PIXELS:
            raise ImageError(f"A frame has {picture.width:,} x {picture.height:,} pixels; too large.")
    return [picture for picture in pictures if picture.time is not None]


def _upright(picture: Any) -> Image:
    # FFmpeg tells the turn that makes it upright, counter-clockwise, as Pillow counts.
    image: Image = picture.to_image()
    return image.rotate(picture.rotation, expand=True) if picture.rotation else image


def _av() -> Any:
    try:
        return importlib.import_module("av")
    except ImportError:
        raise ConfigurationError("Video needs the extra 'video': pip install 'moondream-async[video]'.") from None
