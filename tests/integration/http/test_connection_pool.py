"""Connections that are opened ahead of their calls, on a real socket."""

from __future__ import annotations

import asyncio

from moondream_async._http.connection_pool import ConnectionPool
from moondream_async._http.http1 import Http1Connection

from ...support.loopback import Exchange, Server, serve, until


async def _never(exchange: Exchange) -> None:
    raise AssertionError("no request is sent")


def _connection(server: Server) -> Http1Connection:
    return Http1Connection("127.0.0.1", int(server.base_url.rpartition(":")[2].partition("/")[0]), None)


async def test_a_call_canceled_as_its_connection_opens_closes_it() -> None:
    async with serve(_never) as server:
        pool = ConnectionPool()
        opening = pool.open_ahead((b"http", b"127.0.0.1", None), _connection(server), 5)
        assert opening is not None
        call = asyncio.create_task(opening.take())
        opening._task.add_done_callback(lambda _: call.cancel())  # it has opened, and `take` has not resumed
        await asyncio.wait([call])
        assert call.cancelled()
        await until(lambda: server.connections == 1)
        await until(lambda: server.open == 0)
