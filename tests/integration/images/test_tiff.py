"""TIFFs whose first picture is not the main one: camera RAW photos and image pyramids."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from moondream_async import ImageError
from moondream_async._images.prepare import encode
from moondream_async._images.tiff import directories, main_picture
from tests.support.tiffs import picture, tiff

_THUMBNAIL = np.full((48, 64, 3), (200, 20, 20), "u1")
_SENSOR = np.zeros((96, 128), "<u2")
_PHOTO = np.full((96, 128, 3), (20, 20, 200), "u1")


def thumbnail(**tags: list[int]) -> Any:
    return picture(_THUMBNAIL, photometric=2, tags={254: [1], **{int(tag[1:]): value for tag, value in tags.items()}})


def sensor(photometric: int = 32803, compression: int = 1) -> Any:
    return picture(_SENSOR, photometric=photometric, tags={254: [0], 259: [compression]})


RAW = {
    "DNG": tiff(thumbnail(_50706=[1, 4, 0, 0]), below=sensor()),
    "DNG, linear": tiff(thumbnail(_50706=[1, 4, 0, 0]), below=sensor(34892)),
    "DNG of one picture": tiff(picture(_SENSOR, photometric=32803, tags={50706: [1, 4, 0, 0]})),
    "NEF": tiff(thumbnail(), below=sensor(compression=34713)),
    "NEF, big-endian": tiff(thumbnail(), below=sensor(compression=34713), order=">"),
    "ARW": tiff(thumbnail(), below=sensor(compression=32767)),
    "SRW": tiff(thumbnail(), below=sensor(compression=32770)),
    "PEF": tiff(sensor(compression=65535), thumbnail()),
    "not said to be reduced": tiff(picture(_THUMBNAIL, photometric=2), below=sensor()),
    "in the chain": tiff(thumbnail(), picture(_THUMBNAIL, photometric=2), sensor()),
    "CR2": b"II*\0\x10\0\0\0CR\2\0" + bytes(400),
    "IIQ": b"II*\0\x08\0\0\0IIII" + bytes(400),
    "ORF": b"IIRO\x08\0\0\0" + bytes(400),
    "RW2": b"IIU\0\x18\0\0\0" + bytes(400),
    "RAF": b"FUJIFILMCCD-RAW 0201" + bytes(400),
    "X3F": b"FOVb" + bytes(400),
    "MRW": b"\0MRM" + bytes(400),
    "CRW": b"II\x1a\0\0\0HEAPCCDR" + bytes(400),
    "CR3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(400),
}


@pytest.mark.parametrize("name", RAW)
def test_raw_photos_are_refused(name: str) -> None:
    with pytest.raises(ImageError, match=r"RAW photo.*convert it to JPEG"):
        encode(RAW[name])


def test_raw_photo_opened_by_the_user() -> None:
    with pytest.raises(ImageError, match="RAW photo"):
        encode(Image.open(io.BytesIO(RAW["DNG"])))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("old", [False, True])
def test_reduced_first_page_is_skipped(order: str, old: bool) -> None:
    small = picture(_THUMBNAIL, photometric=2, tags={255: [2]}) if old else thumbnail()
    for data in (
        tiff(small, picture(_PHOTO, photometric=2), order=order),
        tiff(small, thumbnail(), picture(_PHOTO, photometric=2), order=order),
        tiff(small, below=picture(_PHOTO, photometric=2), order=order),
    ):
        image = encode(data)
        assert image.original_size == (128, 96)
        blue = Image.open(io.BytesIO(image.data)).convert("RGB").getpixel((64, 48))
        assert isinstance(blue, tuple)
        assert blue[2] > 150


def test_other_first_pages_are_kept() -> None:
    full, small = picture(_PHOTO, photometric=2), thumbnail()
    for data in (tiff(full), tiff(full, small), tiff(full, below=small), tiff(small), tiff(full, full)):
        assert main_picture(data) is data
        assert encode(data).original_size in ((128, 96), (64, 48))


def test_circular_directories() -> None:
    data = bytearray(tiff(thumbnail(), thumbnail()))
    first = int.from_bytes(data[4:8], "little")
    data[-4:] = first.to_bytes(4, "little")
    assert len(directories(bytes(data))) == 2
    assert encode(bytes(data)).original_size == (64, 48)


def test_number_of_directories_is_limited() -> None:
    assert len(directories(tiff(*(picture(np.zeros((1, 1), "u1")) for _ in range(500))))) == 64


@pytest.mark.parametrize("length", range(0, 400, 7))
def test_truncated_files(length: int) -> None:
    data = RAW["NEF"]
    assert isinstance(directories(data[:length]), list)
