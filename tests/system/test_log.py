"""MOONDREAM_LOG prints attempts and waits on stderr, and never a key or a payload."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from moondream_async.sandbox import Sandbox

SCRIPT = """
from moondream_async import Client, RetryPolicy
with Client("md-0123456789-secret", retry=RetryPolicy(backoff=0.001)) as client:
    client.query("a.png", "a private question?")
"""


@pytest.mark.parametrize(
    ("value", "says", "is_silent_about"),
    [
        ("", [], ["moondream_async"]),
        ("info", ["call 1, query: waiting"], ["request 1"]),
        ("debug", ["call 1: query, request 1", "status 503", "call 1, query: waiting", "2 request(s)"], []),
        ("DEBUG ", ["call 1: query, request 1"], []),
        ("loud", ["MOONDREAM_LOG must be info or debug, not 'loud'"], ["call 1"]),
    ],
)
def test_the_log(value: str, says: list[str], is_silent_about: list[str], tmp_path: Path, scene: bytes) -> None:
    (tmp_path / "a.png").write_bytes(scene)
    with Sandbox(status=503, times=1, retry_after=-1) as sandbox:
        environment = {**os.environ, "MOONDREAM_LOG": value, "MOONDREAM_BASE_URL": sandbox.base_url}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    assert [text for text in says if text not in done.stderr] == []
    assert [text for text in [*is_silent_about, "secret", "private", "base64"] if text in done.stderr] == []


@pytest.mark.parametrize(
    ("option", "says"), [("-v", "call 1, caption: waiting"), ("-vv", "call 1: caption, request 1")]
)
def test_the_options_of_the_command(option: str, says: str, tmp_path: Path, scene: bytes) -> None:
    (tmp_path / "a.png").write_bytes(scene)
    with Sandbox(status=503, times=1, retry_after=-1) as sandbox:
        command = [sys.executable, "-m", "moondream_async", option, "caption", "a.png", "--base-url", sandbox.base_url]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert says in done.stderr
    assert done.stdout.startswith("An image of")
