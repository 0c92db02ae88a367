"""Errors for unsupported files name their format and what to do, and say "damaged" only if they are."""

from __future__ import annotations

import gzip
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from moondream_async import ImageError
from moondream_async._images.prepare import encode
from tests.support.pictures import file
from tests.support.tiffs import picture, tiff


def archive(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        for name in names:
            opened.writestr(name, "x")
    return buffer.getvalue()


JPEG = file(Image.new("RGB", (64, 48), "red"), "JPEG")
FRAME = JPEG.find(b"\xff\xc0")
BMP = file(Image.new("RGB", (64, 48), "red"), "BMP")
WHOLE = {
    "12-bit JPEG": (JPEG[: FRAME + 4] + b"\x0c" + JPEG[FRAME + 5 :], "12 bits"),
    "JPEG of two channels": (JPEG[: FRAME + 9] + b"\2" + JPEG[FRAME + 10 :], "2 channels"),
    "JPEG-LS": (JPEG[: FRAME + 1] + b"\xf7" + JPEG[FRAME + 2 :], "lossless JPEG"),
    "float RGB TIFF": (tiff(picture(np.zeros((8, 8, 3), "<f4"), photometric=2, sample_format=3)), "32-bit floats"),
    "TIFF of 4 gray channels": (tiff(picture(np.zeros((8, 8, 4), "<u2"))), "4 channels of 16-bit"),
    "TIFF of 4 8-bit channels": (tiff(picture(np.zeros((8, 8, 4), "u1"))), "unsupported"),
    "TIFF of 14 bits": (tiff(picture(np.zeros((8, 8), "<u2"), bits=14)), "14-bit"),
    "TIFF, gray with alpha, 16": (tiff(picture(np.zeros((8, 8, 2), "<u2"), tags={338: [2]})), "2 channels"),
    "TIFF, LERC": (tiff(picture(np.zeros((8, 8), "u1"), tags={259: [34887]})), "compression 34887"),
    "TIFF, JPEG 2000": (tiff(picture(np.zeros((8, 8), "u1"), tags={259: [34712]})), "compression 34712"),
    "BMP of a JPEG": (BMP[:30] + b"\4" + BMP[31:], "compression"),
    "SVG": (b"<svg xmlns='x'/>", "SVG"),
    "SVG with a prolog": (b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- drawn -->\n<svg/>", "SVG"),
    "SVG with a doctype": (b"<!DOCTYPE svg PUBLIC 'x' 'y'><svg/>", "SVG"),
    "HTML": (b"\n<!-- x -->\n<html><svg/></html>", "HTML"),
    "JSON": (b'{"error": "no such key"}', "JSON"),
    "PDF": (b"%PDF-1.7\n", "PDF"),
    "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0", "EPS"),
    "PSD": (b"8BPS\0\1" + bytes(20), "PSD"),
    "JPEG XL": (b"\xff\x0a" + bytes(20), "JPEG XL"),
    "JPEG XL, boxed": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20), "JPEG XL"),
    "OpenEXR": (b"v/1\1" + bytes(20), "OpenEXR"),
    "Radiance": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "HDR"),
    "DICOM": (bytes(128) + b"DICM" + bytes(20), "DICOM"),
    "FITS": (b"SIMPLE  =                    T", "FITS"),
    "NumPy": (b"\x93NUMPY\1\0", "NumPy"),
    "MP4": (b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41", r"MP4.*moondream_async\.video\.frames"),
    "MOV": (b"\0\0\0\x14ftypqt  \0\0\2\0qt  ", r"MOV.*moondream_async\.video\.frames"),
    "old MOV": (b"\0\0\0\x08wide\0\0\0\0mdat", r"MOV.*moondream_async\.video\.frames"),
    "WebM": (b"\x1aE\xdf\xa3" + bytes(20), r"WebM.*moondream_async\.video\.frames"),
    "AVI": (b"RIFF\0\0\0\0AVI LIST", r"AVI.*moondream_async\.video\.frames"),
    "MPEG-TS": ((b"\x47" + bytes(187)) * 3, r"MPEG-TS.*moondream_async\.video\.frames"),
    "WAV": (b"RIFF\0\0\0\0WAVEfmt ", "WAV"),
    "MP3": (b"ID3\4" + bytes(20), "MP3"),
    "Word": (archive("[Content_Types].xml", "word/document.xml"), "Word"),
    "PowerPoint": (archive("[Content_Types].xml", "ppt/presentation.xml"), "PowerPoint"),
    "old Word": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(20), "Office"),
    "ZIP": (archive("photo.jpg"), "ZIP"),
    "gzip": (gzip.compress(b"x"), "gzip"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    "zeros": (bytes(3_000), "all zeros"),
    "UTF-16": ("plain words".encode("utf-16"), "it is text"),
    "anything": (bytes(range(1, 200)), "not in a supported format"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_unsupported_formats(name: str) -> None:
    data, says = WHOLE[name]
    with pytest.raises(ImageError, match=says) as caught:
        encode(data)
    assert "damaged" not in str(caught.value)
    assert "truncated" not in str(caught.value)


def test_long_prologs_are_cheap() -> None:
    for data in (b"<?xml?>" + b" " * 5_000_000, b"<!--" * 1_000_000, b"\n" * 5_000_000):
        with pytest.raises(ImageError, match="it is"):
            encode(data)
