"""Pixels of more than 8 bits are scaled or refused; they never turn black, wrap or clip."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from moondream_async import ImageError
from moondream_async._images.prepare import encode, upright
from tests.support.tiffs import picture, tiff


def halves(dark: float, light: float, kind: str, channels: int = 0) -> Any:
    array = np.repeat(np.array([[dark] * 32 + [light] * 32], dtype=kind), 48, axis=0)
    return np.repeat(array[:, :, None], channels, axis=2) if channels else array


def seen(image: object) -> tuple[int, int]:
    """Return the gray levels of the left and right half, as sent."""
    sent = Image.open(io.BytesIO(encode(image).data)).convert("L")
    whole = upright(image).convert("L")
    for x in (8, 56):
        assert abs(_gray(sent, x) - _gray(whole, x)) <= 2
    return _gray(sent, 8), _gray(sent, 56)


def _gray(image: Image.Image, x: int) -> int:
    value = image.getpixel((x, 24))
    assert isinstance(value, int)
    return value


def pgm(array: Any, most: int) -> bytes:
    return b"P5 64 48 %d\n" % most + array.astype(">u2").tobytes()


def pfm(array: Any) -> bytes:
    return b"Pf\n64 48\n-1.0\n" + array.astype("<f4").tobytes()


def png(array: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def twelve_bits(array: Any) -> Any:
    """Pack pairs of 12-bit values into three bytes."""
    pairs = array.reshape(-1, 2).astype(int)
    left, right = pairs[:, 0], pairs[:, 1]
    packed = np.stack([left >> 4, (left & 15) << 4 | right >> 8, right & 255], axis=1)
    return packed.astype("u1").reshape(48, 96)


_WIDE = halves(5_000, 60_000, "<u2")
_NARROW = halves(500, 3_600, "<u2")


@pytest.mark.parametrize(
    ("image", "grays"),
    [
        pytest.param(_WIDE, (19, 234), id="array u2"),
        pytest.param(_WIDE.astype(">u2"), (19, 234), id="array >u2"),
        pytest.param(_WIDE.astype("i4"), (19, 234), id="array i4 of 16 bits"),
        pytest.param(_WIDE.astype(">u4"), (19, 234), id="array >u4 of 16 bits"),
        pytest.param(_WIDE.astype("i4")[:, :, None], (19, 234), id="array i4 of one channel"),
        pytest.param(halves(20, 200, "u4"), (20, 200), id="array u4 of 8 bits"),
        pytest.param(Image.fromarray(_WIDE), (19, 234), id="PIL I;16"),
        pytest.param(Image.frombytes("I;16B", (64, 48), _WIDE.astype(">u2").tobytes()), (19, 234), id="PIL I;16B"),
        pytest.param(Image.fromarray(_WIDE.astype("i4")), (19, 234), id="PIL I of 16 bits"),
        pytest.param(Image.fromarray(halves(20, 200, "i4")), (20, 200), id="PIL I of 8 bits"),
        pytest.param(png(_WIDE), (19, 234), id="PNG 16"),
        pytest.param(pgm(_WIDE, 65_535), (19, 234), id="PGM 16"),
        pytest.param(pgm(_NARROW, 4_095), (31, 224), id="PGM 12"),
        pytest.param(tiff(picture(_WIDE)), (19, 234), id="TIFF 16"),
        pytest.param(tiff(picture(_WIDE.astype(">u2")), order=">"), (19, 234), id="TIFF 16, big-endian"),
        pytest.param(tiff(picture(_WIDE, photometric=0)), (236, 21), id="TIFF 16, zero is white"),
        pytest.param(
            tiff(picture(twelve_bits(_NARROW), bits=12, tags={256: [64]})), (31, 225), id="TIFF 12, not a sixteenth"
        ),
        pytest.param(tiff(picture(halves(5_000, 60_000, "<u2", 3), photometric=2)), (19, 234), id="TIFF 16 RGB"),
        pytest.param(tiff(picture(halves(20, 200, "<u4"))), (20, 200), id="TIFF 32 of 8 bits"),
        pytest.param(tiff(picture(_WIDE.astype("<i4"), sample_format=2)), (19, 234), id="TIFF signed 32 of 16 bits"),
    ],
)
def test_integers_are_scaled(image: object, grays: tuple[int, int]) -> None:
    found = seen(image)
    assert abs(found[0] - grays[0]) <= 2
    assert abs(found[1] - grays[1]) <= 2


def test_zero_is_white_in_a_tiff_that_the_user_opened() -> None:
    opened = Image.open(io.BytesIO(tiff(picture(_WIDE, photometric=0))))
    dark, light = seen(opened)
    assert dark > 230
    assert light < 26


@pytest.mark.parametrize(
    ("image", "says"),
    [
        pytest.param(Image.fromarray(halves(0.2, 0.8, "f4")), "floats", id="PIL F in 0..1"),
        pytest.param(Image.fromarray(halves(1_000, 60_000, "f4")), "floats", id="PIL F above 255"),
        pytest.param(Image.fromarray(halves(100_000, 900_000, "i4")), "100,000 to 900,000", id="PIL I above 16 bits"),
        pytest.param(Image.fromarray(halves(-5, 200, "i4")), "-5 to 200", id="PIL I below 0"),
        pytest.param(Image.open(io.BytesIO(pfm(halves(0.2, 0.8, "f4")))), "floats", id="PFM, opened"),
        pytest.param(pfm(halves(0.2, 0.8, "f4")), "PFM", id="PFM"),
        pytest.param(tiff(picture(halves(0.2, 0.8, "<f4"), sample_format=3)), "floats", id="TIFF float"),
        pytest.param(tiff(picture(halves(0.2, 0.8, ">f4"), sample_format=3), order=">"), "floats", id="TIFF >float"),
        pytest.param(tiff(picture(halves(0.2, 0.8, "<f2"), sample_format=3)), "16-bit floats", id="TIFF half"),
        pytest.param(tiff(picture(halves(0.2, 0.8, "<f8"), sample_format=3)), "64-bit floats", id="TIFF double"),
        pytest.param(tiff(picture(halves(8e8, 3.4e9, "<u4"))), "32-bit", id="TIFF u4"),
        pytest.param(tiff(picture(halves(8e8, 3.4e9, ">u4")), order=">"), "32-bit", id="TIFF >u4"),
        pytest.param(tiff(picture(halves(-9, 90, "<i4"), sample_format=2)), "32-bit", id="TIFF i4"),
        pytest.param(tiff(picture(halves(500, 30_000, "<i2"), sample_format=2)), "signed 16-bit", id="TIFF i2"),
        pytest.param(tiff(picture(halves(-100, 100, "i1"), sample_format=2)), "signed 8-bit", id="TIFF i1"),
        pytest.param(
            Image.open(io.BytesIO(tiff(picture(halves(-100, 100, "i1"), sample_format=2)))),
            "signed 8-bit",
            id="TIFF i1, opened",
        ),
        pytest.param(
            tiff(
                picture(
                    np.ascontiguousarray(halves(9, 60_000, "<u2", 3).transpose(2, 0, 1)), photometric=2, planes=True
                )
            ),
            "in separate planes",
            id="TIFF 16 RGB in planes",
        ),
        pytest.param(halves(-20, 3_000, "i4"), "-20 to 3,000", id="array i4 below 0"),
        pytest.param(halves(20, 3_000_000_000, "u4"), "32-bit", id="array u4 above 16 bits"),
        *(
            pytest.param(halves(20, 120, kind), re.escape(f"type '{np.dtype(kind).str}'"), id=f"array {kind}")
            for kind in ("i1", "i2", "i8", "u8", "f2", "f4", "f8", "c8", "m8[s]")
        ),
    ],
)
def test_values_without_black_and_white_points_are_refused(image: object, says: str) -> None:
    for work in (encode, upright):
        with pytest.raises(ImageError, match=says):
            work(image)
