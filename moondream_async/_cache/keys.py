"""Keys of cached answers: digests of everything that an answer depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import attrs

from .._images import sources
from .._images.encoded import EncodedImage
from .._images.limits import check_size
from .._images.locks import lock_for
from .._images.options import ImageOptions
from .._images.orientation import of_image
from .._images.source_names import NamedBytes, name_errors, source_name
from .._wire.skills import Skill
from ..errors import ImageError

_FORMAT = 1  # of keys and values; another number forgets all answers


def call_key(
    skill: Skill[Any],
    arguments: Mapping[str, Any],
    *,
    server: str,
    model: str | None,
    image: bytes | None,
    options: ImageOptions | None,
) -> bytes:
    """Return the key of a call.

    Args:
        skill: The skill.
        arguments: Its arguments, valid; `stream` does not count.
        server: Base URL.
        model: The model; None for the server's default.
        image: Digest of the image; None without an image.
        options: How the image is prepared; None if it is sent as it is.
    """
    checked = skill.check({name: value for name, value in arguments.items() if name != "stream"})
    prepared = None if options is None else {**attrs.asdict(options), "full_resolution": skill.full_resolution}
    parts = [_FORMAT, server, model, skill.name, checked, prepared, None if image is None else image.hex()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()


def identify(image: object) -> tuple[bytes, Any]:
    """Return a digest of the content of an image, and the image in a form that can be read again.

    Blocking, for a worker thread.

    Args:
        image: Any `ImageInput` except a URL.

    Raises:
        ImageError: The image cannot be read.
    """
    if isinstance(image, EncodedImage):
        return hashlib.sha256(image.uri).digest(), image
    with name_errors(image), lock_for(image):
        loaded = sources.load(image)
        if isinstance(loaded, bytes):
            return hashlib.sha256(loaded).digest(), NamedBytes(loaded, source_name(image))
        check_size(*loaded.size)
        looks = {name: loaded.info.get(name) for name in ("transparency", "icc_profile")}
        try:
            pixels = loaded.tobytes()
        except Exception as exc:  # Pillow raises many kinds
            problem = str(exc) or type(exc).__name__
        else:
            header = loaded.mode, loaded.size, of_image(loaded), loaded.getpalette(), looks
            digest = hashlib.sha256(repr(header).encode())
            digest.update(pixels)
            return digest.digest(), image
        raise ImageError(f"The image cannot be decoded: {problem}.")
