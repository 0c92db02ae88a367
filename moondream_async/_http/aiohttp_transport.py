"""Send httpx requests over aiohttp's connections (extra `aiohttp`): asyncio only, a quarter less CPU per call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from typing import Any, cast

import httpx

from .._concurrency.loop_local import LoopLocal
from ..errors import ConfigurationError
from .asyncio_backend import has_unread
from .proxies import EnvironmentProxies
from .tls import shared_ssl_context
from .transport import PooledTransport

try:
    import aiohttp
    from httpx_aiohttp import AiohttpTransport
except ImportError:
    raise ConfigurationError("http_client='aiohttp' needs aiohttp: pip install 'moondream-async[aiohttp]'.") from None

_KEEPALIVE = 60.0  # seconds that a connection may idle


class FastTransport(httpx.AsyncBaseTransport):
    """One aiohttp session per event loop; the session's slots limit the number of connections."""

    def __init__(self) -> None:
        self._sessions = LoopLocal(_session_transport)
        self._proxies = LoopLocal(EnvironmentProxies)
        self._proxied = PooledTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; over `PooledTransport` if it goes through a proxy of the environment.

        Raises:
            ConfigurationError: The event loop is not asyncio's.
            TRANSPORT_ERRORS: There was no response.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigurationError("http_client='aiohttp' works on asyncio only; leave it out on trio.") from None
        if self._proxies.get().find(request.url.scheme, request.url.host, request.url.port) is not None:
            return await self._proxied.handle_async_request(request)
        with _as_httpx_errors():
            response = await self._sessions.get().handle_async_request(request)
        response.stream = _Stream(cast("httpx.AsyncByteStream", response.stream))
        return response

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        await self._proxied.aclose()
        transport = self._sessions.pop()
        if transport is not None:
            await transport.aclose()


class _Stream(httpx.AsyncByteStream):
    def __init__(self, inner: httpx.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx_errors():
            async for chunk in self._inner:
                yield chunk

    async def aclose(self) -> None:
        with _as_httpx_errors():
            await self._inner.aclose()


@contextmanager
def _as_httpx_errors() -> Generator[None]:
    """Convert errors that httpx-aiohttp does not convert, or reports as a timeout when the connection was closed."""
    try:
        yield
    except httpx.ConnectTimeout as exc:
        if isinstance(exc.__cause__, TimeoutError):
            raise
        raise httpx.RemoteProtocolError(str(exc)) from None
    except aiohttp.ClientError as exc:
        raise httpx.RemoteProtocolError(str(exc)) from None
    except TimeoutError:
        raise httpx.ReadTimeout("no response in time") from None


class _Connector(aiohttp.TCPConnector):
    """Reuses a connection only if it received no data while idle, which aiohttp does not check."""

    async def _get(self, key: Any, traces: Any) -> Any:
        while (connection := await super()._get(key, traces)) is not None:
            protocol, transport = connection.protocol, connection.transport
            if protocol is None or transport is None:
                continue
            if not protocol.should_close and not has_unread(transport):
                return connection
            connection.close()
        return None


def _session_transport() -> AiohttpTransport:
    connector = _Connector(limit=0, ssl=shared_ssl_context(), keepalive_timeout=_KEEPALIVE)
    session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
    return AiohttpTransport(verify=shared_ssl_context(), client=session)
