"""Calls on trio and at the end of the interpreter, each in a separate process."""

from __future__ import annotations

import base64
import sys

import anyio
import pytest

from moondream_async import EncodedImage

KEY = "md-SECRET-0123456789abcdef"


async def test_on_trio(tiny: EncodedImage) -> None:
    del tiny
    program = f"""
import traceback, trio
from moondream_async import AsyncClient
async def main():
    async def hang(stream):
        await trio.sleep(60)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, hang, 0)
        port = listeners[0].socket.getsockname()[1]
        client = AsyncClient({KEY!r}, base_url=f"http://127.0.0.1:{{port}}/v1", retry=1)
        seen = []
        async def call():
            try:
                await client.models()
            except BaseException as exc:
                frames = [dict(f.f_locals) for f, _ in traceback.walk_tb(exc.__traceback__)][1:]
                seen.append(repr(frames))
                raise
        with trio.move_on_after(0.3):
            await call()
        assert seen and "SECRET" not in seen[0]
        nursery.cancel_scope.cancel()
trio.run(main)
"""
    done = await anyio.run_process([sys.executable, "-c", program], check=False)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("begin", ["atexit.register(end)", "threading.Thread(target=wait_and_end).start()"])
async def test_calls_at_the_end_of_the_interpreter(begin: str, scene: bytes) -> None:
    picture = base64.b64encode(scene).decode()
    program = f"""
import asyncio, atexit, threading
from moondream_async import AsyncClient, MoondreamError
def end():
    client = AsyncClient(base_url="http://localhost:9/v1", retry=1)
    for image in ("https://localhost:9/x.png", {picture!r}):
        try:
            asyncio.run(client.caption(image))
        except MoondreamError as exc:
            print("typed", exc, flush=True)
def wait_and_end():
    threading.main_thread().join()
    end()
{begin}
"""
    done = await anyio.run_process([sys.executable, "-c", program], check=False)
    assert done.stdout.count(b"typed") == 2, done.stderr.decode()
