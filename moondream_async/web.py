"""For web backends: streams as server-sent events, and errors as HTTP statuses. No framework is imported.

```python
@app.post("/caption")
async def caption(image: UploadFile) -> StreamingResponse:
    stream = await client.caption(image, stream=True)  # a failure here gets its own status
    return StreamingResponse(sse(stream), headers=dict(SSE_HEADERS))


@app.exception_handler(MoondreamError)
async def failed(request: Request, exc: MoondreamError) -> JSONResponse:
    return JSONResponse(error_body(exc), http_status(exc))
```
"""

from __future__ import annotations

import asyncio
import json
import re
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast, overload

import anyio

from ._concurrency.closing import AsyncClosing, Closing
from ._concurrency.loop_local import is_asyncio
from ._concurrency.prefetch import PrefetchIterator
from ._public import public
from .config import check_seconds
from .errors import (
    AnswerError,
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ConfigurationError,
    ConflictError,
    ImageError,
    MoondreamError,
    OutputFileError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitError,
    StreamInterruptedError,
    TilesError,
    UnprocessableEntityError,
)
from .types import CaptionResult, ChatDelta, QueryResult, Result, SegmentResult, SegmentUpdate

if TYPE_CHECKING:
    from ._client.streams import AsyncStream
    from ._sync.streams import SyncStream

__all__ = ["SSE_HEADERS", "error_body", "http_status", "sse"]

SSE_HEADERS: Mapping[str, str] = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # nginx would buffer the events
}
"""The headers of a response whose body is `sse(...)`."""

_HEARTBEAT = b": \n\n"

_STATUSES: dict[type[BaseException], int] = {
    OutputFileError: 500,
    ImageError: 422,
    ConfigurationError: 400,
    BadRequestError: 400,
    ConflictError: 409,
    PayloadTooLargeError: 413,
    UnprocessableEntityError: 422,
    RateLimitError: 429,
    AuthenticationError: 500,
    PermissionDeniedError: 500,
    APITimeoutError: 504,
    APIConnectionError: 502,
    StreamInterruptedError: 502,
    AnswerError: 502,
    TilesError: 502,
    APIError: 502,
}

_HIDDEN_CAUSES: dict[type[BaseException], str] = {
    AuthenticationError: "The server's API key was refused.",
    PermissionDeniedError: "The server's API key does not allow this.",
    APITimeoutError: "The model did not respond in time.",
    APIConnectionError: "The model's server cannot be reached.",
    StreamInterruptedError: "The response was interrupted.",
    TilesError: "Parts of the image could not be analyzed.",
}


@overload
def sse(stream: AsyncStream[Any, Any], *, heartbeat: float | None = 15.0) -> AsyncEvents: ...


@overload
def sse(stream: SyncStream[Any, Any], *, heartbeat: float | None = 15.0) -> Events: ...


@public("web")
def sse(
    stream: AsyncStream[Any, Any] | SyncStream[Any, Any], *, heartbeat: float | None = 15.0
) -> AsyncEvents | Events:
    r"""Return a stream's pieces and its result as server-sent events, ready to be a response's body.

    The events are those of Moondream's own API, so that its clients can read them, too:

    | event | data |
    |---|---|
    | a piece of text | `{"chunk": "A scene ", "completed": false}` |
    | an update of `segment` | `{"type": "bbox", "bbox": {...}}` or `{"type": "path_delta", "chunk": "M 0 0.76"}` |
    | the result, last | `{"completed": true, "chunk": "", "caption": "A scene ...", "metrics": {...}, ...}` |
    | `event: error`, last | as `error_body`, plus `status` |
    | a comment | `: `, after each pause as long as `heartbeat` |

    When the response's body is closed, as frameworks do when the browser has gone, the stream is closed, and the
    server stops working on it.

    Args:
        stream: An open stream of `query`, `caption`, `segment` or `chat`, async or sync.
        heartbeat: Seconds of silence after which a comment is sent, so that proxies and browsers do not close the
            connection. None sends none. Sync streams send none.

    Returns:
        An iterator of bytes, one complete event per item; async for an async stream, with `aclose()` or `close()`.

    Raises:
        ConfigurationError: `stream` is not a stream, or was not awaited; or `heartbeat` is not positive.
    """
    heartbeat = check_seconds("heartbeat", heartbeat)
    if hasattr(stream, "__await__"):
        stream.close()  # type: ignore[union-attr]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
        raise ConfigurationError("sse needs an open stream: await client.caption(image, stream=True) first.")
    if hasattr(stream, "__anext__") and hasattr(stream, "result"):
        return AsyncEvents(cast("AsyncStream[Any, Any]", stream), heartbeat)
    if hasattr(stream, "__next__") and hasattr(stream, "result"):
        return Events(cast("SyncStream[Any, Any]", stream))
    raise ConfigurationError(f"sse needs a stream, as stream=True returns it, not {type(stream).__name__}.")


