"""Answers as they are written, for blocking code: the streams of `Client`, and what it stands on."""

from __future__ import annotations

import os
import queue
import threading
import warnings
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, Self, TypeVar, cast

from .._client.streams import AsyncChatStream, AsyncSegmentStream, AsyncStream, AsyncTextStream, ReadsAsItself
from .._concurrency.forks import no_fork
from .._public import public
from ..errors import ConfigurationError, MoondreamError, StreamInterruptedError
from ..types import ChatDelta, ChatResult, SegmentResult, SegmentUpdate

if TYPE_CHECKING:
    from .._bulk.items import Outcome
    from .._bulk.map import AsyncMap
    from .portal import Portal

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Piece = TypeVar("Piece")
R = TypeVar("R")

_FORKED_STREAM = "A stream does not cross a fork; it goes on in the parent process."
_LOOK_AGAIN = 1.0  # seconds after which a reader looks whether it is in a forked child, where nothing will come
_SETTLE = 1.0  # seconds that an interrupted stream may take to wind up
_READ_AHEAD = 256  # pieces that may wait for the consumer before the stream is left alone


class _Pump(Generic[Piece, R]):
    """Carries pieces from the background loop to the consumer's thread.

    A queue costs a tenth of a call into the loop for each piece.
    """

    def __init__(self, stream: AsyncStream[Piece, R]) -> None:
        self.result: R | None = None
        self.pieces: queue.SimpleQueue[Piece | MoondreamError | None] = queue.SimpleQueue()
        self.done = threading.Event()
        self.paused = False
        self._stream = stream
        self._resume: Any = None

    async def run(self) -> None:
        import anyio

        end: MoondreamError | None = StreamInterruptedError("The client was closed while the stream was open.")
        try:
            async for piece in self._stream:
                self.pieces.put(piece)
                if self.pieces.qsize() >= _READ_AHEAD:
                    self._resume = anyio.Event()
                    self.paused = True
                    # The consumer may have emptied the queue before it could see that we pause.
                    if self.pieces.qsize() > _READ_AHEAD // 2:
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
            self.done.set()

    def resume(self) -> None:
        """Go on reading; called in the loop, and harmless when it comes late or twice."""
        self._resume.set()


