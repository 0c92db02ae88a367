"""Sync streams and `map`, and the base class of the sync clients."""

from __future__ import annotations

import os
import queue
import warnings
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar, cast

from .._client.streams import AsyncChatStream, AsyncSegmentStream, AsyncStream, AsyncTextStream, ReturnsItself
from .._concurrency.closing import Closing
from .._concurrency.forks import no_fork
from .._pickling import Picklable, Recipe
from .._public import public
from ..errors import ConfigurationError, MoondreamError, StreamInterruptedError
from ..types import ChatDelta, ChatResult, SegmentResult, SegmentUpdate

if TYPE_CHECKING:
    from .._bulk.map import AsyncMap
    from .._bulk.outcomes import Outcome
    from .portal import Portal

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Piece = TypeVar("Piece")
R = TypeVar("R")

_FORKED_STREAM = "A stream cannot be used after a fork; it continues in the parent process only."
_FORK_CHECK_INTERVAL = 1.0  # seconds between checks for a fork; in a forked child, nothing arrives
_CANCEL_TIMEOUT = 1.0  # seconds that an interrupted stream may take to end
_MAX_BUFFERED = 256  # pieces that wait for the consumer before reading pauses


class _StreamReader(Generic[Piece, R]):
    """Reads a stream in the background loop, and queues its pieces for the consumer's thread.

    Per piece, a queue costs a tenth of a call into the loop.
    """

    def __init__(self, stream: AsyncStream[Piece, R]) -> None:
        self.result: R | None = None
        self.pieces: queue.SimpleQueue[Piece | MoondreamError | None] = queue.SimpleQueue()
        self.paused = False
        self._stream = stream
        self._resume: Any = None

    async def run(self) -> None:
        import anyio

        end: MoondreamError | None = StreamInterruptedError("The client was closed while the stream was open.")
        try:
            async for piece in self._stream:
                self.pieces.put(piece)
                if self.pieces.qsize() >= _MAX_BUFFERED:
                    self._resume = anyio.Event()
                    self.paused = True
                    # The consumer may have emptied the queue before it could see the pause.
                    if self.pieces.qsize() > _MAX_BUFFERED // 2:
                        await self._resume.wait()
                    self.paused = False
            self.result = await self._stream.result()
            end = None
        except MoondreamError as exc:
            end = exc.with_traceback(None)
        finally:
            with anyio.CancelScope(shield=True):
                await self._stream.aclose()
            self.pieces.put(end)

    def resume(self) -> None:
        """Resume reading. Called in the loop; does no harm if it is called late or twice."""
        self._resume.set()


class SyncStream(Closing, Generic[Piece, R]):
    """Base class of the sync streams. Iterate it once, with `for`, from one thread at a time.

    Use `with` to close it when the block exits. A stream that is iterated to its end needs no closing; a
    `ResourceWarning` is issued if one is dropped before its end.
    """

    def __init__(self, portal: Portal, stream: AsyncStream[Piece, R]) -> None:
        self._portal = portal
        self._reader = _StreamReader(stream)
        self._ended = True
        self._pid = os.getpid()
        self._closed_early = False
        self._error: MoondreamError | None = None
        self._pieces: list[Piece] = []
        try:
            self._task = portal.start(self._reader.run)
        except BaseException:  # such as Ctrl-C: nobody will read the stream
            with suppress(MoondreamError):
                portal.start(stream.aclose)
            raise
        self._ended = False

    @property
    def text(self) -> str:
        """The text received so far; of a segment stream, the path."""
        return self._join(self._pieces)

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        """Return the next piece.

        Raises:
            StreamInterruptedError: The stream ended before its final event; `.partial` holds what was received.
            APITimeoutError: Nothing was received for `Timeouts.idle`, or `Timeouts.total` expired; `.text` holds the
                text received so far.
        """
        if self._error is not None:
            raise self._error.with_traceback(None)
        if self._pid != os.getpid():
            raise ConfigurationError(_FORKED_STREAM)
        if self._ended:
            raise StopIteration
        try:
            piece = self._next_piece()
        except BaseException:  # such as Ctrl-C: stop the stream, too
            self.close()
            raise
        if piece is None:
            self._ended = True
            raise StopIteration
        if isinstance(piece, MoondreamError):
            self._ended, self._error = True, piece
            raise piece
        if self._reader.paused and self._reader.pieces.qsize() <= _MAX_BUFFERED // 2:
            self._portal.call_soon(self._reader.resume)
        self._pieces.append(piece)
        return piece

    def _next_piece(self) -> Piece | MoondreamError | None:
        while True:
            try:
                return self._reader.pieces.get(timeout=_FORK_CHECK_INTERVAL)
            except queue.Empty:
                if self._pid != os.getpid():
                    raise ConfigurationError(_FORKED_STREAM) from None

    def result(self) -> R:
        """Read the stream to its end and return the typed result with the whole text, metrics and request id.

        Raises:
            StreamInterruptedError: The connection was lost, or the stream was closed before its end.
            APITimeoutError: As in iteration.
        """
        for _ in self:
            pass
        if self._closed_early:
            raise StreamInterruptedError("The stream was closed before its end.", partial=self._partial(self._pieces))
        return cast("R", self._reader.result)

    def close(self) -> None:
        """Stop the stream and release its connection. Safe to call at any time and more than once."""
        if not self._ended:
            self._ended = self._closed_early = True
        if self._pid == os.getpid():
            self._task.cancel()
            self._task.wait(_CANCEL_TIMEOUT)

    def __del__(self) -> None:
        if getattr(self, "_ended", True) or self._pid != os.getpid():
            return
        self._task.cancel()
        warnings.warn(
            f"{type(self).__name__} was dropped before its end; use `with`, or call close().",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )

    @staticmethod
    def _join(pieces: list[Piece]) -> str:
        raise NotImplementedError

    @staticmethod
    def _partial(pieces: list[Piece]) -> str | SegmentResult:
        raise NotImplementedError


