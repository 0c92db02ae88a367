"""Read files whose `read()` is a coroutine: an upload of a web framework, `anyio.open_file`, `aiofiles`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

from ..errors import ImageError
from .source_names import NamedBytes, source_name
from .sources import LARGEST_FILE

_PIECE = 1024 * 1024  # bytes asked for at a time


def is_async_file(value: object) -> bool:
    """Whether it is a file that has to be awaited, in the event loop."""
    return inspect.iscoroutinefunction(getattr(value, "read", None))


async def read_async_file(file: Any) -> NamedBytes:
    """Read a file from its start to its end, in the event loop it is used in.

    Raises:
        ImageError: It cannot be read, holds text, or is too large.
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
    pieces: list[bytes] = []
    size = 0
    while size <= LARGEST_FILE:
        piece: object = await _awaited(file.read, _PIECE)
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise ImageError("The file object gives text; open the image in binary mode ('rb').")
        if not piece:
            return b"".join(pieces)
        pieces.append(bytes(cast("bytes", piece)))
        size += len(pieces[-1])
    raise ImageError(f"The file object holds more than {LARGEST_FILE:,} bytes.")


async def _rewind(file: Any) -> None:
    """Go to the start, where the file can: uploads have `seek` and no `seekable`, streams have neither."""
    if not hasattr(file, "seek"):
        return
    if not hasattr(file, "seekable") or await _awaited(file.seekable):
        await _awaited(file.seek, 0)


async def _awaited(call: Callable[..., Any], *arguments: Any) -> Any:
    result = call(*arguments)
    return await result if inspect.isawaitable(result) else result
