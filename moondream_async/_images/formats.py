"""Detect what a file is by its first bytes, because names and extensions are unreliable (pure)."""

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
"""Extensions of image files, for selecting files without reading them."""


def detect_format(data: bytes) -> str | None:
    """Return Pillow's name of the image format that a file's first bytes indicate, or None for any other file."""
    if data[4:8] == b"ftyp":
        return _format_of_brands(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return next((name for signature, name in _SIGNATURES if data.startswith(signature)), None)


def _format_of_brands(data: bytes) -> str | None:
    # The major brand may be as general as `mif1`; the compatible brands distinguish AVIF from HEIC.
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, end, 4))]
    if any(brand in _AVIF for brand in brands):
        return "AVIF"
    return "HEIF" if any(brand in _HEIF for brand in brands) else None


def describe(data: bytes) -> str:
    """Describe what an unsupported file appears to be, to complete the sentence "it is ..."."""
    if not data.strip(b"\0"):
        return "all zeros, as an interrupted download leaves it"
    for signature, at, description in _UNSUPPORTED:
        if data.startswith(signature, at):
            return description
    if data[4:8] == b"ftyp":
        return _describe_brand(data[8:12])
    if data[:4] == b"PK\3\4":
        return _describe_zip(data)
    if data[:1] == b"\x47" and data[188:189] == b"\x47":
        return f"a video (MPEG-TS); {READ_VIDEO}"
    if data[-18:-2] == b"TRUEVISION-XFILE":
        return f"a Targa image (TGA); {_TO_PNG}"
    return _describe_text(data) or f"not in a supported format (its first bytes are {data[:8].hex(' ')})"


def _describe_brand(brand: bytes) -> str:
    if brand == b"crx ":
        return f"a camera's RAW photo (CR3); {_TO_JPEG}"
    if brand in (b"M4A ", b"M4B ", b"F4A "):
        return "an audio file (M4A)"
    if brand[:3] == b"jp2" or brand in (b"jpx ", b"jpm ", b"mjp2"):
        return f"a JPEG 2000 of an unsupported kind; {_TO_PNG}"
    return f"a video ({'MOV' if brand == b'qt  ' else 'MP4'}); {READ_VIDEO}"


def _describe_zip(data: bytes) -> str:
    names = data[:_MAX_START]
    for folder, document in ((b"word/", "a Word document"), (b"ppt/", "a PowerPoint file"), (b"xl/", "an Excel file")):
        if folder in names:
            return f"{document}; {_EXPORT}"
    if b"mimetypeapplication/vnd.oasis.opendocument" in names:
        return f"an OpenDocument file; {_EXPORT}"
    if b"mimetypeapplication/epub" in names:
        return "an EPUB book"
    if b"mimetypeimage/openraster" in names:
        return f"an OpenRaster image; {_TO_PNG}"
    if b"[Content_Types].xml" in names:
        return f"an Office document; {_EXPORT}"
    return f"a ZIP archive; {_UNPACK}"


def _describe_text(data: bytes) -> str | None:
    start = data[:_MAX_START]
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        start = start.decode("utf-16", "replace").encode()
    head = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if head.startswith(b"<") and (b"<!doctype html" in head or b"<html" in head):
        return "an HTML page (perhaps an error page downloaded instead of the image)"
    if head.startswith(b"<") and (b"<svg" in head or b"<!doctype svg" in head):
        return f"an SVG drawing; {_TO_PNG}"
    if head.startswith(b"<?xml"):
        return "XML"
    if head[:1] in (b"{", b"[") and head[1:].lstrip()[:1] in (b'"', b"{", b"[", b"}", b"]"):
        return "JSON (perhaps an error message downloaded instead of the image)"
    if head.startswith((b"http://", b"https://")):
        return "a URL; pass it as a str"
    if all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in start[:64]):
        return "text"
    return None


