"""Read files whose `read()` is a coroutine function: a web framework's upload, `anyio.open_file`, `aiofiles`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

from ..errors import ImageError
from .limits import MAX_FILE_SIZE
from .source_names import NamedBytes, source_name

_CHUNK_SIZE = 1024 * 1024


def is_async_file(value: object) -> bool:
    """Return whether a value is a file that must be awaited, in the event loop."""
    return inspect.iscoroutinefunction(getattr(value, "read", None))


async def read_async_file(file: Any) -> NamedBytes:
    """Read a whole file from its start, in the event loop that it belongs to.

    Raises:
        ImageError: The file cannot be read, yields text, or is too large.
    """
    try:
        data = await _read(file)
    except ImageError:
        raise
    except Exception as exc:
        problem = str(exc) or type(exc).__name__
    else:
        return NamedBytes(data, source_name(file))
    raise ImageError(f"The file object cannot be read: {problem}.")


async def _read(file: Any) -> bytes:
    await _rewind(file)
    chunks: list[bytes] = []
    size = 0
    while size <= MAX_FILE_SIZE:
        chunk: object = await _call(file.read, _CHUNK_SIZE)
        if not isinstance(chunk, (bytes, bytearray, memoryview)):
            raise ImageError("The file object returns text; open the image in binary mode ('rb').")
        if not chunk:
            return b"".join(chunks)
        chunks.append(bytes(cast("bytes", chunk)))
        size += len(chunks[-1])
    raise ImageError(f"The file object is too large: more than {MAX_FILE_SIZE:,} bytes.")


async def _rewind(file: Any) -> None:
    """Seek to the start if the file can: uploads have `seek` but no `seekable`, streams have neither."""
    if not hasattr(file, "seek"):
        return
    if not hasattr(file, "seekable") or await _call(file.seekable):
        await _call(file.seek, 0)


async def _call(method: Callable[..., Any], *arguments: Any) -> Any:
    """Call a method that may or may not be async."""
    result = method(*arguments)
    return await result if inspect.isawaitable(result) else result
