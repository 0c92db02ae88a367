"""The Flask app answers curl as its page says."""

from __future__ import annotations

import importlib
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from werkzeug.serving import make_server

from moondream_async import Client
from tests.support.sandboxes import PooledSandbox
from tools import recipe_pages

PAGE = recipe_pages.PAGES / "celery-and-flask.md"


@pytest.fixture
def module(sandbox: PooledSandbox) -> Iterator[Any]:
    module = importlib.import_module("flask_app")
    with Client(base_url=sandbox.base_url) as client:
        module.app = module.create_app(client)
        yield module


def test_curl_gets_what_the_page_shows(module: Any, photo: Path) -> None:
    photo.with_name("notes.txt").write_text("no image")
    server = make_server("127.0.0.1", 0, module.app, threaded=True)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        text = PAGE.read_text()
        block = next(match for match in recipe_pages.CONSOLE.finditer(text) if match["elsewhere"])
        shown = ""
        for line in block["body"].splitlines():
            if line.startswith("$ "):
                command = shlex.split(line[2:].replace("localhost:8000", f"127.0.0.1:{server.server_port}"))
                done = subprocess.run([*command, "--noproxy", "*"], cwd=photo.parent, capture_output=True, check=True)
                shown += f"{line}\n{done.stdout.decode()}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    if os.environ.get("MOONDREAM_WRITE_PAGES"):
        PAGE.write_text(text.replace(block["body"], shown))
    assert recipe_pages.without_times(shown) == recipe_pages.without_times(block["body"])


def test_captions_are_streamed(module: Any, photo: Path) -> None:
    with photo.open("rb") as file:
        response = module.app.test_client().post("/stream", data={"image": (file, "photo.png")})
    assert response.content_type == "text/event-stream; charset=utf-8"
    assert response.text.startswith('data: {"chunk": "An image of"')
    assert '"completed": true' in response.text


def test_errors_have_their_status(module: Any) -> None:
    browser = module.app.test_client()
    assert browser.post("/caption", data={"image": (b"not an image",)}).status_code == 400
    assert browser.post("/stream").status_code == 400
    assert browser.post("/caption", data=b"x" * (32 * 1024 * 1024 + 1)).status_code == 413
