"""Every `ImageError` names its image, without secrets."""

from __future__ import annotations

import io
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from moondream_async import EncodedImage, ImageError, ImageOptions
from moondream_async._images.fingerprint import content_id
from moondream_async._images.prepare import encode, upright
from moondream_async._images.source_names import redact_url
from tests.support.pictures import file
from tests.support.tiffs import picture, tiff

RED = file(Image.new("RGB", (6, 4), "red"), "PNG")


class Named(io.BytesIO):
    def __init__(self, data: bytes, **names: Any) -> None:
        super().__init__(data)
        self.__dict__.update(names)


def failing(image: object) -> ImageError:
    with pytest.raises(ImageError) as caught:
        encode(image)
    with pytest.raises(ImageError) as other:
        upright(image)
    assert other.value.image == caught.value.image
    error = pickle.loads(pickle.dumps(caught.value))
    assert (str(error), error.image) == (str(caught.value), caught.value.image)
    assert error.image is not None
    assert str(error).count(error.image) == 1
    return caught.value


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (b"text", "bytes (4 bytes)"),
        (bytearray(b"x" * 1_234), "bytes (1,234 bytes)"),
        (b"", "bytes (0 bytes)"),
        (memoryview(b"text"), "bytes (4 bytes)"),
        ("data:,hello", "data: URI (11 characters)"),
        ("x" * 5_000, "text (5,000 characters)"),
        (Image.new("F", (6, 4)), "PIL image (F, 6 x 4)"),
        (np.zeros((6, 4), "f4"), "array (shape (6, 4), type <f4)"),
        (io.BytesIO(b"text"), "file object (BytesIO)"),
        (Named(b"text", name="a.png"), "a.png"),
        (Named(b"text", filename="b.png"), "b.png"),
        (Named(b"text", name=7), "file object (Named)"),
        (io.StringIO("text"), "file object (StringIO)"),
        (None, "NoneType"),
        ("nowhere.jpg", "nowhere.jpg"),
        (Path("no/where.jpg"), str(Path("no/where.jpg"))),
        ("a\nb\x1b[31m.png", r"a\nb\x1b[31m.png"),
        ("é.png", "é.png"),
        ("a\0b", r"a\x00b"),
    ],
    ids=lambda value: repr(value)[:10],
)
def test_names_by_type(image: object, name: str) -> None:
    assert failing(image).image == name


def test_files(tmp_path: Path) -> None:
    for data in (
        b"text",
        b"",
        RED[:40],
        b"P6\n" + b"#" * 9_000,
        tiff(picture(np.zeros((4, 4), "f4"), sample_format=3)),
    ):
        path = tmp_path / "a.png"
        path.write_bytes(data)  # one is refused by the guards, one because of its depth
        for image in (path, str(path)):
            assert failing(image).image == str(path)
        with path.open("rb") as opened:
            assert failing(opened).image == str(path)


def test_image_opened_by_pillow(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(picture(np.zeros((4, 4), "f4"), sample_format=3)))
    with Image.open(path) as opened:
        assert failing(opened).image == f"{path}, PIL image (F, 4 x 4)"


def test_open_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 300)
    for path, says in (
        (tmp_path, "is a directory"),
        (tmp_path / "none.png", "There is no file"),
        (long, "There is no file"),
    ):
        error = failing(path)
        assert says in str(error)
        assert error.image in (str(path), str(path)[:80] + "…")
    (tmp_path / "a.png").write_bytes(RED)

    def denied(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", denied)
        with pytest.raises(ImageError, match=r"a\.png' cannot be read: Permission denied\."):
            encode(tmp_path / "a.png")


def test_image_that_cannot_be_made_to_fit() -> None:
    with pytest.raises(ImageError, match=r"PIL image \(RGB, 60 x 60\)"):
        encode(Image.effect_noise((60, 60), 90).convert("RGB"), ImageOptions(max_bytes=10))


def test_images_of_map() -> None:
    with pytest.raises(ImageError, match=r"\[file object \(StringIO\)\]"):
        content_id(io.StringIO("text"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:secret@h.example:8443/a.png?sig=secret#secret", "https://h.example:8443/a.png"),
        (" http://h.example/a.png ", "http://h.example/a.png"),
        ("http://[::1/a?secret", "http URL"),
        ("https://h.example/" + "x" * 500, "https://h.example/" + "x" * 62 + "…"),
    ],
)
def test_urls_are_redacted(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@pytest.mark.parametrize("scheme", ["s3", "gs", "ftp", "sftp", "hdfs", "blob"])
def test_other_schemes_are_refused(scheme: str) -> None:
    with pytest.raises(ImageError, match=rf"{scheme}:// is not supported") as caught:
        encode(f"{scheme}://me:secret@bucket/a.png?X-Amz-Signature=secret")
    assert caught.value.image == f"{scheme}://bucket/a.png"
    assert "secret" not in str(caught.value)


class TestPaths:
    @pytest.mark.parametrize("name", ["a.png", "a b.png", "é.png", "50%.png", "a#b.png", "a?b.png"])
    @pytest.mark.parametrize("quoted", [True, False])
    @pytest.mark.parametrize("head", ["file://", "file://localhost", "FILE://", "file:", " file://"])
    def test_file_urls(self, tmp_path: Path, name: str, quoted: bool, head: str) -> None:
        path = tmp_path / name
        path.write_bytes(RED)
        assert encode(head + (path.as_uri().removeprefix("file://") if quoted else str(path))).data == RED

    def test_bad_file_urls(self, tmp_path: Path) -> None:
        for url, says in (
            (f"file://{tmp_path}/none.png", "There is no file"),
            ("file://server/a.png", "another machine"),
            ("file://a.png", "file:///"),
            (f"file://{tmp_path}", "is a directory"),
            ("file:///%00", "cannot be read"),
        ):
            with pytest.raises(ImageError, match=says):
                encode(url)

    def test_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "a.png").write_bytes(RED)
        for image in ("~/a.png", Path("~/a.png"), Path("~") / "a.png"):
            assert encode(image).data == RED
        with pytest.raises(ImageError, match=r"There is no file '~/b\.png'"):
            encode("~/b.png")
        with pytest.raises(ImageError, match="There is no file"):
            encode("~nobody-of-this-name/b.png")

    def test_file_name_that_starts_with_a_tilde(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "~a.png").write_bytes(RED)
        assert encode("~a.png").data == RED


def test_spooled_files() -> None:
    for size in (10, 1_000_000):  # on the disk, in memory
        with tempfile.SpooledTemporaryFile(max_size=size) as opened:
            opened.write(RED)
            assert encode(opened).data == RED


def test_encoded_images_need_no_name() -> None:
    assert isinstance(encode(encode(RED)), EncodedImage)
