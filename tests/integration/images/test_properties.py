"""Any bytes give an image or an `ImageError`, within bounded memory and CPU time."""

from __future__ import annotations

import functools
import io
import struct

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from moondream_async import EncodedImage, ImageError, ImageOptions
from moondream_async._images.crop_grid import best_size, crop_grid, detail, seen_size
from moondream_async._images.prepare import encode
from tests.support.effort import scaled
from tests.support.pictures import AVIF, file

_PICTURE = Image.effect_noise((48, 32), 90).convert("RGB")
_EXIF = Image.Exif()
_EXIF[0x0112] = 6
_EXIF[0x010E] = "a description"


def _texts() -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("workflow", "x" * 300, zip=True)
    texts.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>', zip=True)
    return texts


def _heic() -> dict[str, bytes]:
    try:
        import pillow_heif
    except ImportError:
        return {}
    single, grid = io.BytesIO(), io.BytesIO()
    pillow_heif.from_pillow(_PICTURE).save(single, quality=50, exif=_EXIF.tobytes())
    pillow_heif.from_pillow(_PICTURE.resize((256, 128))).save(grid, quality=50, tile_size=128)
    return {"heic": single.getvalue(), "heic grid": grid.getvalue()}


@functools.cache
def _seeds() -> dict[str, bytes]:
    return {
        "jpeg": file(_PICTURE, "JPEG", exif=_EXIF),
        "progressive": file(_PICTURE, "JPEG", progressive=True),
        "cmyk": file(_PICTURE.convert("CMYK"), "JPEG"),
        "png": file(_PICTURE.convert("RGBA"), "PNG", exif=_EXIF),
        "palette": file(_PICTURE.convert("P"), "PNG", transparency=0),
        "apng": file(_PICTURE, "PNG", save_all=True, append_images=[_PICTURE.rotate(90)]),
        "gif": file(_PICTURE.convert("P"), "GIF", save_all=True, append_images=[_PICTURE.convert("P")]),
        "webp": file(_PICTURE, "WEBP", exif=_EXIF),
        "tiff": file(_PICTURE, "TIFF", compression="tiff_lzw", exif=_EXIF),
        "bmp": file(_PICTURE, "BMP"),
        "ppm": file(_PICTURE, "PPM"),
        "ico": file(_PICTURE, "ICO"),
        **({"avif": file(_PICTURE, "AVIF")} if AVIF else {}),
        "jpeg2000": file(_PICTURE, "JPEG2000"),
        "jpeg2000 codestream": file(_PICTURE, "JPEG2000", no_jp2=True, tile_size=(16, 16), precinct_size=(16, 16)),
        "jpeg2000 layers": file(_PICTURE, "JPEG2000", quality_mode="rates", quality_layers=[9, 3], progression="RPCL"),
        "icon of bitmaps": file(_PICTURE, "ICO", bitmap_format="bmp", sizes=[(16, 16), (32, 32)]),
        "webp animation": file(_PICTURE, "WEBP", save_all=True, append_images=[_PICTURE.rotate(90)], exif=_EXIF),
        "tiff chain": file(_PICTURE, "TIFF", save_all=True, append_images=[_PICTURE] * 3, compression="packbits"),
        **{
            f"tiff {compression}": file(_PICTURE, "TIFF", compression=compression)
            for compression in ("tiff_adobe_deflate", "jpeg", "lzma", "zstd")
        },
        "big tiff": file(_PICTURE, "TIFF", big_tiff=True),
        "fax": file(_PICTURE.convert("1"), "TIFF", compression="group4"),
        "png with texts": file(_PICTURE, "PNG", pnginfo=_texts(), icc_profile=bytes(range(256))),
        "mpo": file(_PICTURE, "MPO", save_all=True, append_images=[_PICTURE]),
        "pbm": file(_PICTURE.convert("1"), "PPM"),
        "ppm of 10 bits": b"P6 48 32 1023\n" + _PICTURE.resize((96, 32)).tobytes(),
        "ppm in ascii": b"P3 # of numbers\n48 32 255\n" + " ".join(map(str, _PICTURE.tobytes())).encode(),
        "pbm in ascii": b"P1 48 32\n" + b"1 0\n" * 768,
        "bmp of runs": b"BM"
        + struct.pack("<IHHIIiiHHIIiiII", 0, 0, 0, 1078, 40, 48, 32, 1, 8, 1, 0, 0, 0, 256, 0)
        + bytes(1024)
        + b"\x30\5\0\0" * 32
        + b"\0\1",
        **_heic(),
    }


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A file with bytes changed, moved, doubled, removed or replaced by large numbers."""
    data = bytearray(_seeds()[draw(st.sampled_from(sorted(_seeds())))])
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        what = draw(st.sampled_from(["byte", "number", "cut", "double", "drop", "insert"]))
        length = draw(st.integers(1, 64))
        if what == "byte" and data:
            data[at] = draw(st.integers(0, 255))
        elif what == "number":
            form = draw(st.sampled_from([">I", "<I", ">H", "<H"]))
            most = 2 ** (8 * struct.calcsize(form)) - 1
            data[at : at + struct.calcsize(form)] = struct.pack(form, draw(st.sampled_from([0, 1, 0x7FFF, most])))
        elif what == "cut":
            del data[at:]
        elif what == "double":
            data[at:at] = data[at : at + length]
        elif what == "drop":
            del data[at : at + length]
        else:
            data[at:at] = draw(st.binary(max_size=16))
    return bytes(data)


def outcome(data: object, options: ImageOptions | None = None, *, full_resolution: bool = False) -> EncodedImage | None:
    try:
        return encode(data, options or ImageOptions(), full_resolution=full_resolution)
    except ImageError as exc:
        error = exc
    assert 0 < len(str(error)) < 500
    assert error.__context__ is None or error.__suppress_context__
    return None


@pytest.mark.filterwarnings("ignore")  # Pillow warns about many unusual files
@settings(max_examples=scaled(60, 600), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(damaged(), st.booleans())
def test_damaged_files(data: bytes, full_resolution: bool) -> None:
    image = outcome(data, full_resolution=full_resolution)
    if image is not None:
        assert outcome(image.data) is not None  # the encoded file is complete


@given(st.one_of(st.binary(max_size=400), st.text(max_size=200), st.none(), st.integers(), st.lists(st.integers())))
@settings(deadline=None)
def test_any_object(value: object) -> None:
    outcome(value)


@given(
    st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    st.sampled_from(["RGB", "RGBA", "L", "LA", "P", "CMYK", "1", "I;16"]),
    st.one_of(st.just("auto"), st.none(), st.integers(1, 2000)),
)
@settings(max_examples=scaled(20, 60), deadline=None)
def test_aspect_ratio_is_kept(size: tuple[int, int], mode: str, resize: int | str | None) -> None:
    image = encode(Image.new(mode, size), ImageOptions(resize=resize))  # type: ignore[arg-type]
    assert image.original_size == size
    assert image.width <= size[0]
    assert image.height <= size[1]
    if isinstance(resize, int):
        assert max(image.width, image.height) == min(resize, *[max(size)])
    if resize == "auto":
        assert detail(image.width, image.height) >= detail(*size)


@given(st.integers(1, 20_000), st.integers(1, 20_000))
@example(379, 11_285)  # the other side does not grow where the long one fills another crop
@settings(max_examples=scaled(20, 100), deadline=None)
def test_grid(width: int, height: int) -> None:
    rows, columns = crop_grid(width, height)
    assert rows >= 1
    assert columns >= 1
    assert rows * columns <= 12 or 1 in (rows, columns)  # the model's formula allows more for very long images
    assert crop_grid(height, width) == (columns, rows)
    assert detail(*best_size(width, height)) >= detail(width, height)
    assert seen_size(width, height) == (columns * 266 + 112, rows * 266 + 112)
