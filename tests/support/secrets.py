"""Calls of every kind, and all that errors show of them, for tests that no key is shown."""

from __future__ import annotations

import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import httpx2

from moondream_async import AsyncClient, EncodedImage

Call = Callable[[AsyncClient, EncodedImage], Awaitable[Any]]

_TESTS = str(Path(__file__).parents[1])


async def read_stream(client: AsyncClient, image: EncodedImage) -> str:
    async with await client.caption(image, stream=True) as stream:
        return "".join([piece async for piece in stream])


async def upload(client: AsyncClient, _: EncodedImage) -> Any:
    from moondream_async._http.payloads import FileBody

    body = FileBody(Path(__file__), 0, 1000)
    return await client._api.call("PUT", "batch/x", lambda data, _: data, body=body)  # pyright: ignore[reportPrivateUsage]


CALLS: dict[str, Call] = {
    "skill": lambda client, image: client.query(image, "?"),
    "stream": read_stream,
    "models": lambda client, _: client.models(),
    "chat": lambda client, _: client.chat([{"role": "user", "content": "hi"}]),
    "upload": upload,
    "batch": lambda client, _: client.batches.retrieve("b1"),
    "tuning": lambda client, _: client.tuning.retrieve("f1"),
}


def visible_in(error: BaseException) -> str:
    """Return all that a debugger shows of an error: its chain and frames, without those of tests, and their locals."""
    pieces: list[str] = []
    links: list[BaseException] = [error]
    for link in links:
        links += [each for each in (link.__cause__, link.__context__) if each is not None and each not in links]
        pieces.append(repr(link) + str(link) + repr(vars(link)))
        for frame, _ in traceback.walk_tb(link.__traceback__):
            if frame.f_code.co_filename.startswith(_TESTS):
                continue
            for value in frame.f_locals.values():
                pieces += [repr(value), *(f"{value[:20]!r}" for _ in "x" if isinstance(value, (str, bytes)))]
                if isinstance(value, (dict, httpx.Headers, httpx2.Headers)):  # as rich and Sentry show mappings
                    pieces.append(repr(list(value.items())))
                if isinstance(value, (httpx.Request, httpx.Response, httpx2.Request, httpx2.Response)):
                    request = value.request if isinstance(value, (httpx.Response, httpx2.Response)) else value
                    pieces.append(repr(request.headers) + repr(list(request.headers.items())))
    return "\n".join(pieces)
