"""Image preparation: what is sent unchanged, what is converted and what is refused, checked on pixels."""

from __future__ import annotations

import base64
import io
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from moondream_async import EncodedImage, ImageError
from moondream_async._images.crop_grid import best_size
from moondream_async._images.prepare import encode
from tests.support.pictures import AVIF, file

pytestmark = pytest.mark.usefixtures("each_resizer")


def pixels(image: EncodedImage) -> Image.Image:
    opened = Image.open(io.BytesIO(image.data))
    opened.load()
    assert opened.mode == "RGB"
    assert opened.size == (image.width, image.height)
    assert opened.getexif().get(0x0112, 1) == 1
    return opened


def close(image: EncodedImage, at: tuple[int, int], color: tuple[int, int, int]) -> bool:
    return close_to(image, at, color, 6)


def close_to(image: EncodedImage, at: tuple[int, int], color: tuple[int, int, int], within: int) -> bool:
    found = pixels(image).getpixel(at)
    assert isinstance(found, tuple)
    return all(abs(a - b) <= within for a, b in zip(found, color, strict=True))


def quadrants() -> Image.Image:
    """40 x 20: red, green over blue, white, so that every rotation and reflection is visible."""
    image = Image.new("RGB", (40, 20))
    for x, y, color in ((0, 0, "red"), (20, 0, "lime"), (0, 10, "blue"), (20, 10, "white")):
        image.paste(color, (x, y, x + 20, y + 10))
    return image


@pytest.mark.parametrize(("kind", "media_type"), [("JPEG", "image/jpeg"), ("PNG", "image/png")])
def test_suitable_files_are_sent_unchanged(kind: str, media_type: str) -> None:
    data = file(quadrants(), kind)
    image = encode(data)
    assert image.data == data
    assert image.media_type == media_type
    assert (image.width, image.height, image.original_size) == (40, 20, (40, 20))
    assert image.nbytes == len(data)
    assert image.image_url == f"data:{media_type};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize("kind", ["TIFF", "PNG", "WEBP", "MPO", *(["AVIF"] if AVIF else [])])
