"""Clients that Moondream and fal.ai wrote, in Node and in a page, through the proxy in front of a sandbox."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route

from moondream_async import AsyncClient
from moondream_async.fal import AsyncFalClient
from moondream_async.proxy import Proxy
from moondream_async.sandbox import Sandbox
from tests.support import pictures
from tests.support.servers import running_in_thread

KEY = "md-secret-key-0123456789"
FAL_KEY = "fal-id-0123456789:fal-secret-0123456789"
URI = "data:image/png;base64," + base64.b64encode(pictures.scene()).decode()

MOONDREAM = """
const { vl } = require("moondream");
const [url, uri] = process.argv.slice(2);
const image = { imageUrl: uri };
async function collect(stream) { const parts = []; for await (const part of stream) parts.push(part); return parts; }
(async () => {
  const model = new vl({ endpoint: `${url}/v1`, apiKey: "of-the-browser" });
  const found = {
    caption: (await model.caption({ image })).caption,
    answer: (await model.query({ image, question: "How many?" })).answer,
    objects: (await model.detect({ image, object: "red" })).objects,
    points: (await model.point({ image, object: "red" })).points,
    path: (await model.segment({ image, object: "red" })).path,
    pieces: await collect((await model.caption({ image, stream: true })).caption),
  };
  console.log(JSON.stringify(found));
})();
"""

FAL = """
import { fal } from "@fal-ai/client";
export async function main({ proxyUrl, uri }) {
  fal.config({ proxyUrl });
  const statuses = [];
  const endpoint = "fal-ai/moondream3-preview/caption";
  const polled = await fal.subscribe(endpoint, { input: { image_url: uri }, onQueueUpdate: ({ status }) => statuses.push(status) });
  const streamed = await fal.subscribe(endpoint, { input: { image_url: uri }, mode: "streaming" });
  const direct = await fal.run("fal-ai/moondream3-preview/detect", { input: { image_url: uri, prompt: "red" } });
  const file = await (await fetch(uri)).blob();
  const url = await fal.storage.upload(new File([file], "a.png", { type: "image/png" }));
  const uploaded = await fal.run("fal-ai/moondream3-preview/query", { input: { image_url: url, prompt: "How many?" } });
  const { request_id } = await fal.queue.submit("fal-ai/moondream/batched", { input: { inputs: [{ image_url: uri }] } });
  const batched = await fal.queue.status("fal-ai/moondream/batched", { requestId: request_id });
  const refused = await fal.run("fal-ai/flux/dev", { input: {} }).catch((error) => error.status);
  return { statuses, polled: polled.data.output, streamed: streamed.data.output, direct: direct.data.objects.length,
    uploaded: uploaded.data.output, batched: batched.status, refused };
}
"""


@pytest.fixture
def url() -> Iterator[str]:
    """A site with a page, and the proxy."""

    async def page(_: Request) -> Response:
        return HTMLResponse("<!doctype html><title>A page</title>")

    with Sandbox(api_key=KEY) as sandbox, Sandbox(api_key=FAL_KEY, queue=0.05, work=0.05) as fal:
        proxy = Proxy(
            client=AsyncClient(KEY, base_url=sandbox.base_url),
            fal=AsyncFalClient(FAL_KEY, base_url=fal.fal_url),
            rate_limit=None,
        )
        app = Starlette(routes=[Route("/", page), Mount("", proxy)])
        with running_in_thread(app) as url:
            yield url


def node(node_modules: Path, script: Path, *arguments: str) -> Any:
    done = subprocess.run(
        ["node", str(script), *arguments], env={"NODE_PATH": str(node_modules), "PATH": "/usr/bin:/usr/local/bin"},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def bundle(node_modules: Path, folder: Path, *options: str) -> Path:
    """Bundle fal's client with the script, as every page does."""
    (folder / "fal.mjs").write_text(FAL)
    out = folder / "bundle.js"
    subprocess.run(
        [node_modules / ".bin" / "esbuild", "fal.mjs", "--bundle", f"--outfile={out}", "--log-level=error", *options],
        cwd=folder, env={"NODE_PATH": str(node_modules), "PATH": "/usr/bin:/usr/local/bin"}, check=True, timeout=60,
    )  # fmt: skip
    return out


def check_fal(found: dict[str, Any]) -> None:
    assert found["statuses"][0] in ("IN_QUEUE", "IN_PROGRESS")
    assert found["statuses"][-1] == "COMPLETED"
    assert "red square" in found["polled"]
    assert found["streamed"] == found["polled"]
    assert found["direct"] == 1
    assert "Three" in found["uploaded"]
    assert found["batched"] in ("IN_QUEUE", "IN_PROGRESS", "COMPLETED")
    assert found["refused"] == 403


def test_moondreams_node_client(url: str, node_modules: Path, tmp_path: Path):
    script = tmp_path / "moondream.cjs"
    script.write_text(MOONDREAM)
    found = node(node_modules, script, url, URI)
    assert "red square" in found["caption"]
    assert "Three" in found["answer"]
    assert len(found["objects"]) == len(found["points"]) == 1
    assert found["path"].startswith("M")
    assert "".join(found["pieces"]) == found["caption"]


def test_fals_client_in_node(url: str, node_modules: Path, tmp_path: Path):
    bundle(node_modules, tmp_path, "--platform=node", "--format=cjs")
    script = tmp_path / "run.cjs"
    proxy = json.dumps({"url": f"{url}/api/fal/proxy", "when": "always"})
    script.write_text(
        'const { main } = require("./bundle.js");\n'
        f"main({{ proxyUrl: {proxy}, uri: process.argv[2] }}).then((found) => console.log(JSON.stringify(found)));\n"
    )
    check_fal(node(node_modules, script, URI))


def test_fals_client_in_a_page(url: str, node_modules: Path, tmp_path: Path, page: Page):
    code = bundle(node_modules, tmp_path, "--platform=browser", "--format=iife", "--global-name=example")
    shown: list[str] = []
    page.on("response", lambda response: shown.append(str(response.all_headers())))
    page.goto(url)
    page.add_script_tag(path=code)
    check_fal(page.evaluate("uri => example.main({ proxyUrl: '/api/fal/proxy', uri })", URI))
    assert not any("fal-secret" in text for text in [*shown, page.content()])


def test_a_foreign_page(url: str, page: Page):
    """A page of another site can neither read the proxy's answers nor make it send anything."""
    page.goto(url.replace("127.0.0.1", "localhost"))
    attempts = """async (url) => {
        const outcomes = [];
        for (const type of ["application/json", "text/plain", "application/x-www-form-urlencoded"]) {
            for (const mode of ["cors", "no-cors"]) {
                const options = { method: "POST", mode, headers: { "Content-Type": type }, body: '{"question": "x"}' };
                const outcome = await fetch(url, options).then(
                    async (response) => `${response.type} ${response.status} ${await response.text()}`, () => "failed");
                outcomes.push(outcome);
            }
        }
        return outcomes;
    }"""
    outcomes = page.evaluate(attempts, f"{url}/v1/query")
    assert set(outcomes) <= {"failed", "opaque 0 "}
    stats = page.request.post(f"{url}/v1/query", data={"question": "x"}, headers={"Content-Type": "application/json"})
    assert stats.status == 200  # the proxy itself works
