"""A process may stop reading a stream of rollouts without a warning."""

from __future__ import annotations

import subprocess
import sys
from typing import Any


def test_an_unfinished_stream_causes_no_warning(moondream_sandbox: Any) -> None:
    code = """
import sys
from moondream_async import Client
with Client(base_url=sys.argv[1]) as client:
    finetune = client.tuning.create("unfinished", rank=8)
    rollouts = finetune.rollout_stream((n, {"skill": "query", "question": "?"}) for n in range(50))
    next(rollouts)
    finetunes = client.tuning.list()
    next(finetunes)
"""
    command = [sys.executable, "-W", "error", "-c", code, moondream_sandbox.base_url]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (process.returncode, process.stderr) == (0, "")
