"""Prepare images off the event loop, after fetching URLs; concurrent calls for the same image share the work."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TypeVar

from .._concurrency.single_flight import SingleFlight
from .._concurrency.threads import run_in_image_pool
from .async_files import is_async_file, read_async_file
from .encoded import EncodedImage
from .options import ImageOptions
from .prepare import encode
from .source_names import MAX_PATH_LENGTH, NamedBytes, name_errors, redact_url
from .sources import AsyncFileError, is_url

T = TypeVar("T")

Fetch = Callable[[str], Awaitable[bytes]]

_encodings: SingleFlight[EncodedImage] = SingleFlight()
_reads: SingleFlight[NamedBytes] = SingleFlight()


async def encode_once(
    image: object, options: ImageOptions, *, full_resolution: bool, fetch: Fetch, fetcher: object
) -> EncodedImage:
    """Prepare an image; concurrent calls with the same image and options share the work.

    Args:
        image: Any `ImageInput`; files whose `read` is a coroutine function are read in this event loop.
        options: How to prepare it.
        full_resolution: Whether to keep the full resolution, as for `segment`.
        fetch: Downloads the bytes of an http(s) URL.
        fetcher: Owner of `fetch`. Downloads are not shared between owners, whose timeouts may differ.

    Raises:
        ImageError: The image cannot be used.
    """
    # Paths and URLs are compared by content; longer texts are data, compared by identity.
    image_key = image if isinstance(image, str) and len(image) <= MAX_PATH_LENGTH else id(image)
    prepare = functools.partial(encode, options=options, full_resolution=full_resolution)
    key = image_key, options, full_resolution, id(fetcher) if is_url(image) else None
    return await _encodings.run(key, functools.partial(read_in_pool, prepare, image, fetch))


async def read_in_pool(work: Callable[[object], T], image: object, fetch: Fetch) -> T:
    """Run work on an image in a worker thread, after fetching a URL or reading an async file.

    Args:
        work: Takes any `ImageInput` but a URL and an async file.
        image: Any `ImageInput`.
        fetch: Downloads the bytes of an http(s) URL.

    Raises:
        ImageError: The image cannot be used.
    """
    if is_url(image):
        return await run_in_image_pool(work, await _fetch(str(image), fetch))
    if not is_async_file(image):
        try:
            return await run_in_image_pool(work, image)
        except AsyncFileError:  # `read` is not a coroutine function, but returned an awaitable
            pass
    return await run_in_image_pool(work, await read_file(image))


async def read_file(file: object) -> NamedBytes:
    """Read an async file; concurrent calls for the same file share one read.

    Raises:
        ImageError: The file cannot be read.
    """

    async def read() -> NamedBytes:
        with name_errors(file):
            return await read_async_file(file)

    return await _reads.run(id(file), read)


async def _fetch(url: str, fetch: Fetch) -> NamedBytes:
    with name_errors(url):
        return NamedBytes(await fetch(url), redact_url(url))
