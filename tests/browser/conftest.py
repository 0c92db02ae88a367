"""A real browser (Debian's chromium), Node, and the clients that others wrote for them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NODE_MODULES = Path(__file__).parents[1] / "support" / "node" / "node_modules"


@pytest.fixture(scope="session")
def devtools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One browser for all tests; yields the address at which they control it."""
    path = os.getenv("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs chromium (on Debian: apt-get install chromium)")
    profile = tmp_path_factory.mktemp("chromium")
    command = [path, "--headless=new", "--no-sandbox", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = None
        while address is None:
            line = process.stderr.readline()
            assert line, "chromium has ended"
            address = re.search(r"DevTools listening on (\S+)", line)
        yield address[1]
        process.terminate()


@pytest.fixture
def chromium(devtools: str) -> Iterator[Browser]:
    """The browser. Playwright's event loop keeps others from running in this thread, so it ends with the test."""
    with sync_playwright() as playwright:
        yield playwright.chromium.connect_over_cdp(devtools)


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page whose errors fail the test."""
    context = chromium.new_context(viewport={"width": 1200, "height": 800})
    page = context.new_page()
    page.set_default_timeout(10_000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    context.close()
    assert problems == []


@pytest.fixture(scope="session")
def node_modules() -> Path:
    if shutil.which("node") is None:
        pytest.skip("needs node (on Debian: apt-get install nodejs npm)")
    if not NODE_MODULES.is_dir():
        pytest.skip("needs the packages of npm: run `npm install` in tests/support/node")
    return NODE_MODULES
