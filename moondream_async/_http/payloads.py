"""Request bodies: built once a call has its slot, or read from disk while they are sent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Protocol

import anyio
import httpx

_CHUNK_SIZE = 256 * 1024


class Payload(Protocol):
    """A body that is built once its call has a slot, so that waiting calls keep no image in memory."""

    @property
    def takes_time(self) -> bool:
        """Whether to connect while it is built: it has an image to prepare."""
        ...

    async def prepare(self) -> bytes:
        """Return the body; called once."""
        ...


class BytesBody(httpx.ByteStream):
    """A body of bytes, sent as one chunk.

    Attributes:
        data: The bytes.

    `httpx.ByteStream` iterates with an async generator; trio warns about it when a call is cancelled midway.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _SingleChunk(self.data)


class _SingleChunk(AsyncIterator[bytes]):
    def __init__(self, data: bytes) -> None:
        self._data: bytes | None = data

    async def __anext__(self) -> bytes:
        data, self._data = self._data, None
        if data is None:
            raise StopAsyncIteration
        return data


class FileBody(httpx.AsyncByteStream):
    """A file, or part of one; can be sent more than once.

    Args:
        path: The file.
        start: Offset of the first byte.
        length: Number of bytes.
        on_progress: Called with the number of bytes sent so far. It restarts from 0 when the body is sent again.
    """

    def __init__(self, path: Path, start: int, length: int, on_progress: Callable[[int], None] | None = None) -> None:
        self._path, self._start, self._length, self._on_progress = path, start, length, on_progress

    def __len__(self) -> int:
        return self._length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        file = await anyio.open_file(self._path, "rb")
        try:
            await file.seek(self._start)
            left = self._length
            while left > 0:
                chunk = await file.read(min(_CHUNK_SIZE, left))
                if not chunk:
                    raise OSError(f"{self._path.name!r} became shorter while it was being sent")
                left -= len(chunk)
                yield chunk
                if self._on_progress is not None:
                    self._on_progress(self._length - left)
        finally:
            file.wrapped.close()  # synchronously: a cancelled upload cannot await
