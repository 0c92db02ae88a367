"""Request bodies: built when a call has its slot, or read from disk as they are sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import anyio
import httpx

_CHUNK = 256 * 1024


class Payload(Protocol):
    """A body that is built when its call has a slot: only then is what it is built from in memory."""

    async def prepare(self) -> bytes:
        """Return the body; called once."""
        ...


class BytesBody(httpx.ByteStream):
    """Bytes in one piece.

    httpx's own iterates them in an async generator, of which trio warns when a call is cancelled half-way.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._data = data

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Once(self._data)


class _Once(AsyncIterator[bytes]):
    def __init__(self, data: bytes) -> None:
        self._data: bytes | None = data

    async def __anext__(self) -> bytes:
        data, self._data = self._data, None
        if data is None:
            raise StopAsyncIteration
        return data


class FileBody(httpx.AsyncByteStream):
    """A file, or a part of it; can be sent again.

    Args:
        path: The file.
        start: Its first byte, from 0.
        length: How many.
        sent: Is told how many bytes of it have been sent, anew each time it is.
    """

    def __init__(self, path: Path, start: int, length: int, sent: Callable[[int], None] | None = None) -> None:
        self._path, self._start, self._length, self._sent = path, start, length, sent

    def __len__(self) -> int:
        return self._length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        file = await anyio.open_file(self._path, "rb")
        try:
            await file.seek(self._start)
            left = self._length
            while left > 0:
                chunk = await file.read(min(_CHUNK, left))
                if not chunk:
                    raise OSError(f"{self._path.name!r} became shorter while it was sent")
                left -= len(chunk)
                yield chunk
                if self._sent is not None:
                    self._sent(self._length - left)
        finally:
            file.wrapped.close()  # without awaiting, which a cancelled upload could not