def test_orientation_in_other_formats(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = encode(file(quadrants(), kind, exif=exif))
    assert (image.width, image.height, image.original_size) == (20, 40, (20, 40))
    assert close_to(image, (15, 5), (255, 0, 0), 24)
    assert close_to(image, (5, 35), (255, 255, 255), 24)


@pytest.mark.parametrize(("kind", "value"), [(1, b"\6\0\0\0"), (3, b"\6\0\0\0"), (4, b"\6\0\0\0")])
def test_orientation_of_any_integer_type(kind: int, value: bytes) -> None:
    block = b"Exif\0\0II*\0\x08\0\0\0\1\0" + struct.pack("<HHI", 0x0112, kind, 1) + value + bytes(4)
    plain = file(quadrants(), "JPEG")
    image = encode(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + plain[2:])
    assert (image.width, image.height) == (20, 40)


def test_16_bit_transparent_value() -> None:
    assert close(encode(file(Image.new("I;16", (9, 9), 40_000), "PNG", transparency=156)), (4, 4), (156, 156, 156))


def test_orientation_in_xmp() -> None:
    packet = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    image = encode(file(quadrants(), "JPEG", xmp=packet))
    assert (image.width, image.height) == (20, 40)


def test_a_progressive_jpeg() -> None:
    picture = Image.linear_gradient("L").resize((3000, 2000)).convert("RGB")
    plain, progressive = (encode(file(picture, "JPEG", progressive=flag)) for flag in (False, True))
    assert (plain.width, plain.height) == (progressive.width, progressive.height)
    assert close(progressive, (600, 0), (0, 0, 0))
    small = file(picture.resize((300, 200)), "JPEG", progressive=True)
    assert encode(small).data == small


@pytest.mark.parametrize("kind", ["RGBA", "LA", "PA", "P"])
def test_large_images_with_transparency(kind: str) -> None:
    picture = Image.new("RGBA", (4000, 4000), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (0, 0, 2000, 4000))
    converted = picture.convert(kind)
    if not converted.has_transparency_data or converted.convert("RGBA").getpixel((3500, 9)) == (0, 0, 0, 255):
        pytest.skip("this Pillow drops the transparency")
    image = encode(converted)
    assert (image.width, image.height) == best_size(4000, 4000)
    left = (76, 76, 76) if "L" in kind else (255, 0, 0)
    for y in (5, 450, 900):
        assert close(image, (100, y), left)
        assert close(image, (800, y), (255, 255, 255))


needs_avif = pytest.mark.skipif(not AVIF, reason="Pillow writes AVIF from 11.3 on")


class TestAppleAndAndroid:
    @needs_avif
    def test_avif(self) -> None:
        assert close_to(encode(file(Image.new("RGB", (64, 64), "blue"), "AVIF")), (8, 8), (0, 0, 255), 16)

    def heic(self, **options: Any) -> bytes:
        heif = pytest.importorskip("pillow_heif")
        buffer = io.BytesIO()
        heif.from_pillow(quadrants().resize((400, 200))).save(buffer, **options)
        return buffer.getvalue()

    def test_heic(self) -> None:
        image = encode(self.heic())
        assert image.original_size == (400, 200)
        assert close_to(image, (30, 30), (255, 0, 0), 30)

    def test_rotated_heic(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        image = encode(self.heic(exif=exif.tobytes()))
        assert image.original_size == (200, 400)
        assert close_to(image, (170, 30), (255, 0, 0), 30)

    def test_heic_without_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = self.heic()
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        with pytest.raises(ImageError, match=r"pip install 'moondream-async\[heif\]'"):
            encode(data)

    @needs_avif
    def test_avif_with_an_old_pillow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = file(Image.new("RGB", (64, 64), "blue"), "AVIF")
        monkeypatch.delitem(Image.OPEN, "AVIF")
        with pytest.raises(ImageError, match="AVIF, which the installed version of Pillow does not support"):
            encode(data)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_applied(orientation: int) -> None:
    from PIL import ImageOps

    stored = quadrants()
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file(stored, "JPEG", exif=exif, quality=95, subsampling=0)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    image = encode(data)
    assert (image.width, image.height) == upright.size
    assert image.original_size == upright.size
    for at in ((3, 3), (upright.width - 4, 3), (3, upright.height - 4), (upright.width - 4, upright.height - 4)):
        expected = upright.getpixel(at)
        assert isinstance(expected, tuple)
        assert close(image, at, expected)


@pytest.mark.parametrize(
    ("mode", "color", "seen"),
    [
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (255, 0, 0, 255), (255, 0, 0)),
        ("RGBA", (0, 0, 0, 128), (127, 127, 127)),
        ("LA", (0, 0), (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 65535, (255, 255, 255)),
        ("I;16", 32768, (128, 128, 128)),
        ("I;16", 0, (0, 0, 0)),
    ],
)
def test_modes_become_rgb_on_white(mode: str, color: Any, seen: tuple[int, int, int]) -> None:
    image = Image.new(mode, (16, 16), color)
    assert close(encode(file(image, "PNG")), (8, 8), seen)
    assert close(encode(image), (8, 8), seen)


def test_palette_with_transparency() -> None:
    image = Image.new("P", (16, 16), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (8, 0, 16, 16))
    data = encode(file(image, "PNG", transparency=0))
    assert close(data, (3, 3), (255, 255, 255))
    assert close(data, (12, 12), (0, 0, 255))


def test_rgb_with_a_transparent_color() -> None:
    data = encode(file(Image.new("RGB", (16, 16), "red"), "PNG", transparency=(255, 0, 0)))
    assert close(data, (8, 8), (255, 255, 255))


def test_cmyk() -> None:
    assert close(encode(file(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")), (8, 8), (255, 0, 0))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_animations(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
    data = file(frames[0], kind, save_all=True, append_images=frames[1:], duration=50)
    assert close(encode(data), (8, 8), (255, 0, 0))


@pytest.mark.parametrize("kind", ["WEBP", "BMP", "TIFF", "GIF"])
def test_other_formats_are_converted(kind: str) -> None:
    image = encode(file(Image.new("RGB", (16, 16), "blue"), kind))
    assert image.media_type == "image/jpeg"
    assert close(image, (8, 8), (0, 0, 255))


class TestSources:
    DATA = file(Image.new("RGB", (6, 4), "red"), "PNG")

    def test_path_and_str(self, tmp_path: Path) -> None:
        path = tmp_path / "é ü.png"
        path.write_bytes(self.DATA)
        assert encode(path).data == self.DATA
        assert encode(str(path)).data == self.DATA

    @pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
    def test_bytes(self, wrap: Any) -> None:
        assert encode(wrap(self.DATA)).data == self.DATA

    def test_file_objects_are_read_from_their_start(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(self.DATA)
        with path.open("rb") as file_object:
            file_object.seek(0, os.SEEK_END)
            assert encode(file_object).data == self.DATA
            assert not file_object.closed

    def test_files_that_cannot_seek(self) -> None:
        class Pipe:
            rest = TestSources.DATA

            def read(self, size: int = -1) -> bytes:
                piece, self.rest = self.rest[:7], self.rest[7:]
                return piece

        assert encode(Pipe()).data == self.DATA

    def test_pillow_images(self) -> None:
        image = Image.new("RGB", (6, 4), "red")
        assert close(encode(image), (3, 2), (255, 0, 0))
        assert image.size == (6, 4)

    @pytest.mark.parametrize(
        "head",
        ["data:image/png;base64,", "DATA:image/jpeg;BASE64,", "data:;base64,", "data:image/png;charset=x;base64,"],
    )
    def test_data_uris(self, head: str) -> None:
        assert encode(head + base64.b64encode(self.DATA).decode()).data == self.DATA

    def test_data_uri_with_line_breaks_and_percent(self) -> None:
        payload = base64.encodebytes(self.DATA).decode()
        assert encode("data:image/png;base64," + payload).data == self.DATA
        quoted = "".join(f"%{byte:02x}" for byte in self.DATA)
        assert encode("data:image/png," + quoted).data == self.DATA

    @pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
    def test_bare_base64(self, kind: str) -> None:
        data = file(Image.effect_noise((40, 30), 50).convert("RGB"), kind)
        text = base64.b64encode(data).decode()
        for given in (
            text,
            text.rstrip("="),
            base64.urlsafe_b64encode(data).decode(),
            base64.encodebytes(data).decode(),
        ):
            assert encode(given) == encode(data)

    def test_a_file_of_that_name_wins_over_base64(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        name = base64.b64encode(file(Image.new("RGB", (1, 1)), "GIF")).decode().replace("/", "_")
        Path(name).write_bytes(self.DATA)
        assert encode(name).data == self.DATA

    def test_opened_but_not_decoded(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(self.DATA)
        with Image.open(path) as picture:
            assert encode(picture).data == self.DATA
            assert picture.getpixel((1, 1)) == (255, 0, 0)  # it can still be decoded
            assert encode(picture).media_type == "image/jpeg"

    def test_opened_and_changed(self) -> None:
        picture = Image.open(io.BytesIO(file(Image.new("RGB", (30, 30), "red"), "PNG")))
        picture.paste("blue", (0, 0, 30, 30))
        assert close(encode(picture), (8, 8), (0, 0, 255))

    def test_a_later_frame_of_an_animation(self) -> None:
        frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue")]
        picture = Image.open(io.BytesIO(file(frames[0], "PNG", save_all=True, append_images=frames[1:])))
        picture.seek(1)
        assert close(encode(picture), (8, 8), (0, 0, 255))

    def test_encoded_images_are_returned_as_they_are(self) -> None:
        image = encode(self.DATA)
        assert encode(image) is image
        assert image == encode(self.DATA)
        assert hash(image) == hash(encode(self.DATA))
        assert repr(image) == f"EncodedImage(image/png, 6x4, {len(self.DATA)} bytes)"


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"just some text, named .jpg", "it is text"),
        (b"<!DOCTYPE html><html>", "HTML page"),
        (b"<svg xmlns='x'/>", "SVG"),
        (b"%PDF-1.7", "PDF"),
        (b"\x00\x00\x00\x20ftypheic\x00\x00\x00\x00", "cannot be decoded"),
        (bytes(range(256)), "not in a supported format"),
        (file(quadrants(), "JPEG")[:200], "cannot be decoded|not an image"),
        (lambda: file(Image.effect_noise((200, 200), 50).convert("RGB"), "JPEG")[:-3000], "truncated"),
        (lambda: file(Image.effect_noise((200, 200), 50).convert("RGB"), "PNG")[:-3000], "truncated|broken"),
        (png_header(50_000, 50_000), "pixels"),
        (png_header(2**31 - 1, 2**31 - 1), "pixels; more than"),
        (png_header(0, 5), "damaged"),
        ("data:image/png;base64,AAA*", "damaged base64"),
        ("data:image/png;base64,", "empty"),
        ("data:image/png;base64", "no comma"),
        ("nowhere.jpg", "There is no file 'nowhere.jpg'"),
        (lambda: "data:" + ";" * 50_000_000, "no comma"),
        (lambda: "data:," + "%" * 50_000_000, "too large for percent"),
        (lambda: "é" * 20_000_000, "not the base64"),
        (lambda: " " * 20_000_000, "not the base64"),
        ("x" * 300, "no file"),
        ("x" * 10_000, "not the base64 of an image"),
        (base64.b64encode(b"no image, but long enough to be one").decode(), "not the base64 of an image"),
        ("a\0b", "cannot be read"),
        ("", "no file"),
        (None, "not NoneType"),
        (7, "not int"),
        (object(), "not object"),
        (["a.jpg"], "not list"),
        (io.StringIO("text"), "binary mode"),
        (io.BytesIO(b""), "empty"),
    ],
    ids=lambda value: repr(value)[:18],  # without the address, which differs between xdist workers
)
def test_bad_images(data: Any, says: str) -> None:
    with pytest.raises(ImageError, match=says) as caught:
        encode(data() if callable(data) else data)
    assert caught.value.__context__ is None or isinstance(caught.value.__suppress_context__, bool)
    assert len(str(caught.value)) < 400


def test_user_objects_may_raise_anything() -> None:
    class Broken:
        def read(self, size: int = -1) -> bytes:
            raise RuntimeError("disk on fire")

        def __fspath__(self) -> str:
            raise KeyError("no path")

    class BrokenFile:
        read = Broken.read

    for broken in (Broken(), BrokenFile()):
        with pytest.raises(ImageError, match="cannot be read"):
            encode(broken)


def test_bad_paths(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is a directory"):
        encode(tmp_path)
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageError, match="empty"):
        encode(tmp_path / "empty.jpg")
    with pytest.raises(ImageError, match="not a regular file"):
        encode("/dev/zero")
    (tmp_path / "link.png").symlink_to("/dev/zero")
    with pytest.raises(ImageError, match="not a regular file"):
        encode(tmp_path / "link.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    with pytest.raises(ImageError, match="cannot be read"):
        encode(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a regular file"):
        encode(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="no file"):
        encode(tmp_path / "empty.jpg" / "below.jpg")
    closed = (tmp_path / "empty.jpg").open("rb")
    closed.close()
    with pytest.raises(ImageError, match="cannot be read"):
        encode(closed)


class TestSizing:
    def photo(self, size: tuple[int, int] = (4000, 3000), **options: Any) -> bytes:
        return file(Image.linear_gradient("L").resize(size).convert("RGB"), "JPEG", **options)

    def test_large_photo_is_sent_at_the_best_size(self) -> None:
        from moondream_async._images.crop_grid import best_size, detail

        data = self.photo()
        image = encode(data)
        best = best_size(4000, 3000)
        assert detail(image.width, image.height) == detail(*best)
        assert image.width * image.height <= 1.1 * best[0] * best[1]
        assert image.original_size == (4000, 3000)
        assert detail(image.width, image.height) >= 1.4 * detail(4000, 3000)
        assert image.nbytes < len(data)

    def test_rotated_photo(self) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        image = encode(self.photo(exif=exif))
        assert image.original_size == (3000, 4000)
        assert image.width < image.height
        # The gradient starts with black at the top; after a rotation by 90° clockwise, black is on the right.
        assert close(image, (image.width - 2, image.height // 2), (0, 0, 0))
        assert close(image, (1, image.height // 2), (255, 255, 255))

    def test_segment_keeps_full_resolution(self) -> None:
        data = self.photo()
        assert encode(data, full_resolution=True).data == data
        turned = encode(Image.open(io.BytesIO(data)).rotate(90, expand=True), full_resolution=True)
        assert (turned.width, turned.height) == (3000, 4000)

    def test_full_resolution_is_limited_by_max_bytes(self) -> None:
        noise = Image.frombytes("RGB", (2600, 2600), os.urandom(2600 * 2600 * 3))
        image = encode(noise, full_resolution=True)
        assert image.nbytes <= 10 * 1024 * 1024
        assert image.width == 2600  # at a lower quality

    def test_pillow_images_are_not_changed(self) -> None:
        opened = Image.open(io.BytesIO(self.photo()))
        assert encode(opened).width < 4000
        assert opened.size == (4000, 3000)


def test_16_bit_rgb_png() -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = b"\x00" + struct.pack(">HHH", 0xFFFF, 0x8000, 0) * 8
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    data += chunk(b"IDAT", zlib.compress(row * 8)) + chunk(b"IEND", b"")
    image = encode(data)
    assert image.data != data
    assert close(image, (4, 4), (255, 128, 0))


def test_damaged_exif_is_ignored() -> None:
    entries = struct.pack("<HHHIIHHIII", 2, 0x112, 3, 1, 6, 0x128, 4, 1, 1 << 31, 0)
    exif = b"Exif\0\0II*\0\x08\0\0\0" + entries
    plain = file(quadrants(), "JPEG")
    image = encode(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:])
    assert (image.width, image.height) == (20, 40)


def test_8_bit_gray_in_mode_i() -> None:
    assert close(encode(Image.new("I", (9, 9), 200)), (4, 4), (200, 200, 200))


@pytest.mark.parametrize("mode", ["La", "RGBa", "PA", "YCbCr", "LAB", "HSV"])
def test_rare_modes_of_pillow_images(mode: str) -> None:
    assert pixels(encode(Image.new(mode, (9, 9)))).size == (9, 9)
