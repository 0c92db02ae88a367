"""Folders that may be read: names that lead out of them, and files that are replaced after the check."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from moondream_async import ConfigurationError, ImageError
from moondream_async._images.folders import Folders, LazyFile, images_below, read_file

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links and pipes")
SECRET = b"the secret"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with an image, next to a secret one, and links of all kinds."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "a.png").write_bytes(SECRET)
    root = tmp_path / "root"
    (root / "below").mkdir(parents=True)
    (root / "a.png").write_bytes(b"image")
    (root / "below" / "b.png").write_bytes(b"below")
    (root / "link.png").symlink_to("a.png")
    (root / "out.png").symlink_to(tmp_path / "secret" / "a.png")
    (root / "folder").symlink_to(tmp_path / "secret")
    (root / "loop.png").symlink_to("loop.png")
    (root / "device.png").symlink_to("/dev/zero")
    (root / "environ.png").symlink_to("/proc/self/environ")
    return root


@pytest.mark.parametrize("name", ["a.png", "./a.png", "below/../a.png", "link.png", "below/b.png", "{root}/a.png"])
def test_names_inside(root: Path, name: str) -> None:
    data = Folders.of([root]).read(name.format(root=root))
    assert data.data == (b"below" if "b.png" in name else b"image")


@pytest.mark.parametrize(
    "name",
    [
        *("../secret/a.png", "below/../../secret/a.png", "{root}/../secret/a.png", "{root}-secret/a.png"),
        *("out.png", "folder/a.png", "folder/../secret/a.png", "device.png", "environ.png"),
        *("/etc/passwd", "/proc/self/environ", "/proc/self/root/etc/passwd", "/proc/self/cwd/../x", "/dev/stdin"),
        *("~/a.png", "~root/a.png", "..", "../root-secret/a.png"),
    ],
)
def test_names_that_lead_out(root: Path, name: str) -> None:
    with pytest.raises(ImageError, match="is not in a folder that may be read") as caught:
        Folders.of([root]).read(name.format(root=root))
    assert "secret/a.png" not in str(caught.value) or "secret" in name  # a link's target is not shown


def test_what_exists_outside_is_not_revealed(root: Path) -> None:
    folders = Folders.of([root])
    errors: list[str] = []
    for name in ("../secret/a.png", "../secret/b.png", "folder/a.png", "folder/b.png"):
        with pytest.raises(ImageError) as caught:
            folders.read(name)
        errors.append(str(caught.value).replace(name, "NAME"))
    assert len(set(errors)) == 1


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is not a path"),
        (" \t", "is not a path"),
        ("a\0.png", "is not a path"),
        ("a\ud800.png", "is not a path"),
        ("\\\\server\\share\\a.png", "names another machine"),
        ("//server/share/a.png", "names another machine"),
        ("\\\\?\\C:\\a.png", "names another machine"),
        ("file:///etc/passwd", "pass the path itself"),
        ("FILE:a.png", "pass the path itself"),
        ("data:image/png;base64,AAAA", "is neither a path nor"),
        ("ftp://example.com/a.png", "is neither a path nor"),
        ("x" * 5000, "is too long for a path"),
        ("x" * 300, "There is no file"),
        ("/".join(["x"] * 2000), "There is no file"),
        ("nope.png", "There is no file 'nope.png'"),
        ("loop.png", "There is no file"),
        ("a.png/b.png", "There is no file"),
        ("below", "is not a regular file"),
        (".", "is not a regular file"),
    ],
)
def test_names_that_are_no_files(root: Path, name: str, problem: str) -> None:
    with pytest.raises(ImageError, match=problem) as caught:
        Folders.of([root]).read(name)
    assert len(str(caught.value)) < 600


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors")
def test_no_descriptor_is_left_open(root: Path, tmp_path: Path) -> None:
    folders = Folders.of([root])
    before = len(list(Path("/proc/self/fd").iterdir()))
    gone = folders.locate("below/b.png")
    (root / "below" / "b.png").unlink()
    for _ in range(3):
        assert folders.read("a.png").data == b"image"
        for name in (".", "below"):
            with pytest.raises(ImageError):
                folders.read(name)
        with pytest.raises(ImageError, match="cannot be read"):
            read_file(gone)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_pipes_are_refused_without_waiting(root: Path) -> None:
    os.mkfifo(root / "pipe.png")
    with pytest.raises(ImageError, match="is not a regular file"):
        Folders.of([root]).read("pipe.png")


def test_a_file_that_becomes_a_link_is_not_followed(root: Path, tmp_path: Path) -> None:
    place = Folders.of([root]).locate("a.png")
    (root / "a.png").unlink()
    (root / "a.png").symlink_to(tmp_path / "secret" / "a.png")
    with pytest.raises(ImageError, match="cannot be read"):
        read_file(place)


def test_a_folder_that_becomes_a_link_is_not_followed(root: Path, tmp_path: Path) -> None:
    place = Folders.of([root]).locate("below/b.png")
    (root / "below").rename(root / "moved")
    (root / "below").symlink_to(tmp_path / "secret")
    (tmp_path / "secret" / "b.png").write_bytes(SECRET)
    with pytest.raises(ImageError, match="cannot be read"):
        read_file(place)


def test_several_folders_and_single_files(root: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    both = Folders.of([root / "below", secret])
    assert both.read("a.png").data == SECRET
    assert both.read("b.png").data == b"below"
    single = Folders((root / "below",), files={secret / "a.png"})
    assert single.read(str(secret / "a.png")).data == SECRET
    (secret / "b.png").write_bytes(SECRET)
    with pytest.raises(ImageError, match="not in a folder"):
        single.read(str(secret / "b.png"))
    with pytest.raises(ImageError, match="there is no such folder"):
        Folders(()).read("a.png")


def test_images_below_have_no_links_and_nothing_hidden(root: Path) -> None:
    (root / ".hidden").mkdir()
    (root / ".hidden" / "c.png").write_bytes(b"")
    (root / ".c.png").write_bytes(b"")
    (root / "notes.txt").write_bytes(b"")
    places = list(images_below(Folders.of([root]).locate(".")))
    assert [place.names for place in places] == [("a.png",), ("below", "b.png")]


def test_a_lazy_file_is_read_when_it_is_needed(root: Path) -> None:
    file = LazyFile(Folders.of([root]).locate("a.png"))
    (root / "a.png").write_bytes(b"changed")
    assert (file.read(100), file.read(100)) == (b"changed", b"")


def test_the_roots_of_a_client(root: Path, tmp_path: Path) -> None:
    uris = [root.as_uri(), "file://localhost" + str(root / "below"), "https://example.com/", "file://server/share"]
    uris += [(tmp_path / "gone").as_uri(), (root / "a.png").as_uri()]
    assert Folders.of_roots(uris).paths == (root.resolve(), (root / "below").resolve())
    spaced = tmp_path / "with space %20 ü"
    spaced.mkdir()
    assert Folders.of_roots([spaced.as_uri()]).paths == (spaced.resolve(),)


def test_the_working_directory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert Folders.of_working_directory().paths == (root.resolve(),)
    monkeypatch.setenv("HOME", str(root))
    assert Folders.of_working_directory().paths == ()
    monkeypatch.chdir("/")
    assert Folders.of_working_directory().paths == ()


def test_folders_must_exist(root: Path) -> None:
    for name in ("nope", "a.png"):
        with pytest.raises(ConfigurationError, match="is not a folder"):
            Folders.of([root / name])
