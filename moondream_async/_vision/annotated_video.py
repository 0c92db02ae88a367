"""Draw the results of a video's frames on the video."""

from __future__ import annotations

import bisect
import itertools
import math
import numbers
import os
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import attrs

from .._bulk.atomic_files import replace_file
from .._images.options import Color
from .._public import public
from .._video.decoding import decode, import_av
from .._video.pictures import to_image
from .._video.schedule import Schedule
from ..errors import ConfigurationError, MoondreamError
from ..types import DetectResult, PointResult, Result, SegmentResult
from .annotate import check_label, draw_results

_TIME_BASE = Fraction(1, 90_000)  # seconds; of timestamps, as in most video formats
_RATE = 30  # frames per second that the file states; the frames' own timestamps count
_QUALITY = {"libx264": {"crf": "20", "preset": "veryfast"}, "h264": {"crf": "20", "preset": "veryfast"}}
_TIME_IN_ID = re.compile(r".*#t=([0-9.]+)\Z", re.DOTALL)  # the ids of `moondream-async run film.mp4`
_DRAWN = (DetectResult, PointResult, SegmentResult)


@public("vision")
def annotate_video(
    film: str | os.PathLike[str],
    results: Iterable[Any] | Mapping[float, Result],
    out: str | os.PathLike[str],
    *,
    label: str | None = None,
    font: str | None = None,
    hold: float = 1.0,
) -> int:
    """Draw results on the frames of a video, and write them as a new video with the same timestamps and sound.

    Each frame shows the result of the last frame that was asked about. Labels keep their colors over the whole video.
    Needs the extra `video`, and for segments the extra `vision`.

    ```python
    with Client() as client:
        found = client.map("detect", frames("film.mp4", fps=5), object="car")
        annotate_video("film.mp4", found, "annotated.mp4")
    ```

    Args:
        film: The video, as in `video.frames`.
        results: The outcomes of `map` or of `bulk.read_results`, whose ids are timestamps (failed ones are left out);
            or pairs of a timestamp in seconds and a result; or a dict of them. In any order.
        out: The file to write; its ending chooses the format, such as `.mp4`, `.mkv` or `.webm`. A file that exists is
            replaced when the video is complete.
        label: As in `annotate`.
        font: As in `annotate`.
        hold: Seconds after which a result is not shown any more if no other follows. Default 1.

    Returns:
        The number of frames written.

    Raises:
        ImageError: The video cannot be opened, or has no frames.
        ConfigurationError: `out` cannot be written or is the same file, a result has nothing to draw, or an extra is
            missing.
    """
    av = import_av()
    check_label(label)
    if isinstance(hold, bool) or not isinstance(hold, numbers.Real) or not hold > 0:
        raise ConfigurationError(f"hold must be a number of seconds above 0, not {hold!r}.")
    timeline = _Timeline.of(results, float(hold))
    source = film if isinstance(film, str) else Path(os.fsdecode(film))
    target = Path(os.fsdecode(out))
    if target.exists() and os.path.exists(source) and target.samefile(source):  # noqa: PTH110 - the source may be a URL
        raise ConfigurationError(f"out must be another file than the film: {str(target)!r}.")
    try:
        with replace_file(target) as temporary:
            return _write(av, source, temporary, target.suffix, _Painter(timeline, label, font))
    except MoondreamError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as exc:
        problem = getattr(exc, "strerror", None) or str(exc)
    raise ConfigurationError(f"{str(target)!r} cannot be written: {problem}.")


@attrs.frozen(eq=False)
class _Timeline:
    """Results by time.

    Attributes:
        times: Timestamps in seconds, in order.
        results: The result of each.
        hold: Seconds for which a result is shown.
    """

    times: list[float]
    results: list[Result]
    hold: float

    @classmethod
    def of(cls, results: Any, hold: float) -> _Timeline:
        """Read the user's results.

        Raises:
            ConfigurationError: Something in them is no result, or has no timestamp.
        """
        pairs = cast("Mapping[Any, Any]", results).items() if isinstance(results, Mapping) else results
        if not isinstance(pairs, Iterable):
            raise ConfigurationError(
                f"results must be outcomes or pairs of timestamp and result, not {results!r:.100}."
            )
        placed = sorted(_read(cast("Iterable[Any]", pairs)), key=lambda pair: pair[0])
        return cls([time for time, _ in placed], [result for _, result in placed], hold)

    def at(self, time: float) -> Result | None:
        """Return the result to show at a time; None if there is none."""
        index = bisect.bisect_right(self.times, time + float(_TIME_BASE)) - 1
        if index < 0 or time - self.times[index] > self.hold:
            return None
        return self.results[index]


