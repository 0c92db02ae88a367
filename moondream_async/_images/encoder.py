"""Any image a user passes -> `EncodedImage`: fetched if it is a URL, prepared off the loop, once for all who ask."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

from .._concurrency.single_flight import SingleFlight
from .._concurrency.threads import run_in_image_pool
from .async_files import is_async_file, read_async_file
from .encoded import EncodedImage
from .options import ImageOptions
from .prepare import encode
from .source_names import NamedBytes, name_errors, shown_url
from .sources import AsyncFileError, is_url

Fetch = Callable[[str], Awaitable[bytes]]

_once: SingleFlight[EncodedImage] = SingleFlight()
_reads: SingleFlight[NamedBytes] = SingleFlight()

_LONGEST_KEY = 4096  # characters of a text that is told by its content; longer ones are data, told by identity


async def encode_once(
    image: object, options: ImageOptions, *, full_resolution: bool, fetch: Fetch, fetcher: object
) -> EncodedImage:
    """Prepare an image; calls that want the same object, prepared the same way, at the same moment share the work.

    Args:
        image: Anything `ImageInput` names; files whose `read` is a coroutine are read in this event loop.
        options: How to prepare it.
        full_resolution: As `segment` wants it.
        fetch: Gets the bytes behind an http(s) URL.
        fetcher: Who does; others, with other timeouts, do not share what it gets.

    Raises:
        ImageError: It cannot be used.
    """
    which = image if isinstance(image, str) and len(image) <= _LONGEST_KEY else id(image)
    by_url = is_url(image)
    work = functools.partial(encode, options=options, full_resolution=full_resolution)

    async def run() -> EncodedImage:
        if by_url:
            return await run_in_image_pool(work, await _fetched(str(image), fetch))
        if not is_async_file(image):
            try:
                return await run_in_image_pool(work, image)
            except AsyncFileError:  # a plain `read` that gives something to await: read below
                pass
        return await run_in_image_pool(work, await read_file(image))

    return await _once.run((which, options, full_resolution, id(fetcher) if by_url else None), run)


async def read_file(file: object) -> NamedBytes:
    """Read an async file; calls that want the same one at the same moment share what is read.

    Raises:
        ImageError: It cannot be read.
    """

    async def read() -> NamedBytes:
        with name_errors(file):
            return await read_async_file(file)

    return await _reads.run(id(file), read)


async def _fetched(url: str, fetch: Fetch) -> NamedBytes:
    with name_errors(url):
        return NamedBytes(await fetch(url), shown_url(url))
