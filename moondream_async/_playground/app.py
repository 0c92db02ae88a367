"""The playground's ASGI application: its page and its files, on the proxy that calls the model."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from .._client.async_client import AsyncClient
from .._proxy.app import Proxy
from ..prices import MODEL_PRICES, prices_of

_FOLDER = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def build(client: AsyncClient, *, sample: bytes, notice: str = "") -> Starlette:
    """Build the application.

    Args:
        client: Calls the model.
        sample: A picture to try, as PNG.
        notice: What the page says about the server, such as that it is a stand-in.
    """
    proxy = Proxy(client=client, fal=False, rate_limit=None)
    prices = prices_of(client.base_url, client.model) or (MODEL_PRICES["moondream3-preview"] if notice else None)
    info = {
        "server": client.base_url,
        "model": client.model,
        "notice": notice,
        "prices": None if prices is None else {"input": prices.input, "output": prices.output},
    }
    paths = [path for path in sorted(_FOLDER.iterdir()) if path.suffix in _TYPES]
    files = {f"/{path.name}": (path.read_bytes(), _TYPES[path.suffix]) for path in paths}
    files["/"] = files.pop("/index.html")
    files["/sample.png"] = (sample, "image/png")
    routes: list[Any] = [Route(path, functools.partial(_file, proxy, *content)) for path, content in files.items()]
    routes += [
        Route("/info.json", functools.partial(_info, proxy, info)),
        Mount("", proxy),
    ]
    return Starlette(routes=routes)


async def _file(proxy: Proxy, content: bytes, media_type: str, request: Request) -> Response:
    await proxy.check_access(request)
    return Response(content, headers=_HEADERS, media_type=media_type)


async def _info(proxy: Proxy, info: dict[str, Any], request: Request) -> Response:
    await proxy.check_access(request)
    return JSONResponse(info, headers=_HEADERS)
