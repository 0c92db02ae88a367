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
from ._concurrency.threads import ThreadIterator
from ._images.limits import MAX_PIXELS
from .errors import ConfigurationError, ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

_OPEN_WITHIN, _READ_WITHIN = 30.0, 60.0  # seconds to reach a source, and between two packets
_EARLY = 1e-6  # seconds by which a frame may be before its time; times are fractions
_FALLBACK_RATE = 25.0  # frames per second, where the video does not say: FFmpeg's own
_FASTEST = 1000  # frames per second; more is a clock's rate that was taken for the frames'
_REORDERED = 3  # frames by which times may go back, or stand still, before the clock has restarted
_BROADCAST_GAP, _GAP = 10.0, 30 * 3600.0  # seconds that are no gap but another clock; FFmpeg's own limits
_PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+[:,]")  # `rtsp://`, `concat:`, `subfile,`; a drive has one letter


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
            yield Frame(timestamp, _converted(self._source, picture))

    async def __aiter__(self) -> AsyncIterator[Frame]:
        aside = ThreadIterator(self)
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
    """Read the frames of a video.

    Times go on where the video's own start again or jump (joined films, restarted cameras); frames without a time get
    one from the frame rate.

    Args:
        source: A path, or whatever else FFmpeg opens: `rtsp://...`, `http://...`, a camera such as `/dev/video0`.
            A `Path`, and the name of a file that exists, is always a file, colons or not. It is opened as it is,
            without the checks that images by URL go through: not for names from strangers.
        fps: Frames per second to take; None takes all. Default None.
        start: Seconds into the film at which to begin. Default 0.
        end: Seconds into the film before which to end; None for its end. Default None.
        realtime: Whether a film is played at its own speed, as a camera would. Default False: as fast as it decodes.

    Raises:
        ConfigurationError: A value cannot be used, or the extra is missing. While iterating:
            `ImageError`, when the video cannot be opened, or has no frames.
    """
    _av()
    if not isinstance(source, (str, os.PathLike)):
        raise ConfigurationError(f"source must be a path or URL, not {type(source).__name__}.")
    for name, value, least in (("fps", fps, 1e-6), ("start", start, 0.0), ("end", end, 0.0)):
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if value is not None and not (is_number and least <= value < math.inf):
            raise ConfigurationError(f"{name} must be a number of at least {least:g}, not {value!r}.")
    name_or_path = source if isinstance(source, str) else Path(os.fsdecode(source))
    rate, last = None if fps is None else float(fps), None if end is None else float(end)
    return Frames(name_or_path, rate, float(start), last, realtime=realtime)


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
        self._background: BackgroundTask | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """The newest that was not given yet; waits for one.

        Raises:
            Exception: What the source raised, after the last was given.
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
    """Of a live source only the newest, so that what is looked at is never old: for `map` with a small concurrency.

    ```python
    async with latest(frames("rtsp://camera/stream")) as live:
        async for outcome in client.map("detect", live, object="person", concurrency=1):
            print(outcome.id, outcome.result, live.dropped)
    ```

    Args:
        source: Frames, or anything else; a blocking iterable is read in a thread.

    Raises:
        ConfigurationError: It cannot be iterated over.
    """
    if not (isinstance(source, (Iterable, AsyncIterable)) or hasattr(source, "__getitem__")):
        raise ConfigurationError(
            f"source must be frames, or another iterable, not {type(cast('object', source)).__name__}."
        )
    return Latest(source)


class _Clock:
    """Turns the times of a video's frames, as far as it has any, into seconds that only go forward.

    Args:
        rate: Frames per second, for those without a time.
        zero: The time at which the video starts, by its own clock; None if it does not say.
        gap: Seconds without a frame that mean another clock.
    """

    def __init__(self, rate: float, zero: float | None, gap: float) -> None:
        self._step = 1 / rate
        self._zero = zero
        self._gap = gap
        self._last: float | None = None
        self._late = 0  # frames in a row whose time was not after the last

    def read(self, time: float | None) -> float:
        """Return the time of the next frame, in seconds from the start."""
        if self._last is None:
            now = self._first(time)
        elif time is None:
            now = self._last + self._step
        else:
            now = self._next(time, self._last)
        self._last = now
        return now

    def _first(self, time: float | None) -> float:
        if time is None:
            return 0.0
        if self._zero is None or not 0 <= time - self._zero <= self._gap:
            self._zero = time
        return time - self._zero

    def _next(self, time: float, last: float) -> float:
        now = None if self._zero is None else time - self._zero
        self._late = 0 if now is not None and now > last else self._late + 1
        if now is None or self._is_other_clock(now, last):
            now = last + self._step
            self._zero = time - now
        return max(now, last)

    def _is_other_clock(self, now: float, last: float) -> bool:
        return last - now > _REORDERED * self._step or self._late > _REORDERED or now - last > self._gap


def _decoded(source: str | Path, start: float) -> Iterator[tuple[float, Any]]:
    """Times and pictures, from some key frame before `start`."""
    av = _av()
    try:
        yield from _decoded_from(av, source, start)
    except ImageError:
        raise
    except av.error.ProtocolNotFoundError:
        problem = "there is no such file, and FFmpeg knows no such protocol"
    except (av.error.FFmpegError, OSError, ValueError) as exc:
        problem = str(exc)
    else:
        return
    raise ImageError(f"{str(source)!r} cannot be read as a video: {problem}.")


def _decoded_from(av: Any, source: str | Path, start: float) -> Iterator[tuple[float, Any]]:
    if start:
        found = _opened(av, source, start)
        first = next(found, None)
        # Some containers can only be entered at a key frame after what is asked for, or at none.
        if first is not None and first[0] <= start:
            yield first
            yield from found
            return
        found.close()
    is_empty = True
    for timestamp, picture in _opened(av, source, 0.0):
        is_empty = False
        yield timestamp, picture
    if is_empty:
        raise ImageError(f"{str(source)!r} has no frames that can be decoded.")


def _opened(av: Any, source: str | Path, start: float) -> Generator[tuple[float, Any]]:
    """Times and pictures, from a key frame near `start`; nothing, if the video cannot be entered there."""
    with ExitStack() as stack:
        opened = _openable(source, stack)
        container = stack.enter_context(av.open(opened, timeout=(_OPEN_WITHIN, _READ_WITHIN)))
        stream = next(iter(container.streams.video), None)
        if stream is None:
            raise ImageError(f"{str(source)!r} has no pictures in it.")
        if stream.codec_context is None:
            raise ImageError(f"{str(source)!r} has pictures of a kind that FFmpeg cannot decode here.")
        stream.thread_type = "AUTO"
        flags = av.format.Flags
        may_restart = bool(container.format.flags & flags.ts_discont.value)
        # What has no times, or may have the same ones twice, is read from its start: seeking finds another place.
        is_entered = bool(start) and not may_restart and not container.format.flags & flags.no_timestamps.value
        if is_entered and not _seek(av, container, stream, start):
            return
        zero = None if stream.start_time is None else float(stream.start_time * stream.time_base)
        gap = math.inf if is_entered else _BROADCAST_GAP if may_restart else _GAP
        clock = _Clock(_rate(stream), zero, gap)
        for packet in container.demux(stream):
            for picture in _pictures(packet, av):
                if is_entered and picture.time is None:
                    return
                yield clock.read(picture.time), picture


def _openable(source: str | Path, stack: ExitStack) -> Any:
    """Return what FFmpeg opens without taking the name of a file for a protocol."""
    name = str(source)
    is_file = isinstance(source, Path) or os.path.lexists(name) or not _PROTOCOL.match(name)
    if not is_file:
        return name
    try:
        name.encode()
    except UnicodeEncodeError:  # FFmpeg takes names in UTF-8 only
        return stack.enter_context(open(name, "rb"))  # noqa: PTH123
    return f"file:{name}" if ":" in name or "," in name else name


def _seek(av: Any, container: Any, stream: Any, start: float) -> bool:
    """Go to the key frame before `start`; False if the video cannot be entered there."""
    try:
        container.seek(int(start / stream.time_base) + (stream.start_time or 0), stream=stream)
    except (av.error.FFmpegError, OverflowError):
        return False
    return True


def _rate(stream: Any) -> float:
    """Frames per second, as far as the video says."""
    rates = (stream.guessed_rate, stream.average_rate, stream.base_rate)
    return next((float(rate) for rate in rates if rate and 0 < rate <= _FASTEST), _FALLBACK_RATE)


def _pictures(packet: Any, av: Any) -> list[Any]:
    try:
        pictures: list[Any] = packet.decode()
    except av.error.InvalidDataError:  # a damaged packet; the film goes on after it
        return []
    for picture in pictures:
        if picture.width * picture.height > MAX_PIXELS:
            raise ImageError(f"A frame has {picture.width:,} x {picture.height:,} pixels; too large.")
    return pictures


def _converted(source: str | Path, picture: Any) -> Image:
    try:
        return _upright(picture)
    except (_av().error.FFmpegError, OSError, ValueError) as exc:
        problem = str(exc)
    raise ImageError(f"A frame of {str(source)!r} cannot be converted: {problem}.")


def _upright(picture: Any) -> Image:
    # FFmpeg tells the turn that makes it upright, counter-clockwise, as Pillow counts.
    image: Image = picture.to_image()
    return image.rotate(picture.rotation, expand=True) if picture.rotation else image


def _av() -> Any:
    try:
        return importlib.import_module("av")
    except ImportError:
        raise ConfigurationError("Video needs the extra 'video': pip install 'moondream-async[video]'.") from None
