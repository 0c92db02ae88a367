"""What a file is, by its first bytes: names and extensions lie (pure)."""

from __future__ import annotations

_HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_AVIF = (b"avif", b"avis")
_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\0\0\1\0", "ICO"),
    *((b"P%d" % n, "PPM") for n in range(1, 7)),
)

SUFFIXES = frozenset(
    ".avif .bmp .gif .heic .heif .ico .j2k .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()  # noqa: SIM905
)
"""How the names of image files end, where many files have to be told apart unread."""


def kind_of(data: bytes) -> str | None:
    """The image format that these first bytes announce, under Pillow's name for it; None for anything else."""
    if data[4:8] == b"ftyp":
        return _kind_of_brands(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((name for signature, name in _SIGNATURES if data.startswith(signature)), None)


def _kind_of_brands(data: bytes) -> str | None:
    # The major brand may be as general as `mif1`; the compatible ones tell AVIF from HEIC.
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, end, 4))]
    if any(brand in _AVIF for brand in brands):
        return "AVIF"
    return "HEIF" if any(brand in _HEIF for brand in brands) else None


def describe(data: bytes) -> str:
    """What a file that is no image seems to be, to end the sentence "it is ..."."""
    head = data[:64].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html")):
        return "an HTML page (perhaps an error page that was downloaded in the image's place)"
    if head.startswith((b"<svg", b"<?xml")):
        return "SVG or XML; convert it to PNG first"
    if head.startswith(b"%pdf"):
        return "a PDF; convert its page to PNG first"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in data[:64]):
        return "text"
    return "not a format that is read here, or damaged at its start"
