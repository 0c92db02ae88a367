"""The official `fal-client`, over https, against the sandbox: so that the sandbox is proven by a client not ours."""

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

sandbox, picture, large = sys.argv[1:]
module.REST_URL = sandbox + "/rest"
module.CDN_URL = sandbox + "/cdn"
import fal_client

found = {}
seen = []
url = fal_client.upload_file(picture)
found["url"] = url
found["caption"] = fal_client.subscribe(
    "fal-ai/moondream3-preview/caption",
    {"image_url": url},
    with_logs=True,
    on_queue_update=lambda status: seen.append(type(status).__name__),
    on_enqueue=lambda request_id: found.update(enqueued=request_id),
)
found["seen"] = seen
handle = fal_client.submit("fal-ai/moondream/batched", {"inputs": [{"image_url": fal_client.encode_file(picture)}]})
found["events"] = [type(event).__name__ for event in handle.iter_events(with_logs=True)]
found["batched"] = handle.get()
status = fal_client.status("fal-ai/moondream/batched", handle.request_id, with_logs=True)
found["logs"] = [line["message"] for line in status.logs]
found["result"] = fal_client.result("fal-ai/moondream/batched", handle.request_id)
found["large"] = fal_client.upload_file(large)
found["run"] = fal_client.run("sandbox/echo", {"a": 1})
try:
    fal_client.cancel("fal-ai/moondream/batched", handle.request_id)
except fal_client.client.FalClientHTTPError as error:
    found["cancel"] = [error.status_code, error.response.json()["status"]]
try:
    fal_client.subscribe("sandbox/fail", {"status": 422, "type": "image_too_small"})
except fal_client.client.FalClientHTTPError as error:
    found["error"] = [error.status_code, error.response.json()["detail"][0]["type"]]

async def main():
    found["async"] = await fal_client.subscribe_async("fal-ai/moondream3-preview/detect", {"image_url": url, "prompt": "red"})
    handle = await fal_client.submit_async("sandbox/echo", {})
    await handle.cancel()
    try:
        await handle.get()
    except fal_client.client.FalClientHTTPError as error:
        found["cancelled"] = [error.status_code, error.error_type]

asyncio.run(main())
print(json.dumps(found))
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
    picture, large = tmp_path / "scene.png", tmp_path / "large.bin"
    picture.write_bytes(scene)
    with large.open("wb") as file:
        file.truncate(101 * 1024 * 1024)  # above 100 MB it uploads in parts
    host = https_sandbox.fal_url.removeprefix("https://")
    environment = {
        **os.environ,
        "FAL_KEY": KEY,
        "FAL_RUN_HOST": f"{host}/run",
        "FAL_QUEUE_RUN_HOST": f"{host}/queue",
        "SSL_CERT_FILE": str(tmp_path / "ca.pem"),
    }
    command = [sys.executable, "-c", PROGRAM, https_sandbox.fal_url, str(picture), str(large)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert "red square" in found["caption"]["output"]
    assert found["enqueued"]
    assert found["seen"][-1] == "Completed"
    assert {"Queued", "InProgress"} & set(found["seen"])
    assert found["events"][-1] == "Completed"
    assert "red square" in found["batched"]["outputs"][0]
    assert found["result"] == found["batched"]
    assert found["logs"] == ["Runner assigned", "Loading the image", "Running the model"]
    assert found["run"] == {"arguments": {"a": 1}}
    assert found["cancel"] == [400, "ALREADY_COMPLETED"]
    assert found["error"] == [422, "image_too_small"]
    assert found["cancelled"] == [499, "client_cancelled"]
    assert len(found["async"]["objects"]) == 1
    # What it uploaded, ours can use; and both get the same.
    loaded = https_sandbox._app.state.fal._load(found["large"])
    assert loaded is not None
    assert len(loaded[0]) == 101 * 1024 * 1024
    ours = ours_in_a_process(https_sandbox, tmp_path, found["url"])
    assert ours == found["caption"]["output"]


def ours_in_a_process(sandbox: Any, tmp_path: Path, url: str) -> str:
    """Our client trusts the throw-away authority by the same variable, which is read at the start."""
    program = "import sys; from moondream_async.fal import FalClient as C\nprint(C(base_url=sys.argv[1]).caption(sys.argv[2]).caption)"
    environment = {**os.environ, "FAL_KEY": KEY, "SSL_CERT_FILE": str(tmp_path / "ca.pem")}
    command = [sys.executable, "-c", program, sandbox.fal_url, url]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=120
    ).stdout.strip()
