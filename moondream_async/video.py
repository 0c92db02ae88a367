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
import re
import time
from collections.abc import AsyncIterable, AsyncIterator, Generator, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar, cast

import anyio

from ._concurrency.background_task import BackgroundTask
from ._concurrency.closing import AsyncClosing
from ._concurrency.threads import ThreadIterator
from ._extras import import_extra
from ._images.limits import MAX_PIXELS
from .errors import ConfigurationError, ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

_OPEN_TIMEOUT, _READ_TIMEOUT = 30.0, 60.0  # seconds to open a source, and between two packets
_TOLERANCE = 1e-6  # seconds by which a frame may be early, because timestamps are rounded fractions
_DEFAULT_RATE = 25.0  # frames per second if the video does not state it, as in FFmpeg
_MAX_RATE = 1000  # frames per second; a higher rate is that of a clock, not of the frames
_MAX_REORDERED = 3  # frames whose timestamps may go back or repeat; after more, the clock has restarted
_MAX_BROADCAST_GAP, _MAX_GAP = 10.0, 30 * 3600.0  # seconds; a longer gap means another clock, as in FFmpeg
_PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+[:,]")  # `rtsp://`, `concat:`, `subfile,`; drives have one letter


class Frame(NamedTuple):
    """A frame of a video. As a tuple it is an item of `map`, with the timestamp as its id.

    Attributes:
        timestamp: Seconds from the start of the video.
        image: The frame as an upright Pillow image of mode RGB.
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
        started_at, due = time.monotonic(), self._start
        for timestamp, picture in _decode(self._source, self._start):
            if self._end is not None and timestamp >= self._end:
                return
            if timestamp < due - _TOLERANCE:
                continue
            if self._fps is not None:
                due += (math.floor((timestamp - due) * self._fps + _TOLERANCE) + 1) / self._fps
            if self._realtime:
                time.sleep(max(0.0, started_at + timestamp - self._start - time.monotonic()))
            yield Frame(timestamp, _convert(self._source, picture))

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
    _import_av()
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


class _Clock:
    """Converts the timestamps of a video's frames, if it has any, to seconds that never decrease.

    Args:
        rate: Frames per second, for frames without a timestamp.
        origin: The timestamp at which the video starts; None if the video does not state it.
        max_gap: Maximum seconds between frames of the same clock.
    """

    def __init__(self, rate: float, origin: float | None, max_gap: float) -> None:
        self._step = 1 / rate
        self._origin = origin
        self._max_gap = max_gap
        self._last: float | None = None
        self._late = 0  # consecutive frames whose timestamp was not after the last one

    def convert(self, timestamp: float | None) -> float:
        """Return the time of the next frame, in seconds from the start."""
        if self._last is None:
            now = self._first(timestamp)
        elif timestamp is None:
            now = self._last + self._step
        else:
            now = self._next(timestamp, self._last)
        self._last = now
        return now

    def _first(self, timestamp: float | None) -> float:
        if timestamp is None:
            return 0.0
        if self._origin is None or not 0 <= timestamp - self._origin <= self._max_gap:
            self._origin = timestamp
        return timestamp - self._origin

    def _next(self, timestamp: float, last: float) -> float:
        now = None if self._origin is None else timestamp - self._origin
        self._late = 0 if now is not None and now > last else self._late + 1
        if now is None or self._is_other_clock(now, last):
            now = last + self._step
            self._origin = timestamp - now
        return max(now, last)

    def _is_other_clock(self, now: float, last: float) -> bool:
        is_restarted = last - now > _MAX_REORDERED * self._step or self._late > _MAX_REORDERED
        return is_restarted or now - last > self._max_gap


def _decode(source: str | Path, start: float) -> Iterator[tuple[float, Any]]:
    """Yield times and pictures, from a key frame before `start`."""
    av = _import_av()
    try:
        yield from _decode_from(av, source, start)
    except ImageError:
        raise
    except av.error.ProtocolNotFoundError:
        problem = "there is no such file, and FFmpeg knows no such protocol"
    except (av.error.FFmpegError, OSError, ValueError) as exc:
        problem = str(exc)
    else:
        return
    raise ImageError(f"{str(source)!r} cannot be read as a video: {problem}.")


def _decode_from(av: Any, source: str | Path, start: float) -> Iterator[tuple[float, Any]]:
    if start:
        pictures = _open_at(av, source, start)
        first = next(pictures, None)
        # In some containers, seeking ends at a key frame after `start`, or fails.
        if first is not None and first[0] <= start:
            yield first
            yield from pictures
            return
        pictures.close()
    is_empty = True
    for timestamp, picture in _open_at(av, source, 0.0):
        is_empty = False
        yield timestamp, picture
    if is_empty:
        raise ImageError(f"{str(source)!r} has no frames that can be decoded.")


def _open_at(av: Any, source: str | Path, start: float) -> Generator[tuple[float, Any]]:
    """Yield times and pictures from a key frame near `start`; none if seeking there fails."""
    with ExitStack() as stack:
        file = _ffmpeg_source(source, stack)
        container = stack.enter_context(av.open(file, timeout=(_OPEN_TIMEOUT, _READ_TIMEOUT)))
        stream = next(iter(container.streams.video), None)
        if stream is None:
            raise ImageError(f"{str(source)!r} has no pictures in it.")
        if stream.codec_context is None:
            raise ImageError(f"{str(source)!r} uses a video codec that the installed FFmpeg cannot decode.")
        stream.thread_type = "AUTO"
        flags = av.format.Flags
        may_restart = bool(container.format.flags & flags.ts_discont.value)
        # Formats without timestamps, or with repeated ones, are read from the start: seeking would miss the position.
        seeks = bool(start) and not may_restart and not container.format.flags & flags.no_timestamps.value
        if seeks and not _seek(av, container, stream, start):
            return
        origin = None if stream.start_time is None else float(stream.start_time * stream.time_base)
        max_gap = math.inf if seeks else _MAX_BROADCAST_GAP if may_restart else _MAX_GAP
        clock = _Clock(_frame_rate(stream), origin, max_gap)
        for packet in container.demux(stream):
            for picture in _decode_packet(packet, av):
                if seeks and picture.time is None:
                    return
                yield clock.convert(picture.time), picture


def _ffmpeg_source(source: str | Path, stack: ExitStack) -> Any:
    """Return a source that FFmpeg opens without mistaking a file name for a protocol."""
    name = str(source)
    is_file = isinstance(source, Path) or os.path.lexists(name) or not _PROTOCOL.match(name)
    if not is_file:
        return name
    try:
        name.encode()
    except UnicodeEncodeError:  # FFmpeg only accepts names in UTF-8
        return stack.enter_context(open(name, "rb"))  # noqa: PTH123
    return f"file:{name}" if ":" in name or "," in name else name


def _seek(av: Any, container: Any, stream: Any, start: float) -> bool:
    """Seek to the key frame before `start`, and return whether that succeeded."""
    try:
        container.seek(int(start / stream.time_base) + (stream.start_time or 0), stream=stream)
    except (av.error.FFmpegError, OverflowError):
        return False
    return True


def _frame_rate(stream: Any) -> float:
    """Return the frames per second that the video states, or the default."""
    rates = (stream.guessed_rate, stream.average_rate, stream.base_rate)
    return next((float(rate) for rate in rates if rate and 0 < rate <= _MAX_RATE), _DEFAULT_RATE)


def _decode_packet(packet: Any, av: Any) -> list[Any]:
    try:
        pictures: list[Any] = packet.decode()
    except av.error.InvalidDataError:  # a damaged packet; the video continues after it
        return []
    for picture in pictures:
        if picture.width * picture.height > MAX_PIXELS:
            raise ImageError(
                f"A frame has {picture.width:,} x {picture.height:,} pixels; at most {MAX_PIXELS:,} are supported."
            )
    return pictures


def _convert(source: str | Path, picture: Any) -> Image:
    try:
        return _to_upright_image(picture)
    except (_import_av().error.FFmpegError, OSError, ValueError) as exc:
        problem = str(exc)
    raise ImageError(f"A frame of {str(source)!r} cannot be converted: {problem}.")


def _to_upright_image(picture: Any) -> Image:
    # FFmpeg and Pillow both count rotations counterclockwise.
    image: Image = picture.to_image()
    return image.rotate(picture.rotation, expand=True) if picture.rotation else image


def _import_av() -> Any:
    return import_extra("av", "video", "Video")
