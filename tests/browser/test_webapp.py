"""The example `webapp`: its routes with httpx's ASGI transport, and its page in a real browser."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from moondream_async.sandbox import Sandbox
from tests.support import pictures
from tests.support.servers import running_in_thread

APP = Path(__file__).parents[2] / "examples" / "webapp" / "app.py"
PNG = {"image": ("a.png", pictures.scene())}


def load() -> Any:
    spec = importlib.util.spec_from_file_location("webapp", APP)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.app


@asynccontextmanager
async def calling(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[httpx.AsyncClient]:
    monkeypatch.setenv("MOONDREAM_BASE_URL", sandbox.base_url)
    app = load()
    async with app.router.lifespan_context(app):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
            yield client


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, **faults: Any) -> Generator[str]:
    with Sandbox(**faults) as sandbox:
        monkeypatch.setenv("MOONDREAM_BASE_URL", sandbox.base_url)
        with running_in_thread(load()) as url:
            yield url


async def test_routes(moondream_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    async with calling(moondream_sandbox, monkeypatch) as client:
        caption = await client.post("/caption", files=PNG)
        assert caption.headers["content-type"].startswith("text/event-stream")
        last = json.loads(caption.text.split("data: ")[-1])
        assert "red square" in last["caption"]
        found = await client.post("/detect", files=PNG, data={"label": "red"})
        assert len(found.json()["objects"]) == 1
        assert (await client.get("/")).text.startswith("<!doctype html>")


async def test_errors_have_their_status(moondream_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
    async with calling(moondream_sandbox, monkeypatch) as client:
        for path in ("/caption", "/detect"):
            response = await client.post(path, files={"image": ("a.txt", b"text")}, data={"label": "red"})
            assert (response.status_code, response.json()["error"]["type"]) == (422, "image_error")
        assert (await client.post("/detect", files=PNG, data={"label": " "})).status_code == 400


def test_page(page: Page, monkeypatch: pytest.MonkeyPatch):
    with serving(monkeypatch, drip=0.01) as url:
        page.goto(url)
        page.locator("#image").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": pictures.scene()})
        page.get_by_label("What to look for").fill("blue")
        page.get_by_role("button", name="Look").click()
        expect(page.locator("#caption")).not_to_be_empty()  # the first piece
        expect(page.locator("#caption")).to_contain_text("green triangle")
        expect(page.get_by_role("status")).to_have_text("1 found: blue")
        assert page.locator("rect").count() == 1
        expect(page.get_by_role("alert")).to_be_empty()


@pytest.mark.parametrize("faults", [{"status": 500, "times": 0}, {"cut": 2}])
def test_page_shows_errors(page: Page, monkeypatch: pytest.MonkeyPatch, faults: dict[str, Any]):
    monkeypatch.setenv("MOONDREAM_API_KEY", "k" * 20)
    with serving(monkeypatch, **faults) as url:
        page.goto(url)
        page.locator("#image").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": pictures.scene()})
        page.get_by_role("button", name="Look").click()
        expect(page.get_by_role("alert")).not_to_be_empty(timeout=20_000)
