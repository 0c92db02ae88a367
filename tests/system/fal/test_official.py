"""The official `fal-client` against the sandbox, over https: an independent check of the sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme

from moondream_async.sandbox import Sandbox
from tests.support.fal import KEY

PROGRAM = """
import asyncio, json, sys
import fal_client.client as module

sandbox, image, large = sys.argv[1:]
module.REST_URL = sandbox + "/rest"
module.CDN_URL = sandbox + "/cdn"
import fal_client

results = {}
statuses = []
url = fal_client.upload_file(image)
results["url"] = url
results["caption"] = fal_client.subscribe(
    "fal-ai/moondream3-preview/caption",
    {"image_url": url},
    with_logs=True,
    on_queue_update=lambda status: statuses.append(type(status).__name__),
    on_enqueue=lambda request_id: results.update(enqueued=request_id),
)
results["statuses"] = statuses
handle = fal_client.submit("fal-ai/moondream/batched", {"inputs": [{"image_url": fal_client.encode_file(image)}]})
results["events"] = [type(event).__name__ for event in handle.iter_events(with_logs=True)]
results["batched"] = handle.get()
status = fal_client.status("fal-ai/moondream/batched", handle.request_id, with_logs=True)
results["logs"] = [line["message"] for line in status.logs]
results["result"] = fal_client.result("fal-ai/moondream/batched", handle.request_id)
results["large"] = fal_client.upload_file(large)
results["run"] = fal_client.run("sandbox/echo", {"a": 1})
try:
    fal_client.cancel("fal-ai/moondream/batched", handle.request_id)
except fal_client.client.FalClientHTTPError as error:
    results["cancel"] = [error.status_code, error.response.json()["status"]]
try:
    fal_client.subscribe("sandbox/fail", {"status": 422, "type": "image_too_small"})
except fal_client.client.FalClientHTTPError as error:
    results["error"] = [error.status_code, error.response.json()["detail"][0]["type"]]

async def main():
    results["async"] = await fal_client.subscribe_async("fal-ai/moondream3-preview/detect", {"image_url": url, "prompt": "red"})
    handle = await fal_client.submit_async("sandbox/echo", {})
    await handle.cancel()
    try:
        await handle.get()
    except fal_client.client.FalClientHTTPError as error:
        results["cancelled"] = [error.status_code, error.error_type]

asyncio.run(main())
print(json.dumps(results))
"""


@pytest.fixture
def https_sandbox(tmp_path: Path) -> Any:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    with Sandbox(api_key=KEY, certificate=(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))) as sandbox:
        yield sandbox


def test_every_flow_of_the_official_client(https_sandbox: Any, tmp_path: Path, scene: bytes) -> None:
    image, large = tmp_path / "scene.png", tmp_path / "large.bin"
    image.write_bytes(scene)
    with large.open("wb") as file:
        file.truncate(101 * 1024 * 1024)  # the official client uploads files above 100 MB in parts
    host = https_sandbox.fal_url.removeprefix("https://")
    environment = {
        **os.environ,
        "FAL_KEY": KEY,
        "FAL_RUN_HOST": f"{host}/run",
        "FAL_QUEUE_RUN_HOST": f"{host}/queue",
        "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
    }
    command = [sys.executable, "-c", PROGRAM, https_sandbox.fal_url, str(image), str(large)]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert process.returncode == 0, process.stderr[-3000:]
    results = json.loads(process.stdout)
    assert "red square" in results["caption"]["output"]
    assert results["enqueued"]
    assert results["statuses"][-1] == "Completed"
    assert {"Queued", "InProgress"} & set(results["statuses"])
    assert results["events"][-1] == "Completed"
    assert "red square" in results["batched"]["outputs"][0]
    assert results["result"] == results["batched"]
    assert results["logs"] == ["Runner assigned", "Loading the image", "Running the model"]
    assert results["run"] == {"arguments": {"a": 1}}
    assert results["cancel"] == [400, "ALREADY_COMPLETED"]
    assert results["error"] == [422, "image_too_small"]
    assert results["cancelled"] == [499, "client_cancelled"]
    assert len(results["async"]["objects"]) == 1
    # Our client can use what the official one uploaded, and gets the same caption.
    loaded = https_sandbox._app.state.fal._load(results["large"])
    assert loaded is not None
    assert len(loaded[0]) == 101 * 1024 * 1024
    assert caption_in_process(https_sandbox, tmp_path, results["url"]) == results["caption"]["output"]


def caption_in_process(sandbox: Any, tmp_path: Path, url: str) -> str:
    """Caption an image with our client in a new process, as SSL_CERT_FILE is read when a process starts."""
    program = "import sys; from moondream_async.fal import FalClient as C\nprint(C(base_url=sys.argv[1]).caption(sys.argv[2]).caption)"
    environment = {**os.environ, "FAL_KEY": KEY, "SSL_CERT_FILE": str(tmp_path / "ca.pem")}
    command = [sys.executable, "-c", program, sandbox.fal_url, url]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=120
    ).stdout.strip()
