"""Run a command in a terminal, and save what it shows as an SVG, which moves if the command takes time."""

from __future__ import annotations

import io
import os
import pty
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import attrs
from rich.ansi import AnsiDecoder
from rich.console import Console
from rich.text import Text

_WIDTH = 92  # characters
_STEP = 0.15  # seconds that a screen is shown at least
_HOLD = 4.0  # seconds that the last one is shown before all begins again
_OVERWRITTEN = re.compile(r"[^\n]*\r\x1b\[2K")
_CONTROL = re.compile(r"\x1b\[\?25[lh]")
_SERVER = re.compile(r"http://127\.0\.0\.1:\d+")

# As rich's own, but without fonts from the web, and with the parts apart
_PARTS = "{styles}\0{lines}\0{chrome}\0{backgrounds}\0{matrix}\0{width}\0{height}\0{terminal_width}\0{terminal_height}"
_SVG = """<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
text {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 20px; }}
.{id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate(9, 41)" clip-path="url(#{id}-clip-terminal)">
{screens}
</g>
</svg>
"""


@attrs.frozen
class Screen:
    """What the terminal shows from a time on, in seconds."""

    start: float
    shown: str


def record(command: str, svg: Path, *, folder: str, base_url: str, slower: float = 1.0) -> None:
    """Run one of our commands and draw it.

    Args:
        command: The command line, which begins with `moondream-async`.
        svg: The file to write.
        folder: The working directory.
        base_url: The server.
        slower: How many times slower the SVG moves than the command did; 0 for a still picture of its last screen.
    """
    screens = run_in_terminal(shlex.split(command)[1:], folder, base_url)
    if slower == 0:
        screens = screens[-1:]
    svg.write_text(draw(command, thin_out(screens, slower), svg.stem), encoding="utf-8")


def run_in_terminal(arguments: list[str], folder: str, base_url: str) -> list[Screen]:
    """Run the command in a pseudo terminal, and return what it showed after each of its writes."""
    home = {"HOME": folder, "XDG_CONFIG_HOME": f"{folder}/config"}
    size = {"COLUMNS": str(_WIDTH), "LINES": "40", "TERM": "xterm-256color"}
    environment = {"PATH": os.environ["PATH"], "MOONDREAM_BASE_URL": base_url, **home, **size}
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.execve(sys.executable, [sys.executable, "-m", "moondream_async", *arguments], environment)
    started_at, written, screens = time.monotonic(), bytearray(), list[Screen]()
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the process has ended
            break
        if not piece:
            break
        written += piece
        screens.append(Screen(time.monotonic() - started_at, written.decode(errors="ignore")))
    os.waitpid(process, 0)
    return screens


def thin_out(screens: Sequence[Screen], slower: float) -> list[Screen]:
    """Leave out screens that would be shown too shortly."""
    kept: list[Screen] = []
    for screen in screens:
        slowed = attrs.evolve(screen, start=screen.start * slower)
        if kept and slowed.start - kept[-1].start < _STEP:
            slowed = attrs.evolve(slowed, start=kept.pop().start)
        kept.append(slowed)
    return kept


def draw(command: str, screens: Sequence[Screen], name: str) -> str:
    """Return the SVG: all screens on top of each other, one of which is visible at a time."""
    pages = [_lines(screen.shown) for screen in screens]
    height = max(map(len, pages))
    total = screens[-1].start + _HOLD
    styles, lines, drawn = [], [], []
    for number, (screen, page) in enumerate(zip(screens, pages, strict=True)):
        unique = f"{name}-{number}"
        parts = _export(command, page, height, unique)
        until = screens[number + 1].start if number + 1 < len(screens) else None
        styles += [parts[0], _visibility(unique, screen.start if number else 0.0, until, total)]
        lines.append(parts[1])
        drawn.append(f'<g class="screen {unique}">{parts[3]}{parts[4]}</g>')
    chrome, (width, total_height, terminal_width, terminal_height) = parts[2], parts[5:]
    return _SVG.format(
        id=unique,
        styles="\n".join(styles),
        lines="\n".join(lines),
        chrome=chrome,
        screens="\n".join(drawn),
        width=width,
        height=total_height,
        terminal_width=terminal_width,
        terminal_height=terminal_height,
    )


def _lines(shown: str) -> list[Text]:
    text = _SERVER.sub("http://127.0.0.1:2020", _CONTROL.sub("", shown.replace("\r\n", "\n")))
    return list(AnsiDecoder().decode(_OVERWRITTEN.sub("", text).rstrip()))


def _export(command: str, page: Sequence[Text], height: int, unique: str) -> list[str]:
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
    for line in page:
        console.print(line)
    for _ in range(height - len(page) + 1):  # one more, as space at the bottom
        console.print()
    return console.export_svg(title="moondream-async", code_format=_PARTS, unique_id=unique).split("\0")


def _visibility(unique: str, start: float, until: float | None, total: float) -> str:
    """Return the style that shows a screen for its time; only the last one if nothing should move."""
    if until is None and start == 0:
        return ""
    begin, end = 100 * start / total, 100 if until is None else 100 * until / total
    hidden_before = "0% { visibility: hidden; } " if begin else ""
    steps = f"{hidden_before}{begin:.3f}% {{ visibility: visible; }} {end:.3f}% {{ visibility: hidden; }}"
    still = "" if until is None else "visibility: hidden; "
    return (
        f"@keyframes {unique} {{ {steps} }}\n"
        f".{unique} {{ {still}animation: {unique} {total:.2f}s step-end infinite; }}\n"
        f"@media (prefers-reduced-motion: reduce) {{ .{unique} {{ animation: none; }} }}"
    )