_MAX_START = 4096  # bytes that are searched
_TO_PNG = "convert it to PNG first"
_TO_JPEG = "convert it to JPEG first"
_EXPORT = "export its page or picture as PNG first"
_UNPACK = "unpack it first"
READ_VIDEO = "use moondream_async.video.frames"
_FLOATS = "whose brightness values have no white point; convert it to 8-bit PNG first"
_UNSUPPORTED = (
    (b"%PDF", 0, "a PDF; convert its page to PNG first"),
    (b"%!PS", 0, f"a PostScript file (EPS); {_TO_PNG}"),
    (b"\xc5\xd0\xd3\xc6", 0, f"a PostScript file (EPS); {_TO_PNG}"),
    (b"8BPS", 0, f"a Photoshop file (PSD); {_TO_PNG}"),
    (b"gimp xcf", 0, f"a GIMP file (XCF); {_TO_PNG}"),
    # Camera RAW formats, except those based on TIFF.
    (b"IIRO", 0, f"a camera's RAW photo (ORF); {_TO_JPEG}"),
    (b"IIRS", 0, f"a camera's RAW photo (ORF); {_TO_JPEG}"),
    (b"MMOR", 0, f"a camera's RAW photo (ORF); {_TO_JPEG}"),
    (b"IIU\0", 0, f"a camera's RAW photo (RW2); {_TO_JPEG}"),
    (b"FUJIFILMCCD-RAW", 0, f"a camera's RAW photo (RAF); {_TO_JPEG}"),
    (b"FOVb", 0, f"a camera's RAW photo (X3F); {_TO_JPEG}"),
    (b"\0MRM", 0, f"a camera's RAW photo (MRW); {_TO_JPEG}"),
    (b"HEAPCCDR", 6, f"a camera's RAW photo (CRW); {_TO_JPEG}"),
    # Images.
    (b"\xff\x0a", 0, f"a JPEG XL; {_TO_PNG}"),
    (b"\0\0\0\x0cJXL ", 0, f"a JPEG XL; {_TO_PNG}"),
    (b"II\xbc", 0, f"a JPEG XR; {_TO_PNG}"),
    (b"v/1\1", 0, f"an OpenEXR image, {_FLOATS}"),
    (b"#?RADIANCE", 0, f"a Radiance HDR image, {_FLOATS}"),
    (b"#?RGBE", 0, f"a Radiance HDR image, {_FLOATS}"),
    (b"PF\n", 0, f"a PFM image, {_FLOATS}"),
    (b"Pf\n", 0, f"a PFM image, {_FLOATS}"),
    (b"PF\r\n", 0, f"a PFM image, {_FLOATS}"),
    (b"Pf\r\n", 0, f"a PFM image, {_FLOATS}"),
    (b"P7\n", 0, f"a PAM image; {_TO_PNG}"),
    (b"qoif", 0, f"a QOI image; {_TO_PNG}"),
    (b"DDS ", 0, f"a DDS texture; {_TO_PNG}"),
    (b"\xabKTX", 0, f"a KTX texture; {_TO_PNG}"),
    (b"icns", 0, f"an icon (ICNS); {_TO_PNG}"),
    (b"\0\0\2\0", 0, f"a Windows cursor or a Targa image; {_TO_PNG}"),
    (b"BPG\xfb", 0, f"a BPG image; {_TO_PNG}"),
    (b"FLIF", 0, f"a FLIF image; {_TO_PNG}"),
    (b"AT&TFORM", 0, f"a DjVu document; {_TO_PNG}"),
    (b"\x0a\5\1", 0, f"a PCX image; {_TO_PNG}"),
    (b"\x01\xda", 0, f"an SGI image; {_TO_PNG}"),
    (b"\x59\xa6\x6a\x95", 0, f"a Sun raster image; {_TO_PNG}"),
    (b"\xd7\xcd\xc6\x9a", 0, f"a Windows metafile (WMF); {_TO_PNG}"),
    (b" EMF", 40, f"a Windows metafile (EMF); {_TO_PNG}"),
    (b"/* XPM", 0, f"an XPM image; {_TO_PNG}"),
    # Scientific data.
    (b"DICM", 128, f"a DICOM file; {_TO_PNG}"),
    (b"SIMPLE  =", 0, f"a FITS file; {_TO_PNG}"),
    (b"\x89HDF", 0, f"an HDF5 file; {_TO_PNG}"),
    (b"\x93NUMPY", 0, "a NumPy file; load it with numpy.load() and pass the array"),
    # Video and audio.
    (b"\x1aE\xdf\xa3", 0, f"a video (Matroska or WebM); {READ_VIDEO}"),
    (b"AVI ", 8, f"a video (AVI); {READ_VIDEO}"),
    (b"FLV\1", 0, f"a video (FLV); {READ_VIDEO}"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 0, f"a video (WMV); {READ_VIDEO}"),
    (b"\0\0\1\xba", 0, f"a video (MPEG); {READ_VIDEO}"),
    (b"\0\0\1\xb3", 0, f"a video (MPEG); {READ_VIDEO}"),
    *((box, 4, f"a video (MOV); {READ_VIDEO}") for box in (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")),
    (b"OggS", 0, f"an Ogg file; if it is a video, {READ_VIDEO}"),
    (b"WAVE", 8, "an audio file (WAV)"),
    (b"ID3", 0, "an audio file (MP3)"),
    (b"\xff\xfb", 0, "an audio file (MP3)"),
    (b"fLaC", 0, "an audio file (FLAC)"),
    # Documents and archives.
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 0, f"an Office document; {_EXPORT}"),
    (b"{\\rtf", 0, "an RTF document; export its page as PNG first"),
    (b"\x1f\x8b", 0, f"a gzip archive; {_UNPACK}"),
    (b"BZh", 0, f"a bzip2 archive; {_UNPACK}"),
    (b"\xfd7zXZ\0", 0, f"an xz archive; {_UNPACK}"),
    (b"\x28\xb5\x2f\xfd", 0, f"a Zstandard archive; {_UNPACK}"),
    (b"7z\xbc\xaf\x27\x1c", 0, f"a 7z archive; {_UNPACK}"),
    (b"Rar!\x1a\7", 0, f"a RAR archive; {_UNPACK}"),
    (b"ustar", 257, f"a tar archive; {_UNPACK}"),
    (b"SQLite format 3\0", 0, "an SQLite database"),
    (b"PAR1", 0, "a Parquet file"),
    (b"version https://git-lfs", 0, "a Git LFS pointer; run `git lfs pull` to get the image itself"),
)
"""Signatures of unsupported files, their offsets, and descriptions; tried in this order."""
