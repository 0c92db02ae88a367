"""The demo talks to its sandbox directly."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["http_proxy", "all_proxy"])
def test_the_demo_needs_no_proxy(name: str, tmp_path: Path) -> None:
    environment = {**os.environ, name: "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "moondream_async", "demo", "--out", str(tmp_path / "demo.png")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
