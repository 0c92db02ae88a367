"""The playground in a real browser."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from moondream_async import AsyncClient
from moondream_async._playground.app import build
from moondream_async.sandbox import Sandbox
from tests.support import pictures
from tests.support.servers import running_in_thread

KEY = "md-secret-key-0123456789"
SAMPLE = pictures.scene()


@contextmanager
def playground(**faults: Any) -> Iterator[tuple[str, Sandbox]]:
    with Sandbox(api_key=KEY, **faults) as sandbox:
        app = build(AsyncClient(KEY, base_url=sandbox.base_url), sample=SAMPLE, notice="a stand-in")
        with running_in_thread(app) as url:
            yield url, sandbox


@pytest.fixture
def url() -> Iterator[str]:
    with playground() as (url, _):
        yield url


def start(page: Page, url: str) -> None:
    page.goto(url)
    page.get_by_role("button", name="Use the sample picture").click()
    expect(page.get_by_role("status")).to_contain_text("Picture ready")


def run(page: Page, skill: str, *, objects: str = "red, blue") -> None:
    page.get_by_role("radio", name=skill).check(force=True)
    if skill in ("detect", "point", "segment"):
        page.get_by_label("What to look for").fill(objects)
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("status")).to_contain_text("Done")


class TestSkills:
    @pytest.mark.parametrize("skill", ["query", "caption"])
    def test_text(self, page: Page, url: str, skill: str):
        start(page, url)
        run(page, skill)
        expect(page.locator("#answer")).to_contain_text("red square")
        expect(page.locator("#tokens")).to_have_text(re.compile(r"\d+ in, \d+ out"))
        expect(page.locator("#price")).to_have_text(re.compile(r"\$0\.0\d+ on Moondream Cloud"))

    def test_boxes(self, page: Page, url: str):
        start(page, url)
        run(page, "detect", objects="red, blue, pink")
        expect(page.locator("#found")).to_contain_text("red: 1 found")
        expect(page.locator("#found")).to_contain_text("blue: 1 found")
        expect(page.locator("#found")).to_contain_text("pink: none found")
        boxes = page.locator("#overlay rect")
        assert boxes.count() == 2
        assert len({boxes.nth(number).get_attribute("stroke") for number in range(2)}) == 2
        red = boxes.first.evaluate("box => box.getBoundingClientRect().toJSON()")
        picture = page.locator("img").evaluate("image => image.getBoundingClientRect().toJSON()")
        left = (red["left"] - picture["left"]) / picture["width"]
        assert left == pytest.approx(60 / 640, abs=0.02)  # where the scene has its red square

    def test_points(self, page: Page, url: str):
        start(page, url)
        run(page, "point", objects="red, blue, green")
        assert page.locator("#labels .dot").count() == 3

    def test_outlines(self, page: Page, url: str):
        start(page, url)
        run(page, "segment", objects="red, blue")
        outlines = page.locator("#overlay path.outline:not(.growing)")
        assert outlines.count() == 2
        assert (outlines.first.get_attribute("d") or "").startswith("M")
        assert page.locator("#overlay rect").count() == 2  # the last box of each

    def test_the_last_result_is_cleared(self, page: Page, url: str):
        start(page, url)
        run(page, "detect")
        run(page, "caption")
        assert page.locator("#overlay *").count() == 0
        expect(page.locator("#found")).to_be_empty()


class TestStreaming:
    def test_text_arrives_in_pieces(self, page: Page):
        with playground(drip=0.02) as (url, _):
            start(page, url)
            page.get_by_role("radio", name="caption").check(force=True)
            page.get_by_role("button", name="Run").click()
            expect(page.locator("#answer")).not_to_be_empty()
            expect(page.locator("#answer")).to_have_attribute("aria-busy", "true")
            first = page.locator("#answer").inner_text()
            expect(page.get_by_role("status")).to_contain_text("Done")
            assert page.locator("#answer").inner_text().startswith(first)
            assert page.locator("#answer").inner_text() != first

    def test_outline_grows(self, page: Page):
        with playground(drip=0.02) as (url, _):
            start(page, url)
            page.get_by_role("radio", name="segment").check(force=True)
            page.get_by_label("What to look for").fill("blue")
            page.get_by_role("button", name="Run").click()
            growing = page.locator("#overlay path.growing[d]")
            expect(growing).to_have_attribute("d", re.compile("^M"))
            expect(page.locator("#overlay rect")).to_have_count(1)
            expect(page.get_by_role("status")).to_contain_text("Done")
            expect(growing).to_have_count(0)

    @pytest.mark.parametrize("how", ["button", "key"])
    def test_stop(self, page: Page, how: str):
        with playground(drip=0.2) as (url, _):
            start(page, url)
            page.get_by_role("radio", name="caption").check(force=True)
            page.get_by_role("button", name="Run").click()
            expect(page.locator("#answer")).not_to_be_empty()
            if how == "button":
                page.get_by_role("button", name="Stop").click()
            else:
                page.keyboard.press("Escape")
            expect(page.get_by_role("status")).to_have_text("Stopped.")
            expect(page.get_by_role("button", name="Run")).to_be_enabled()


class TestErrors:
    @pytest.mark.parametrize(
        ("faults", "message"),
        [
            ({"status": 503, "times": 0}, "Engine is not ready"),
            ({"status": 429, "times": 0}, "Rate limit exceeded"),
            ({"cut": 1}, ""),
            ({"error_event": 1}, ""),
        ],
    )
    def test_server(self, page: Page, faults: dict[str, Any], message: str):
        with playground(**faults) as (url, _):
            start(page, url)
            page.get_by_role("radio", name="caption").check(force=True)
            page.get_by_role("button", name="Run").click()
            expect(page.get_by_role("alert")).to_be_visible()
            expect(page.get_by_role("alert")).to_contain_text(message)
            expect(page.get_by_role("alert")).not_to_be_empty()
            expect(page.get_by_role("button", name="Run")).to_be_enabled()

    def test_no_picture(self, page: Page, url: str):
        page.goto(url)
        page.get_by_role("button", name="Run").click()
        expect(page.get_by_role("alert")).to_have_text("Choose a picture first.")

    @pytest.mark.parametrize(("skill", "field"), [("query", "Question"), ("detect", "What to look for")])
    def test_nothing_asked(self, page: Page, url: str, skill: str, field: str):
        start(page, url)
        page.get_by_role("radio", name=skill).check(force=True)
        page.get_by_label(field).fill("  ")
        page.get_by_role("button", name="Run").click()
        expect(page.get_by_role("alert")).to_contain_text("Type ")
        expect(page.get_by_label(field)).to_be_focused()

    def test_not_a_picture(self, page: Page, url: str):
        page.goto(url)
        page.locator("#file").set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"hello"})
        expect(page.get_by_role("alert")).to_contain_text("a.txt is not a picture")


class TestPictures:
    @pytest.mark.parametrize("how", ["drop", "paste"])
    def test_drop_and_paste(self, page: Page, url: str, how: str):
        page.goto(url)
        page.evaluate(
            """([how, data]) => {
                const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
                const transfer = new DataTransfer();
                transfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
                const event = how === "drop"
                    ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
                    : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true });
                document.body.dispatchEvent(event);
            }""",
            [how, base64.b64encode(SAMPLE).decode()],
        )
        expect(page.get_by_role("img", name="The chosen picture, dropped.png")).to_be_visible()
        run(page, "caption")

    def test_phone_photos_are_upright(self, page: Page, url: str):
        photo = Image.new("RGB", (60, 40), "red")
        exif = photo.getexif()
        exif[0x0112] = 6
        file = io.BytesIO()
        photo.save(file, "JPEG", exif=exif)
        page.goto(url)
        page.locator("#file").set_input_files({"name": "a.jpg", "mimeType": "image/jpeg", "buffer": file.getvalue()})
        expect(page.get_by_role("status")).to_contain_text("Picture ready")
        assert page.locator("img").evaluate("image => [image.naturalWidth, image.naturalHeight]") == [40, 60]

    def test_large_and_transparent(self, page: Page, url: str):
        file = io.BytesIO()
        Image.new("RGBA", (5000, 100), (255, 0, 0, 0)).save(file, "PNG")
        page.goto(url)
        page.locator("#file").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": file.getvalue()})
        expect(page.get_by_role("status")).to_contain_text("Picture ready")
        sent = Image.open(io.BytesIO(base64.b64decode((page.locator("img").get_attribute("src") or "").split(",")[1])))
        assert sent.size == (2048, 41)
        assert sent.getpixel((5, 5)) == (255, 255, 255)


class TestCode:
    @pytest.mark.parametrize(
        ("skill", "shown"),
        [("query", "red square"), ("caption", "red square"), ("detect", "red"), ("segment", "1 outline in 0.09")],
    )
    def test_python_runs(self, page: Page, url: str, skill: str, shown: str, tmp_path: Path):
        start(page, url)
        run(page, skill)
        (tmp_path / "sample.png").write_bytes(SAMPLE)
        code = page.locator("#code").inner_text()
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "MOONDREAM_API_KEY": KEY},
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert shown.lower() in done.stdout.lower()

    @pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
    @pytest.mark.parametrize("skill", ["query", "caption", "detect", "point", "segment"])
    def test_curl_runs(self, page: Page, url: str, skill: str, tmp_path: Path):
        start(page, url)
        page.get_by_label("Question").fill('What\'s in it, "exactly"? 100 % \\n $HOME')
        run(page, skill)
        page.get_by_role("button", name="curl").click()
        (tmp_path / "sample.png").write_bytes(SAMPLE)
        command = page.locator("#code").inner_text()
        assert KEY not in command
        environment = {**os.environ, "MOONDREAM_API_KEY": KEY}
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        last = [line for line in done.stdout.splitlines() if line][-1].removeprefix("data: ")
        assert "error" not in json.loads(last)

    def test_copy(self, page: Page, url: str):
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        start(page, url)
        run(page, "caption")
        page.get_by_role("button", name="Copy").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == page.locator("#code").inner_text()


class TestPage:
    def test_keyboard_alone(self, page: Page, url: str):
        page.goto(url)
        page.get_by_role("button", name="Use the sample picture").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_contain_text("Picture ready")
        page.keyboard.press("Tab")
        expect(page.get_by_role("radio", name="query")).to_be_focused()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("radio", name="detect")).to_be_checked()
        page.keyboard.press("Tab")
        page.keyboard.type("red")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_have_text("Done: 1 found.")

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("width", [1200, 360])
    def test_accessible(self, chromium: Browser, node_modules: Path, url: str, scheme: Any, width: int):
        """axe-core, which checks contrast, names and roles, finds nothing; nothing is wider than the screen."""
        context = chromium.new_context(viewport={"width": width, "height": 740}, color_scheme=scheme, bypass_csp=True)
        page = context.new_page()
        start(page, url)
        run(page, "detect")
        page.add_script_tag(path=node_modules / "axe-core" / "axe.min.js")
        violations = page.evaluate(
            "axe.run().then((results) => results.violations.map((each) => [each.id, each.nodes.map((n) => n.html)]))"
        )
        assert violations == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        context.close()

    def test_works_offline_and_holds_no_key(self, page: Page, url: str):
        seen: list[str] = []
        hosts: set[str | None] = set()
        page.on(
            "request",
            lambda request: hosts.add(urlsplit(request.url).hostname) if request.url.startswith("http") else None,
        )
        page.on("response", lambda response: seen.append(str(response.all_headers())))
        start(page, url)
        run(page, "detect")
        assert hosts == {"127.0.0.1"}
        assert not any(KEY in text for text in [*seen, page.content()])