@public("web")
def http_status(exc: BaseException) -> int:
    """Return the HTTP status with which a backend should answer a request that failed with this error.

    | status | errors |
    |---|---|
    | 400 | `ConfigurationError` (an argument is not valid), `BadRequestError` |
    | 409, 413 | `ConflictError`, `PayloadTooLargeError` |
    | 422 | `ImageError`, `UnprocessableEntityError` |
    | 429 | `RateLimitError` |
    | 500 | `AuthenticationError`, `PermissionDeniedError`: the backend's own key; errors of other packages |
    | 502 | other `APIError`s, such as `NotFoundError`; `APIConnectionError`, `StreamInterruptedError`,
    | | `AnswerError`, `TilesError` |
    | 503, 504 | `APIError` of these statuses; 504 is `APITimeoutError`, too |

    ```python
    try:
        await client.caption("nowhere.jpg")
    except MoondreamError as exc:
        print(http_status(exc), error_body(exc))  # 422, ...
    ```

    Args:
        exc: Any error.
    """
    if isinstance(exc, APIError) and exc.status in (503, 504):
        return exc.status
    return next((status for kind, status in _STATUSES.items() if isinstance(exc, kind)), 500)


@public("web")
def error_body(exc: BaseException) -> dict[str, Any]:
    """Return an error as JSON for a browser, in the form of Moondream's API.

    It is `{"error": {"type": "rate_limit_error", "message": ...}}`, plus `code`, `param`, `retry_after` (seconds) and
    `request_id` where they are known. The message names neither the backend's key nor the addresses that it calls.

    ```python
    try:
        await client.caption("nowhere.jpg")
    except MoondreamError as exc:
        print(http_status(exc), error_body(exc))  # 422, ...
    ```

    Args:
        exc: Any error; those of other packages are called `internal_error`.
    """
    if not isinstance(exc, MoondreamError):
        return {"error": {"type": "internal_error", "message": "The request failed."}}
    hidden = next((text for kind, text in _HIDDEN_CAUSES.items() if isinstance(exc, kind)), None)
    error: dict[str, Any] = {"type": _snake_case(type(exc).__name__), "message": hidden or exc.message}
    for name in ("code", "param", "retry_after", "request_id"):
        value = getattr(exc, name, None)
        if value is not None:
            error[name] = value
    return {"error": error}


class AsyncEvents(AsyncClosing, AsyncIterator[bytes]):
    """The events of an async stream; `sse` makes it. Closing it closes the stream.

    The stream is read in a task of its own, as a heartbeat must not cancel a read. Dropping the iterator stops that.
    """

    def __init__(self, stream: AsyncStream[Any, Any], heartbeat: float | None) -> None:
        self._stream = stream
        self._heartbeat = heartbeat
        self._events = PrefetchIterator(lambda: _read(stream))
        self._reader: object = None

    async def __anext__(self) -> bytes:
        """Return the next event, or a heartbeat."""
        self._stop_with_task()
        with anyio.move_on_after(self._heartbeat):
            return await anext(self._events)
        return _HEARTBEAT

    async def aclose(self) -> None:
        """Close the stream; safe to call more than once."""
        await self._events.aclose()
        await self._stream.aclose()

    def _stop_with_task(self) -> None:
        """Stop reading if the task that iterates is cancelled: some middleware keeps the iterator even then."""
        task = asyncio.current_task() if is_asyncio() else None
        if task is not None and task is not self._reader:
            self._reader = task
            events = weakref.ref(self._events)
            task.add_done_callback(lambda task: _abandon(events) if task.cancelled() else None)


class Events(Closing, Iterator[bytes]):
    """The events of a sync stream; `sse` makes it. Closing it closes the stream."""

    def __init__(self, stream: SyncStream[Any, Any]) -> None:
        self._stream = stream
        self._events = _read_sync(stream)

    def __next__(self) -> bytes:
        """Return the next event."""
        return next(self._events)

    def close(self) -> None:
        """Close the stream; safe to call more than once."""
        self._events.close()
        self._stream.close()


def _abandon(events: weakref.ref[PrefetchIterator[bytes]]) -> None:
    iterator = events()
    if iterator is not None:
        iterator.abandon()


async def _read(stream: AsyncStream[Any, Any]) -> AsyncGenerator[bytes, None]:
    try:
        async for piece in stream:
            if (event := _piece(piece)) is not None:
                yield event
        yield _result(await stream.result())
    except MoondreamError as exc:
        yield _error(exc)
    finally:
        await stream.aclose()


def _read_sync(stream: SyncStream[Any, Any]) -> Generator[bytes, None, None]:
    try:
        for piece in stream:
            if (event := _piece(piece)) is not None:
                yield event
        yield _result(stream.result())
    except MoondreamError as exc:
        yield _error(exc)
    finally:
        stream.close()


def _piece(piece: str | SegmentUpdate | ChatDelta) -> bytes | None:
    if isinstance(piece, str):
        return _event({"chunk": piece, "completed": False})
    if not isinstance(piece, SegmentUpdate):
        return _event({**piece.to_dict(), "completed": False})
    if piece.completed:  # the result has it all
        return None
    return _event({"type": "path_delta" if piece.chunk is not None else "bbox", **piece.to_dict(), "completed": False})


def _result(result: Result) -> bytes:
    data = {name: value for name, value in result.to_dict().items() if name not in result.extra}
    if isinstance(result, SegmentResult):
        data["type"] = "final"
    if isinstance(result, (QueryResult, CaptionResult, SegmentResult)):
        data["chunk"] = ""
    return _event({**data, "completed": True})


def _error(exc: MoondreamError) -> bytes:
    return b"event: error\n" + _event({**error_body(exc), "status": http_status(exc)})


def _event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(data).encode("ascii") + b"\n\n"


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
