"""The commands that serve until Ctrl-C: `proxy` and `playground`."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import logging
import math
import os
import socket
import sys
from collections.abc import Callable
from typing import Any, cast

from .._client.async_client import AsyncClient
from .._extras import check_extra
from .._log import print_log
from ..errors import ConfigurationError
from ..fal import AsyncFalClient
from .arguments import Arguments
from .connection import connection
from .console import show
from .sample_image import sample

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def proxy(arguments: Arguments) -> None:
    """Run the proxy."""
    check_extra("proxy", "The proxy")
    from ..proxy import Proxy

    if not arguments.quiet:
        print_log(logging.INFO)  # the requests, and who may send them
    if not math.isfinite(arguments.max_body):
        raise ConfigurationError("--max-body must be a number of megabytes.")
    authorize = _load(arguments.authorize) if arguments.authorize else None
    if authorize is None and arguments.host not in _LOOPBACK:
        raise ConfigurationError(
            f"--host {arguments.host} needs --authorize MODULE:FUNCTION: without it, only this machine is admitted."
        )
    if authorize is None and arguments.allow_origin:
        raise ConfigurationError(
            "--allow-origin needs --authorize MODULE:FUNCTION: without it, only pages of the proxy itself may call it."
        )
    with connection(arguments, hooks=None) as target:
        app = Proxy(
            client=AsyncClient(**target),
            fal=_fal_of_sandbox(target["base_url"]) if arguments.sandbox else None,
            authorize=authorize,
            origins=arguments.allow_origin,
            rate_limit=arguments.rate_limit or None,
            max_body=int(arguments.max_body * 1024 * 1024),
        )

        def started(url: str) -> None:
            show(f"moondream-async proxy on {url}", flush=True)
            show(f"  Moondream: {url}/v1", flush=True)
            if app.has_fal:
                show(f"  fal.ai:    {url}/api/fal/proxy", flush=True)
            show("Ctrl-C stops it.", flush=True)

        serve(app, arguments.host, arguments.port, started)


def playground(arguments: Arguments) -> None:
    """Run the playground."""
    check_extra("proxy", "The playground")
    from .._playground.app import build

    if not arguments.verbose:
        logging.getLogger("moondream_async.proxy").setLevel(logging.ERROR)
    png = io.BytesIO()
    sample().save(png, "PNG")
    with connection(arguments, hooks=None) as target:
        notice = "a stand-in without a model" if arguments.sandbox else ""
        app = build(AsyncClient(**target), sample=png.getvalue(), notice=notice)

        def started(url: str) -> None:
            show(f"moondream-async playground on {url}", flush=True)
            show("Only this machine can open it. Ctrl-C stops it.", flush=True)
            if arguments.open:
                import webbrowser

                webbrowser.open(url)

        serve(app, "127.0.0.1", arguments.port, started)


def _fal_of_sandbox(base_url: str) -> AsyncFalClient:
    return AsyncFalClient("sandbox:" + "x" * 16, base_url=f"{base_url.removesuffix('/v1')}/fal")


def _load(name: str) -> Callable[..., Any]:
    """Import the function that `--authorize` names."""
    module, _, function = name.partition(":")
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as ASGI servers do
    try:
        value: Any = getattr(importlib.import_module(module), function)
    except Exception as exc:  # whatever the module raises
        problem = str(exc) or type(exc).__name__
    else:
        if callable(value):
            return cast("Callable[..., Any]", value)
        problem = "it is not a function"
    raise ConfigurationError(f"--authorize {name} cannot be used: {problem}. It must be like myapp.auth:check.")


def serve(app: Any, host: str, port: int, started: Callable[[str], None]) -> None:
    """Serve an ASGI application until Ctrl-C; call `started` with its URL."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            started(url)

    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as exc:
        problem = getattr(exc, "strerror", None) or exc
        is_host = isinstance(exc, socket.gaierror) or getattr(exc, "errno", None) == errno.EADDRNOTAVAIL
        option = "--host" if is_host else "--port"
        raise ConfigurationError(f"{host}:{port} cannot be used: {problem}. Choose another with {option}.") from None
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or small events would wait for more
    name = f"[{host}]" if ":" in host else host
    url = f"http://{name}:{listener.getsockname()[1]}"
    config = uvicorn.Config(
        app,
        ws="none",
        access_log=False,
        log_config=None,
        log_level="critical",  # failures are logged by the application
        proxy_headers=False,  # the proxy looks at them itself
        server_header=False,
        timeout_graceful_shutdown=1,
        limit_concurrency=1000,
        h11_max_incomplete_event_size=64 * 1024,
    )
    with contextlib.closing(listener):
        Server(config).run([listener])
