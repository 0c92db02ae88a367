"""Images in the terminal: the escape sequences of each protocol."""

from __future__ import annotations

import base64
import io
import re

import pytest
from PIL import Image

from moondream_async._cli import inline_images
from moondream_async._cli.inline_images import show_inline


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[str]:
    for name in ("KITTY_WINDOW_ID", "TERM_PROGRAM", "TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    written: list[str] = []
    monkeypatch.setattr(inline_images, "write_escapes", written.append)
    monkeypatch.setattr(inline_images, "has_color", lambda _: True)
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "12")
    return written


def noise() -> Image.Image:
    return Image.effect_noise((200, 100), 100).convert("RGB")


def test_kitty(terminal: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-kitty")
    picture = noise()
    show_inline(picture)
    parts = re.findall(r"\x1b_G(f=100,a=T,)?m=([01]);([^\x1b]*)\x1b\\", terminal[0])
    assert [(bool(head), more) for head, more, _ in parts] == [
        (True, "1"),
        *[(False, "1")] * (len(parts) - 2),
        (False, "0"),
    ]
    assert all(len(data) <= 4096 for _, _, data in parts)
    with Image.open(io.BytesIO(base64.b64decode("".join(data for _, _, data in parts)))) as shown:
        assert shown.tobytes() == picture.tobytes()


def test_iterm(terminal: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM_PROGRAM", "iTerm.app")
    show_inline(Image.new("RGB", (3200, 100)))
    match = re.fullmatch(r"\x1b]1337;File=inline=1;preserveAspectRatio=1:(.*)\x07\n", terminal[0])
    assert match is not None
    with Image.open(io.BytesIO(base64.b64decode(match[1]))) as shown:
        assert shown.size == (1600, 50)


@pytest.mark.parametrize(
    ("size", "columns", "lines"), [((200, 100), 20, 5), ((100, 1000), 2, 10), ((4, 4), 4, 2), ((1, 1), 1, 1)]
)
def test_blocks(size: tuple[int, int], columns: int, lines: int, terminal: list[str]) -> None:
    show_inline(Image.new("RGB", size, (1, 2, 3)))
    block = "\x1b[38;2;1;2;3;48;2;1;2;3m▀"
    assert terminal[0] == (block * columns + "\x1b[0m\n") * lines


def test_not_a_terminal(
    terminal: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(inline_images, "has_color", lambda _: False)
    show_inline(noise())
    assert terminal == []
    assert "use --save or --open" in capsys.readouterr().err