def _read(pairs: Iterable[Any]) -> Iterator[tuple[float, Result]]:
    for pair in pairs:
        if hasattr(pair, "ok") and hasattr(pair, "id"):
            if not pair.ok:
                continue
            pair = (pair.id, pair.result)
        if not isinstance(pair, tuple) or len(cast("tuple[Any, ...]", pair)) != 2:
            raise ConfigurationError(f"results must have outcomes or pairs of timestamp and result, not {pair!r:.100}.")
        time, result = cast("tuple[Any, Any]", pair)
        if not isinstance(result, _DRAWN):
            raise ConfigurationError(f"A {type(result).__name__} has nothing to draw.")
        yield _seconds(time), result


def _seconds(time: Any) -> float:
    match = _TIME_IN_ID.match(time) if isinstance(time, str) else None
    try:
        seconds = float(match[1] if match else time)
    except (TypeError, ValueError):
        seconds = math.nan
    if isinstance(time, bool) or not math.isfinite(seconds):
        raise ConfigurationError(f"{time!r:.100} is not a timestamp in seconds.")
    return seconds


@attrs.frozen(eq=False)
class _Painter:
    """Draws on frames."""

    timeline: _Timeline
    label: str | None
    font: str | None
    colors: dict[str | int, Color] = attrs.field(factory=dict[Any, Color])

    def paint(self, source: str | Path, time: float, picture: Any) -> Any:
        """Return the frame as an upright RGB image, with the result that is shown at its time."""
        image = to_image(source, picture)
        image.load()
        result = self.timeline.at(time)
        if result is not None:
            draw_results(image, [result], label=self.label, font=self.font, colors=self.colors)
        return image


def _write(av: Any, source: str | Path, temporary: Path, suffix: str, painter: _Painter) -> int:
    form = _format_of(av, suffix)
    count, last = 0, -1
    with ExitStack() as stack:
        container = stack.enter_context(av.open(str(temporary), "w", format=form))
        codec = container.default_video_codec
        stream: Any = container.add_stream(codec, rate=_RATE, options=_QUALITY.get(codec, {}))
        stream.pix_fmt, stream.time_base = "yuv420p", _TIME_BASE
        pictures = decode(source, Schedule(None, 0.0))
        first = next(pictures)  # raises if the film cannot be read
        sound = stack.enter_context(_Sound.of(av, source, container))
        for time, picture in itertools.chain([first], pictures):
            image = painter.paint(source, time, picture)
            if not count:
                stream.width, stream.height = (side - side % 2 for side in image.size)  # as its colors are halved
            frame = av.VideoFrame.from_image(_fitted(image, (stream.width, stream.height)))
            frame.pts, frame.time_base = max(last + 1, round(time / _TIME_BASE)), _TIME_BASE
            last = frame.pts
            container.mux(stream.encode(frame))
            sound.copy_until(time)
            count += 1
        container.mux(stream.encode(None))
        sound.copy_until(math.inf)
    return count


def _fitted(image: Any, size: tuple[int, int]) -> Any:
    """Return an image in the size of the first frame: cropped by a pixel, or resized if the video changes its size."""
    width, height = size
    if image.width - width in (0, 1) and image.height - height in (0, 1):
        return image.crop((0, 0, width, height)) if image.size != size else image
    return image.resize(size)


def _format_of(av: Any, suffix: str) -> str:
    """Return FFmpeg's name of the format with this ending.

    Raises:
        ConfigurationError: There is none, or it holds no video.
    """
    ending = suffix.lower().removeprefix(".")
    names = {"mkv": "matroska", "m4v": "mp4", "ts": "mpegts"}
    name = names.get(ending, ending)
    try:
        known = bool(name) and av.format.ContainerFormat(name, "w").is_output
    except ValueError:
        known = False
    if not known:
        raise ConfigurationError(f"out must end in .mp4, .mov, .mkv or .webm, not {suffix!r}.")
    return name


@attrs.define(eq=False)
class _Sound:
    """Copies the packets of a film's sound."""

    packets: Iterator[Any] = attrs.field(factory=lambda: iter(()))
    stream: Any = None
    container: Any = None
    offset: float = 0.0  # seconds at which the film's pictures start
    _next: Any = None

    @classmethod
    @contextmanager
    def of(cls, av: Any, source: str | Path, container: Any) -> Generator[_Sound]:
        """Open the film again, for its first sound; a sound that the new file cannot hold is left out."""
        with av.open(str(source)) as film:
            audio = next(iter(film.streams.audio), None)
            pictures = film.streams.video[0]
            if audio is None or audio.codec_context.name not in container.supported_codecs:
                yield cls()
                return
            offset = float((pictures.start_time or 0) * pictures.time_base)
            yield cls(film.demux(audio), container.add_stream_from_template(audio), container, offset)

    def copy_until(self, time: float) -> None:
        """Copy the packets up to a time in seconds."""
        while (packet := self._next or next(self.packets, None)) is not None:
            if packet.dts is None:  # the last packet, which is empty
                continue
            if self._next is None:
                shift = round(self.offset / packet.time_base)
                packet.dts, packet.pts = packet.dts - shift, None if packet.pts is None else packet.pts - shift
            if float(packet.dts * packet.time_base) > time:
                self._next = packet
                return
            self._next = None
            packet.stream = self.stream
            self.container.mux(packet)