class SyncStream(Generic[Piece, R]):
    """What text and segment streams share; iterate it once, with `for`, from one thread at a time.

    `with` closes it however the block is left. A stream that is iterated to its end needs
    no closing; one that is dropped half-way warns (`ResourceWarning`).
    """

    def __init__(self, portal: Portal, stream: AsyncStream[Piece, R]) -> None:
        self._portal = portal
        self._pump = _Pump(stream)
        self._ended = True
        self._pid = os.getpid()
        self._left = False  # by the consumer, before the end
        self._error: MoondreamError | None = None
        self._seen: list[Piece] = []
        try:
            self._task = portal.start(self._pump.run)
        except BaseException:  # Ctrl-C: nobody will read it
            with suppress(MoondreamError):
                portal.start(stream.aclose)
            raise
        self._ended = False

    @property
    def text(self) -> str:
        """What has come so far: the text, or a segment stream's path."""
        return self._join(self._seen)

    def __iter__(self) -> Iterator[Piece]:
        return self

    def __next__(self) -> Piece:
        """The next piece.

        Raises:
            StreamInterruptedError: The stream ended before its final event; `.partial` has what came.
            APITimeoutError: Nothing came for `Timeouts.idle`, or `Timeouts.total` ran out; `.text` has what came.
        """
        if self._error is not None:
            raise self._error.with_traceback(None)
        if self._pid != os.getpid():
            raise ConfigurationError(_FORKED_STREAM)
        if self._ended:
            raise StopIteration
        try:
            piece = self._next_piece()
        except BaseException:  # Ctrl-C: stop the work, too
            self.close()
            raise
        if piece is None:
            self._ended = True
            raise StopIteration
        if isinstance(piece, MoondreamError):
            self._ended, self._error = True, piece
            raise piece
        if self._pump.paused and self._pump.pieces.qsize() <= _READ_AHEAD // 2:
            self._portal.soon(self._pump.resume)
        self._seen.append(piece)
        return piece

    def _next_piece(self) -> Piece | MoondreamError | None:
        while True:
            try:
                return self._pump.pieces.get(timeout=_LOOK_AGAIN)
            except queue.Empty:
                if self._pid != os.getpid():
                    raise ConfigurationError(_FORKED_STREAM) from None

    def result(self) -> R:
        """Read to the end and return the typed result: whole text, metrics, finish reason, request id.

        Raises:
            StreamInterruptedError: The stream was cut off, or closed before its end.
            APITimeoutError: As in iteration.
        """
        for _ in self:
            pass
        if self._left:
            raise StreamInterruptedError("The stream was closed before its end.", partial=self._partial(self._seen))
        return cast("R", self._pump.result)

    def close(self) -> None:
        """Stop the stream and free its connection; safe to call at any time, and again."""
        if not self._ended:
            self._ended = self._left = True
        if not self._pump.done.is_set() and self._pid == os.getpid():
            self._task.cancel()
            self._pump.done.wait(_SETTLE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_ended", True) or self._pid != os.getpid():
            return
        with suppress(RuntimeError):  # the background loop has ended, at the end of the interpreter
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
class TextStream(ReadsAsItself, SyncStream[str, R]):
    """The text of a query or caption, piece by piece.

    ```python
    with client.caption("photo.jpg", stream=True) as stream:
        for piece in stream:
            print(piece, end="", flush=True)
    result = stream.result()  # CaptionResult
    ```

    `s["answer"]`, `s["caption"]`, `s["chunk"]`, `s.answer` and `s.caption` are the stream itself,
    so that code written for the official client's dicts of generators runs unchanged.
    """

    @staticmethod
    def _join(pieces: list[str]) -> str:
        return "".join(pieces)

    _partial = _join


@public()
class SegmentStream(SyncStream[SegmentUpdate, SegmentResult]):
    """The steps of a segmentation: the box at once, the coarse path in chunks, the refined path and box.

    Each update reads like a dict: `"bbox" in u`, `u.get("completed")`, `u["chunk"]`, `u["path"]`.
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
    """An answer in a conversation as it is written: pieces of `.reasoning`, then of `.content`.

    `s["message"]` gives the pieces of the content alone, as the official client's stream does.
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
class Map(Generic[R]):
    """The outcomes of a run, as they come: `for outcome in client.map("caption", paths)`.

    Nothing begins before the first is asked for. Leaving the loop and closing this stop all that is under way;
    with `with`, it has stopped when the block is left.
    """

    def __init__(self, portal: Portal, run: AsyncMap[R]) -> None:
        self._portal = portal
        self._run = run
        self._pid: int | None = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Outcome[R]:
        """The next outcome.

        Raises:
            MoondreamError: The run was stopped by this failure of an item. What the items' own iterator raises,
                comes here too.
        """
        if self._pid is None:
            self._pid = os.getpid()
        self._check_process()
        outcome = self._portal.call(_next_of, self._run)
        if outcome is None:
            raise StopIteration
        return outcome

    def finish(self) -> None:
        """Take no more items: those that are begun are finished, and their outcomes still given."""
        self._check_process()
        self._portal.soon(self._run.finish)

    def close(self) -> None:
        """Stop what is under way; safe to call again."""
        if self._pid in (None, os.getpid()):
            self._portal.call(self._run.aclose)

    def _check_process(self) -> None:
        if self._pid not in (None, os.getpid()):
            raise ConfigurationError("A run does not cross a fork; it goes on in the parent process.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


async def _next_of(run: AsyncMap[R]) -> Outcome[R] | None:
    return await anext(run, None)


class AsyncPieces(Protocol[T_co]):
    """An async generator, or what can be left like one."""

    def __anext__(self) -> Awaitable[T_co]:
        """The next."""
        ...

    def aclose(self) -> Awaitable[None]:
        """Stop."""
        ...


def iterate(portal: Portal, pieces: AsyncPieces[T]) -> Generator[T]:
    """What an async generator gives, one by one; it is closed however the loop over it is left."""

    async def following() -> tuple[T] | None:
        try:
            return (await pieces.__anext__(),)
        except StopAsyncIteration:
            return None

    pid = os.getpid()
    try:
        while (found := portal.call(following)) is not None:
            yield found[0]
            if os.getpid() != pid:
                raise ConfigurationError("An iterator does not cross a fork; it goes on in the parent process.")
    finally:
        if os.getpid() == pid:
            with suppress(ConfigurationError, RuntimeError):  # the client was closed meanwhile
                portal.call(pieces.aclose)


class Facade:
    """What the generated `Client` stands on: its way into the background loop."""

    _portal: Portal

    def _open_portal(self) -> None:
        with no_fork():
            from .portal import Portal

        self._portal = Portal()

    def _run(self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._portal.call(func, *args, **kwargs)

    def _iterate(self, pieces: AsyncPieces[T]) -> Generator[T]:
        return iterate(self._portal, pieces)

    def _text(self, answer: T | AsyncTextStream[T]) -> T | TextStream[T]:
        if isinstance(answer, AsyncTextStream):
            return TextStream(self._portal, cast("AsyncTextStream[T]", answer))
        return answer

    def _talk(self, answer: ChatResult | AsyncChatStream) -> ChatResult | ChatStream:
        return ChatStream(self._portal, answer) if isinstance(answer, AsyncChatStream) else answer

    def _mapped(self, run: AsyncMap[T]) -> Map[T]:
        return Map(self._portal, run)

    def _outline(self, answer: SegmentResult | AsyncSegmentStream) -> SegmentResult | SegmentStream:
        return SegmentStream(self._portal, answer) if isinstance(answer, AsyncSegmentStream) else answer
