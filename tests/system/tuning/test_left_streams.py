"""Rollouts that a process stops reading, without a warning."""

from __future__ import annotations

import subprocess
import sys
from typing import Any


def test_a_stream_that_is_left(moondream_sandbox: Any) -> None:
    code = """
import sys
from moondream_async import Client
with Client(base_url=sys.argv[1]) as client:
    finetune = client.tuning.create("left", rank=8)
    left = finetune.rollout_stream((n, {"skill": "query", "question": "?"}) for n in range(50))
    next(left)
    names = client.tuning.list()
    next(names)
"""
    command = [sys.executable, "-W", "error", "-c", code, moondream_sandbox.base_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
