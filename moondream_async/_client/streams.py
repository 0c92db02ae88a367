"""Async streams of query, caption, segment and chat."""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from .._concurrency.closing import AsyncClosing
from .._images.image_source import ImageSource, remember
from .._public import public
from .._wire.responses import PARSE_ERRORS
from ..errors import APITimeoutError, ConfigurationError, MoondreamError, StreamInterruptedError
from ..types import ChatDelta, ChatResult, SegmentResult, SegmentUpdate

if TYPE_CHECKING:
    from .._cache.calls import CachedEvents, KeepAnswer
    from .._http.event_stream import EventStream
    from .._wire.events import Reducer

Piece = TypeVar("Piece")
R = TypeVar("R")


class AsyncStream(AsyncClosing, Generic[Piece, R]):
    """Base class of the async streams. Iterate it once, with `async for`.

    Use `async with` to close it when the block exits. A stream that is iterated to its end needs no closing; a
    `ResourceWarning` is issued if one is dropped before its end.
    """

    def __init__(
        self,
        feed: EventStream | CachedEvents,
        reducer: Reducer[Piece, R],
        source: ImageSource | None = None,
        keep: KeepAnswer | None = None,
    ) -> None:
        self._events = feed
        self._keep = keep
        self._reducer = reducer
        self._source = source
        self._ended = False
        self._error: MoondreamError | None = None

    @property
    def text(self) -> str:
        """The text received so far; of a segment stream, the path."""
        return self._reducer.text

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Piece:
        """Return the next piece.

        Raises:
            StreamInterruptedError: The stream ended before its final event; `.partial` holds what was received.
            APITimeoutError: Nothing was received for `Timeouts.idle`, or `Timeouts.total` expired; `.text` holds the
                text received so far.
        """
        if self._error is not None:
            raise self._error
        reducer = self._reducer
        while not self._ended and not reducer.completed:
            try:
                event = await self._events.next()
                piece = None if event is None else reducer.feed(event)
            except (MoondreamError, *PARSE_ERRORS) as exc:
                failure: Exception | None = exc
            else:
                if piece is not None:
                    return piece
                if event is not None:
                    continue
                if reducer.may_end:
                    reducer.completed = True
                    continue
                failure = None
            await self._fail(failure)
        await self._finish()
        raise StopAsyncIteration

    async def result(self) -> R:
        """Read the stream to its end and return the typed result with the whole text, metrics and request id.

        Raises:
            StreamInterruptedError: The connection was lost, or the stream was closed before its end.
            APITimeoutError: As in iteration.
        """
        async for _ in self:
            pass
        problem = "The stream was closed before its end"
        if self._reducer.completed:
            try:
                result: Any = self._reducer.result(self._events.meta)
                return cast("R", remember(result, self._source))
            except PARSE_ERRORS as exc:
                problem = f"The stream's final event is invalid: {exc}"
        raise StreamInterruptedError(f"{problem}.", partial=self._events.redact(self._reducer.partial))

    async def aclose(self) -> None:
        """Stop the stream and release its connection. Safe to call at any time and more than once."""
        if self._reducer.completed:
            await self._finish()
        elif not self._ended:
            self._ended = True
            await self._events.aclose()
            await self._events.end(None, self._reducer.summary)

    async def _fail(self, failure: Exception | None) -> None:
        """End the stream with a typed error; `failure` is None if the stream ended before its final event."""
        self._ended = True
        await self._events.aclose()
        if isinstance(failure, (APITimeoutError, ConfigurationError)):
            self._error = _without_context(failure)
            await self._events.end(self._error, self._reducer.summary)
            raise self._error
        cause = _without_context(failure) if isinstance(failure, MoondreamError) else None
        reason = cause.message if cause else failure or "the connection was closed before the final event"
        self._error = StreamInterruptedError(
            f"The stream was interrupted: {reason}", partial=self._events.redact(self._reducer.partial)
        )
        self._error.attempts = self._events.attempts
        await self._events.end(self._error, self._reducer.summary)
        raise self._error from cause

    async def _finish(self) -> None:
        if not self._ended:
            self._ended = True
            await self._events.finish()
            await self._events.end(None, self._reducer.summary)
            if self._keep is not None:
                with suppress(*PARSE_ERRORS):  # `result` reports them
                    await self._keep(cast("Any", self._reducer.result(self._events.meta)))

    def __del__(self) -> None:
        if not getattr(self, "_ended", True) and not self._reducer.completed:
            warnings.warn(
                f"{type(self).__name__} was dropped before its end; use `async with`, or call aclose().",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )


class ReturnsItself:
    """`s["answer"]`, `s["caption"]`, `s["chunk"]`, `s.answer` and `s.caption` are the stream itself."""

    def __getitem__(self, name: str) -> Self:
        if name not in ("answer", "caption", "chunk"):
            raise KeyError(name)
        return self

    def __contains__(self, name: object) -> bool:
        return name in ("answer", "caption", "chunk")

    @property
    def answer(self) -> Self:
        """The stream itself."""
        return self

    @property
    def caption(self) -> Self:
        """The stream itself."""
        return self


@public()
class AsyncTextStream(ReturnsItself, AsyncStream[str, R]):
    """A stream of the text of `query` or `caption`, piece by piece.

    ```python
    async with await client.caption("photo.jpg", stream=True) as stream:
        async for piece in stream:
            print(piece, end="", flush=True)
    result = await stream.result()  # CaptionResult
    ```

    `s["answer"]`, `s["caption"]`, `s["chunk"]`, `s.answer` and `s.caption` return the stream itself, so that code for
    the official client's dicts of generators runs unchanged.
    """


@public()
class AsyncChatStream(AsyncStream[ChatDelta, ChatResult]):
    """A stream of a chat answer: pieces of `.reasoning`, then of `.content`.

    ```python
    async with await client.chat(messages, stream=True) as stream:
        async for delta in stream:
            print(delta.content or "", end="", flush=True)
    result = await stream.result()  # ChatResult
    ```

    `s["message"]` iterates over the pieces of the content only, like the official client's stream.
    """

    def __getitem__(self, name: str) -> AsyncGenerator[str]:
        if name != "message":
            raise KeyError(name)
        return self._contents()

    async def _contents(self) -> AsyncGenerator[str]:
        async for delta in self:
            if delta.content:
                yield delta.content


@public()
class AsyncSegmentStream(AsyncStream[SegmentUpdate, SegmentResult]):
    """A stream of `segment` updates: the box, chunks of the coarse path, then the refined path and box.

    Each update can be read like a dict: `"bbox" in u`, `u.get("completed")`, `u["chunk"]`, `u["path"]`.
    """


E = TypeVar("E", bound=MoondreamError)


def _without_context(exc: E) -> E:
    exc.__context__ = exc.__cause__ = None
    return exc
