"""The bar of `progress=True` in a terminal."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

import pytest

from tests.support.processes import started

pty = pytest.importorskip("pty", reason="pseudo-terminals")

SCRIPT = """
import sys, threading
from moondream_async import Client
from moondream_async.sandbox import Sandbox
from PIL import Image

items = [(n, Image.new("RGB", (9, 9))) for n in range(8)]
with Sandbox() as sandbox, Client(base_url=sandbox.base_url, rate_limit=20) as client:
    list(client.map("caption", items[:1]))
    threads = set()
    for outcome in client.map("caption", items, progress=True):
        print("item", outcome.id)
        threads.update(thread.name for thread in threading.enumerate())
        if sys.argv[1] == "break" and outcome.id == 6:
            break
        if sys.argv[1] == "error" and outcome.id == 6:
            raise KeyError("no more")
    print("refreshing threads:", [name for name in threads if "Refresh" in name])
"""


@pytest.mark.parametrize("end", ["end", "break", "error"])
@pytest.mark.parametrize("is_piped", [True, False])
def test_the_bar_in_a_terminal(end: str, is_piped: bool) -> None:
    reader, terminal = pty.openpty()
    stdout = subprocess.PIPE if is_piped else terminal
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with started([sys.executable, "-c", SCRIPT, end], env=environment, stdout=stdout, stderr=terminal) as process:
        os.close(terminal)
        shown = ""
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(reader, 10_000):
                shown += piece.decode("utf-8", "replace")
        os.close(reader)
        out = process.communicate()[0].decode() if is_piped else shown
        process.wait()
    assert process.returncode == (1 if end == "error" else 0)
    assert out.count("item ") == 8 or end != "end"
    assert is_piped == ("item" not in shown)  # what is printed goes to where it should
    assert "/s (rate_limit) - " in shown
    assert ("100% 8/8" in shown) or end != "end"
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is shown again
    assert end == "error" or "refreshing threads: []" in out
