"""Any image a user passes -> `EncodedImage`: fetched if it is a URL, prepared off the loop, once for all who ask."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

from .images.encoded import EncodedImage
from .images.options import ImageOptions
from .images.prepare import encode
from .images.sources import is_url
from .net.once import Once
from .net.threads import offload

Fetch = Callable[[str], Awaitable[bytes]]

_once: Once[EncodedImage] = Once()


_LONGEST_KEY = 4096  # characters of a text that is told by its content; longer ones are data, told by identity


async def encode_once(
    image: object, options: ImageOptions, *, full_resolution: bool, fetch: Fetch, fetcher: object
) -> EncodedImage:
    """Prepare an image; calls that want the same object, prepared the same way, at the same moment share the work.

    Args:
        image: Anything `ImageInput` names.
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
        return await offload(work, await fetch(str(image)) if by_url else image)

    return await _once.do((which, options, full_resolution, id(fetcher) if by_url else None), run)