@public()
class TextStream(ReturnsItself, SyncStream[str, R]):
    """A stream of the text of `query` or `caption`, piece by piece.

    ```python
    with client.caption("photo.jpg", stream=True) as stream:
        for piece in stream:
            print(piece, end="", flush=True)
    result = stream.result()  # CaptionResult
    ```

    `s["answer"]`, `s["caption"]`, `s["chunk"]`, `s.answer` and `s.caption` return the stream itself, so that code for
    the official client's dicts of generators runs unchanged.
    """

    @staticmethod
    def _join(pieces: list[str]) -> str:
        return "".join(pieces)

    _partial = _join


@public()
class SegmentStream(SyncStream[SegmentUpdate, SegmentResult]):
    """A stream of `segment` updates: the box, chunks of the coarse path, then the refined path and box.

    Each update can be read like a dict: `"bbox" in u`, `u.get("completed")`, `u["chunk"]`, `u["path"]`.
    """

    @staticmethod
    def _join(pieces: list[SegmentUpdate]) -> str:
        if pieces and pieces[-1].path is not None:
            return pieces[-1].path
        return "".join(update.chunk or "" for update in pieces)

    @staticmethod
    def _partial(pieces: list[SegmentUpdate]) -> SegmentResult:
        boxes = [update.bbox for update in pieces if update.bbox is not None]
        return SegmentResult(path=SegmentStream._join(pieces), bbox=boxes[-1] if boxes else None)


@public()
class ChatStream(SyncStream[ChatDelta, ChatResult]):
    """A stream of a chat answer: pieces of `.reasoning`, then of `.content`.

    `s["message"]` iterates over the pieces of the content only, like the official client's stream.
    """

    def __getitem__(self, name: str) -> Iterator[str]:
        if name != "message":
            raise KeyError(name)
        return (delta.content for delta in self if delta.content)

    @staticmethod
    def _join(pieces: list[ChatDelta]) -> str:
        return "".join(delta.content or "" for delta in pieces)

    _partial = _join


@public()
class Map(Closing, Generic[R]):
    """An iterator over outcomes: `for outcome in client.map("caption", paths)`.

    Work starts with the first iteration. Closing the iterator cancels in-flight items. Use `with` to be sure that they
    have stopped when the block exits.
    """

    def __init__(self, portal: Portal, run: AsyncMap[R]) -> None:
        self._portal = portal
        self._run = run
        self._pid: int | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Outcome[R]:
        """Return the next outcome.

        Raises:
            MoondreamError: The failure that stopped the run (`max_failures`, `stop_on_auth_error`,
                `max_connection_failures`), raised after all other outcomes. Errors from the items' own iterator are
                raised here, too.
        """
        if self._pid is None:
            self._pid = os.getpid()
        self._check_process()
        outcome = self._portal.call(anext, self._run, None)
        if outcome is None:
            raise StopIteration
        return outcome

    def finish(self) -> None:
        """Stop taking new items; in-flight items complete, and their outcomes are still returned."""
        self._check_process()
        self._portal.call_soon(self._run.finish)

    def close(self) -> None:
        """Cancel in-flight items. Safe to call more than once."""
        if self._pid in (None, os.getpid()):
            self._portal.call(self._run.aclose)

    def _check_process(self) -> None:
        if self._pid not in (None, os.getpid()):
            raise ConfigurationError("A run cannot be used after a fork; it continues in the parent process only.")


class AsyncPieces(Protocol[T_co]):
    """An async iterator that can be closed, such as an async generator."""

    def __anext__(self) -> Awaitable[T_co]:
        """Return the next piece."""
        ...

    def aclose(self) -> Awaitable[None]:
        """Stop the iterator."""
        ...


def iterate(portal: Portal, pieces: AsyncPieces[T]) -> Generator[T]:
    """Yield the pieces of an async iterator; close it when the loop over them ends."""

    async def fetch_next() -> tuple[T] | None:
        try:
            return (await pieces.__anext__(),)
        except StopAsyncIteration:
            return None

    pid = os.getpid()
    try:
        while (piece := portal.call(fetch_next)) is not None:
            yield piece[0]
            if os.getpid() != pid:
                raise ConfigurationError(
                    "An iterator cannot be used after a fork; it continues in the parent process only."
                )
    finally:
        if os.getpid() == pid:
            with suppress(ConfigurationError, RuntimeError):  # the client was closed
                portal.call(pieces.aclose)


class Facade(Picklable):
    """Base class of the generated sync clients: runs async methods through the portal."""

    _portal: Portal

    def _recipe(self) -> Recipe:
        inner: Any = getattr(self, "_async", None)
        if not isinstance(inner, Picklable):
            raise ConfigurationError(f"{type(self).__name__} cannot be pickled: pickle its client.")
        return inner._recipe()

    def _open_portal(self) -> None:
        with no_fork():
            from .portal import Portal

        self._portal = Portal()

    def _wrap(self, answer: Any) -> Any:
        """Return the sync stream of an async one; any other answer unchanged."""
        kind = next((kind for kind in _STREAMS if isinstance(answer, kind)), None)
        return answer if kind is None else _STREAMS[kind](self._portal, answer)


_STREAMS: dict[type, Callable[[Portal, Any], Any]] = {
    AsyncTextStream: TextStream,
    AsyncChatStream: ChatStream,
    AsyncSegmentStream: SegmentStream,
}
