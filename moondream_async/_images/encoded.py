"""The prepared image, which can be sent any number of times."""

from __future__ import annotations

import base64

import attrs

from .._public import public


@public()
@attrs.frozen(repr=False)
class EncodedImage:
    """An image prepared for sending; reusable across skills, calls, clients and threads.

    Returned by `encode_image`. Two are equal if the bytes sent are equal.

    Attributes:
        uri: The data URI as bytes (wire field `image_url`).
        width: Width in pixels, as sent.
        height: Height in pixels, as sent.
        original_size: `(width, height)` of the upright original, in pixels.
        media_type: `image/jpeg`, `image/png` or another type that the service supports.
    """

    uri: bytes
    width: int = attrs.field(eq=False)
    height: int = attrs.field(eq=False)
    original_size: tuple[int, int] = attrs.field(eq=False)
    media_type: str = attrs.field(eq=False)

    @classmethod
    def of(cls, data: bytes, *, media_type: str, size: tuple[int, int], original: tuple[int, int]) -> EncodedImage:
        """Wrap the bytes of an image file; `size` is its size as sent, `original` the size before resizing."""
        uri = b"data:" + media_type.encode("ascii") + b";base64," + base64.b64encode(data)
        return cls(uri=uri, width=size[0], height=size[1], original_size=original, media_type=media_type)

    @property
    def image_url(self) -> str:
        """The data URI, under the name that the official client uses."""
        return self.uri.decode("ascii")

    @property
    def data(self) -> bytes:
        """The bytes of the image file that is sent."""
        return base64.b64decode(self.uri.partition(b",")[2])

    @property
    def nbytes(self) -> int:
        """The size in bytes of the image file that is sent, before base64."""
        payload = len(self.uri) - self.uri.index(b",") - 1
        return payload // 4 * 3 - self.uri[-2:].count(b"=")

    def __repr__(self) -> str:
        return f"EncodedImage({self.media_type}, {self.width}x{self.height}, {self.nbytes:,} bytes)"
