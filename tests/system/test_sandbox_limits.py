"""Limits of the sandbox (slow and endless bodies, bad certificates), and processes without standard streams."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from moondream_async import ConfigurationError
from moondream_async._sandbox import limits
from moondream_async.sandbox import Sandbox
from tests.support.effort import scaled

PATHS = [
    ("POST", "/v1/caption"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/tuning/finetunes"),
    ("POST", "/fal/run/fal-ai/moondream/batched"),
    ("POST", "/fal/queue/fal-ai/moondream/batched"),
    ("POST", "/fal/rest/storage/upload/initiate"),
]


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_MAX_BODY", 300_000)
    monkeypatch.setattr(limits, "_MAX_UPLOAD", 300_000)


def send_body(port: int, head: str, piece: bytes, max_bytes: int) -> tuple[bytes, int]:
    """Send pieces until the server responds or closes; return the status line and the number of bytes sent."""
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"{head}\r\nHost: x\r\nAuthorization: Key k\r\n\r\n".encode())
        try:
            while sent < max_bytes:
                connection.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
        try:
            return connection.recv(12), sent
        except OSError:
            return b"", sent


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_a_body_of_unknown_length(method: str, path: str) -> None:
    chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
    with Sandbox() as sandbox:
        head = f"{method} {path} HTTP/1.1\r\nTransfer-Encoding: chunked"
        status, sent = send_body(sandbox.port, head, chunk, 200_000_000)
    assert sent < 100_000_000
    assert status in (b"HTTP/1.1 413", b"")  # empty if the response was lost while sending


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_a_body_with_a_content_length(method: str, path: str) -> None:
    with Sandbox() as sandbox:
        head = f"{method} {path} HTTP/1.1\r\nContent-Length: 9000000"
        status, _ = send_body(sandbox.port, head, b"a", 1)
    assert status == b"HTTP/1.1 413"


def test_an_upload_to_fal_of_unknown_length() -> None:
    with Sandbox() as sandbox:
        state: Any = sandbox._app.state
        key, _ = state.fal.storage.new_file("a.bin", "application/octet-stream", None)
        chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
        with socket.create_connection(("127.0.0.1", sandbox.port), timeout=20) as connection:
            head = f"PUT /fal/presigned/{key} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head.encode() + chunk * 20)
            assert connection.recv(12) == b"HTTP/1.1 413"
        assert not state.fal.storage.files[key].complete


def test_a_body_that_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_READ_TIMEOUT", 0.1)
    with Sandbox() as sandbox:
        head = "POST /v1/caption HTTP/1.1\r\nContent-Length: 1000"
        assert send_body(sandbox.port, head, b"a", 1)[0] == b"HTTP/1.1 408"


@pytest.mark.parametrize("certificate", [("/nonexistent.pem", "/nonexistent.key"), (__file__, __file__)])
def test_an_invalid_certificate(certificate: tuple[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="certificate"):
        Sandbox(certificate=certificate).start()


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_out_of_range(port: int) -> None:
    with pytest.raises(ConfigurationError, match="cannot listen"):
        Sandbox(port=port).start()


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("missing", ["stdout", "stderr", "stdin", "stdout stderr stdin"])
def test_a_process_without_standard_streams(missing: str) -> None:
    code = f"""
        import os, sys
        for name in {missing!r}.split():
            setattr(sys, name, None)
        from moondream_async.sandbox import Sandbox
        import moondream_async as md
        with Sandbox() as sandbox, md.Client(base_url=sandbox.base_url) as client:
            os._exit(7 if len(client.models()) == 2 else 1)
    """
    assert python(code).returncode == 7


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"][:: scaled(3, 1)])
def test_commands_with_closed_streams(closed: str, tmp_path: Path, scene: bytes) -> None:
    (tmp_path / "a.png").write_bytes(scene)
    code = """
        import sys
        from moondream_async._cli import main
        codes = [main(line.split()) for line in ("demo --out demo.png", "models --sandbox", "caption a.png --sandbox")]
        sys.exit(codes != [0, 0, 0])
    """
    (tmp_path / "commands.py").write_text(textwrap.dedent(code))
    shell = f"{sys.executable} commands.py {closed}"
    done = subprocess.run(["sh", "-c", shell], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "demo.png").exists()
    if closed.startswith(">"):
        assert done.stdout == ""
    else:
        for text in ("demo.png", "moondream3", "a red square"):
            assert text in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_an_image_from_a_closed_standard_input() -> None:
    shell = f"{sys.executable} -m moondream_async caption - --sandbox <&-"
    completed = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=60, check=False)
    assert completed.returncode == 1
    assert completed.stderr == "moondream-async: Cannot read the image: standard input is closed.\n"


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_an_error_does_not_go_to_stdout_when_stderr_is_closed() -> None:
    shell = f"{sys.executable} -m moondream_async caption /nonexistent.png --sandbox 2>&-"
    completed = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=60, check=False)
    assert (completed.returncode, completed.stdout) == (1, "")
