"""The headings of the page on troubleshooting are messages that are really printed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import moondream_async
from moondream_async import Client
from moondream_async.sandbox import Sandbox
from tools.doc_blocks import ROOT

HEADINGS = re.findall(r"^### (.+)$", (ROOT / "docs/help/troubleshooting.md").read_text("utf-8"), re.MULTILINE)
NOT_MESSAGES = {"HTTP 402, HTTP 403", 'The run says "87 failed"', "The cost is unknown"}


def failing(fault: str) -> Callable[[Client], Any]:
    def call(client: Client) -> None:
        client.with_options(headers={"X-Sandbox-Fault": fault}, retry=1).caption("photo.jpg")

    return call


def caption(image: Any) -> Callable[[Client], Any]:
    return lambda client: client.caption(image)


def closed(client: Client) -> None:
    other = Client("key")
    other.close()
    other.caption("photo.jpg")


def another_run(client: Client) -> None:
    client.run("caption", ["photo.jpg"], "results.jsonl")
    client.run("detect", ["photo.jpg"], "results.jsonl", object="red")


def missing_extra(client: Client) -> None:
    from moondream_async._extras import import_extra

    import_extra("no_such_package", "vision")


CAUSES: dict[str, Callable[[Client], Any]] = {
    "No API key.": lambda client: Client(base_url="https://api.moondream.ai/v1").caption("photo.jpg"),
    "Invalid API key (HTTP 401, ...)": failing("status=401; times=0"),
    "Rate limit exceeded (HTTP 429, ...)": failing("status=429; times=0; retry_after=-1"),
    "Engine is not ready (HTTP 503, ...)": failing("status=503; times=0; retry_after=-1"),
    "The connection to ... failed": lambda client: Client(base_url="http://127.0.0.1:9/v1", retry=1).caption(
        "photo.jpg"
    ),
    "No complete response from ... within ... s": lambda client: failing("latency=5")(
        client.with_options(timeout=0.05)
    ),
    "base_url must look like 'https://host/v1'": lambda client: Client(base_url="localhost:2020"),
    "Not found (HTTP 404, ...)": failing("status=404; times=0"),
    "The stream was interrupted": lambda client: (
        client.with_options(headers={"X-Sandbox-Fault": "cut=1"}).caption("photo.jpg", stream=True).result()
    ),
    "There is no file '...'": caption("nope.jpg"),
    "The file is not a supported image": caption("text.jpg"),
    "The array's shape ... has its channels first": caption(np.zeros((3, 10, 10), dtype="uint8")),
    "The array's type ... is not that of an image": caption(np.zeros((10, 10, 3))),
    "... has no public address, and images are not downloaded from private ones": caption("http://127.0.0.1:9/a.jpg"),
    "Image size exceeds limits (HTTP 413, ...)": failing("status=413; times=0"),
    "Unknown setting '...'": lambda client: client.caption("photo.jpg", settings={"max_token": 5}),  # type: ignore[typeddict-unknown-key]
    "detect needs object=...": lambda client: client.run("detect", ["photo.jpg"], "results.jsonl"),  # type: ignore[call-overload]
    "... cannot segment; moondream3-preview can.": lambda client: Client(
        base_url=client.base_url, model="moondream3.1-9B-A2B"
    ).segment("photo.jpg", "red"),
    "This needs the extra '...'": missing_extra,
    "Sandbox is in moondream_async.sandbox": lambda client: moondream_async.Sandbox,  # type: ignore[attr-defined]
    "This client is closed; make a new one.": closed,
    "The answer cannot be used": lambda client: client.ask_number("photo.jpg", "Describe it."),
    "'...' holds results of another run": another_run,
}


def test_all_headings_have_a_cause() -> None:
    assert set(HEADINGS) == set(CAUSES) | NOT_MESSAGES


@pytest.mark.parametrize("heading", CAUSES)
def test_message(
    heading: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moondream_sandbox: Sandbox, scene: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photo.jpg").write_bytes(scene)
    Path("text.jpg").write_text("hello")
    with Client("a-key-of-the-test", base_url=moondream_sandbox.base_url) as client:
        with pytest.raises((moondream_async.MoondreamError, ImportError)) as caught:
            CAUSES[heading](client)
    parts = [re.escape(part) for part in heading.split("...")]
    assert re.search(".*".join(parts), str(caught.value))
