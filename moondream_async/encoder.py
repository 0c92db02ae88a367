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


async def encode_once(image: object, options: ImageOptions, *, full_resolution: bool, fetch: Fetch) -> EncodedImage:
    """Prepare an image; calls that want the same object, prepared the same way, at the same moment share the work.

    Args:
        image: Anything `ImageInput` names.
        options: How to prepare it.
        full_resolution: As `segment` wants it.
        fetch: Gets the bytes behind an http(s) URL.

    Raises:
        ImageError: It cannot be used.
    """
    which = image if isinstance(image, str) else id(image)
    work = functools.partial(encode, options=options, full_resolution=full_resolution)

    async def run() -> EncodedImage:
        return await offload(work, await fetch(str(image)) if is_url(image) else image)

    return await _once.do((which, options, full_resolution), run)
