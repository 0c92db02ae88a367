"""`moondream-async mcp`: serve agents, on stdin and stdout or over HTTP."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._client.async_client import AsyncClient
from .._extras import import_extra
from .arguments import Arguments
from .connection import connection
from .console import show
from .serving import serve

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer


def mcp(arguments: Arguments) -> None:
    """Run the MCP server."""
    import_extra("mcp.server.mcpserver", "mcp", "The MCP server")
    from ..mcp import create_app, create_server

    if not arguments.verbose:
        logging.getLogger("moondream_async.proxy").setLevel(logging.ERROR)
    temporary = tempfile.TemporaryDirectory(prefix="moondream-mcp-")
    with temporary as folder, connection(arguments) as target:
        client = AsyncClient(**target)
        server = create_server(
            client,
            roots=arguments.root or None,
            output=arguments.output or folder,
            max_calls=arguments.max_calls,
            max_cost=arguments.max_cost,
            prices=arguments.prices,
        )
        if arguments.http:
            serve(create_app(server), "127.0.0.1", arguments.port, _show_url)
        else:
            asyncio.run(_serve_stdio(server, client, temporary.cleanup))


def _show_url(url: str) -> None:
    show(f"moondream-async mcp on {url}/mcp", flush=True)
    show("Only this machine can call it. Ctrl-C stops it.", flush=True)


async def _serve_stdio(server: MCPServer[Any], client: AsyncClient, clean: Callable[[], None]) -> None:
    """Serve until the client closes stdin, or a signal. Only the protocol is written to stdout."""
    if sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, _exit, number, clean)
    async with client:
        await server.run_stdio_async()


def _exit(number: int, clean: Callable[[], None]) -> None:
    """Exit at once: a thread that reads stdin cannot be stopped, and would keep the process alive."""
    clean()
    os._exit(128 + number)
