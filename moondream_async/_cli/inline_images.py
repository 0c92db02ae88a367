"""Draw images in the terminal: with the protocols of kitty and iTerm2, or with colored blocks."""

from __future__ import annotations

import base64
import io
import os
import shutil
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .console import has_color, show_note, write_escapes

if TYPE_CHECKING:
    from PIL.Image import Image

_KITTY_CHUNK = 4096  # bytes of base64 in an escape sequence, at most
_KITTY_PROGRAMS = ("ghostty", "kitty")
_ITERM_PROGRAMS = ("iTerm.app", "WezTerm", "mintty")
_MAX_SIDE = 1600  # pixels sent to a terminal


def show_inline(picture: Image) -> None:
    """Draw an image in the terminal, if stdout is one that shows colors."""
    if not has_color(sys.stdout):
        show_note("--show draws in a terminal with colors only; use --save or --open.")
        return
    program, term = os.getenv("TERM_PROGRAM", ""), os.getenv("TERM", "")
    if "KITTY_WINDOW_ID" in os.environ or program in _KITTY_PROGRAMS or any(name in term for name in _KITTY_PROGRAMS):
        write_escapes("".join(_kitty(picture)))
    elif program in _ITERM_PROGRAMS:
        write_escapes(f"\x1b]1337;File=inline=1;preserveAspectRatio=1:{_png(picture).decode()}\x07\n")
    else:
        write_escapes("".join(_blocks(picture, *shutil.get_terminal_size())))


def _png(picture: Image) -> bytes:
    """Return the image as PNG in base64, not larger than a screen."""
    picture = picture.copy()
    picture.thumbnail((_MAX_SIDE, _MAX_SIDE))
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue())


def _kitty(picture: Image) -> Iterator[str]:
    data = _png(picture).decode()
    for start in range(0, len(data), _KITTY_CHUNK):
        head = "f=100,a=T," if start == 0 else ""
        more = int(start + _KITTY_CHUNK < len(data))
        yield f"\x1b_G{head}m={more};{data[start : start + _KITTY_CHUNK]}\x1b\\"
    yield "\n"


def _blocks(picture: Image, columns: int, rows: int) -> Iterator[str]:
    """Yield lines of half blocks: each character is two pixels, one above the other."""
    scale = min(columns / picture.width, 2 * (rows - 2) / picture.height, 1.0)
    width, height = max(1, int(picture.width * scale)), max(2, int(picture.height * scale) // 2 * 2)
    pixels = picture.convert("RGB").resize((width, height)).tobytes()
    for y in range(0, height, 2):
        for x in range(width):
            upper, lower = (3 * ((y + row) * width + x) for row in (0, 1))
            above, below = pixels[upper : upper + 3], pixels[lower : lower + 3]
            yield f"\x1b[38;2;{above[0]};{above[1]};{above[2]};48;2;{below[0]};{below[1]};{below[2]}m▀"
        yield "\x1b[0m\n"
