"""The commands that serve until Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from moondream_async import Client

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs signals")


@contextmanager
def command(*words: str, folder: Path, **environment: str) -> Generator[tuple[str, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "moondream_async", *words],
        cwd=folder, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        url = None
        while url is None:
            line = process.stdout.readline()
            assert line, "it ended"
            url = re.search(r"http://\S+$", line) if line.startswith("moondream-async") else None
        yield url.group(), process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)
        process.stdout.close()


def test_playground(tmp_path: Path):
    with command("playground", "--sandbox", "--port", "0", folder=tmp_path) as (url, process):
        assert "Moondream playground" in httpx.get(url).text
        assert httpx.get(url, headers={"Host": "evil.example"}).status_code == 403
        assert httpx.get(f"{url}/info.json").json()["notice"]
    assert process.returncode in (0, 130)


def test_proxy(tmp_path: Path, scene: bytes):
    with command("proxy", "--sandbox", "--port", "0", folder=tmp_path) as (url, process):
        with Client(base_url=f"{url}/v1") as client:
            assert "red square" in client.caption(scene).caption
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        rest = process.stdout.read()
    assert "POST caption: 200 in " in rest
    assert "Traceback" not in rest


def test_proxy_with_authorize(tmp_path: Path):
    (tmp_path / "auth.py").write_text("def check(request):\n    return request.headers.get('x-token') == 'secret'\n")
    words = ["proxy", "--sandbox", "--port", "0", "--authorize", "auth:check", "--allow-origin", "https://app.example"]
    with command(*words, folder=tmp_path) as (url, _):
        body = {"question": "x"}
        assert httpx.post(f"{url}/v1/query", json=body).status_code == 401
        headers = {"x-token": "secret", "origin": "https://app.example"}
        assert httpx.post(f"{url}/v1/query", json=body, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--host", "0.0.0.0"], "needs --authorize"),
        (["--authorize", "nothing:here"], "cannot be used: No module named 'nothing'"),
        (["--authorize", "auth"], "must be like myapp.auth:check"),
        (["--authorize", "auth:missing"], "has no attribute 'missing'"),
        (["--authorize", "auth:number"], "it is not a function"),
        (["--allow-origin", "https://app.example"], "--allow-origin needs --authorize"),
        (["--host", "192.0.2.1", "--authorize", "auth:check"], "cannot be used"),
    ],
)
def test_proxy_that_cannot_start(words: list[str], message: str, tmp_path: Path):
    (tmp_path / "auth.py").write_text("number = 5\ndef check(request):\n    return True\n")
    done = subprocess.run(
        [sys.executable, "-m", "moondream_async", "proxy", "--sandbox", "--port", "0", *words],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
