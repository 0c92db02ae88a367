"""`Sandbox`: the application on a real socket, in a background thread."""

from __future__ import annotations

import logging
import socket
import threading
from typing import Self

import anyio
import anyio.to_thread

from .._public import public
from ..errors import ConfigurationError
from .faults import Faults

try:
    import uvicorn

    from . import app
except ModuleNotFoundError as exc:
    raise ConfigurationError(
        f"The sandbox needs {exc.name}: install the extra with `pip install 'moondream-async[sandbox]'`."
    ) from None

logger = logging.getLogger("moondream_async.sandbox")

_START_TIMEOUT, _STOP_TIMEOUT = 10.0, 5.0  # seconds


@public("sandbox")
class Sandbox:
    """A local Moondream-compatible server; a sync and async context manager.

    It is a stand-in, not a model, and says so in its log and in the header `X-Moondream-Sandbox` of every response.

    Args:
        host: Address to listen on. Default `127.0.0.1`.
        port: Port to listen on; 0 (default) picks a free one.
        api_key: The only API key that is accepted; others get a 401. With None (default), any key and no key are
            accepted.
        rate_limit: Requests per second, beyond which the sandbox responds with 429; None (default) for no limit. The
            cloud's tiers are 2 and 10.
        certificate: Paths of a certificate and its private key (PEM), to serve HTTPS. Default HTTP.
        faults: Faults to inject into every request; see `Faults`. For a single request, use the header
            `X-Sandbox-Fault`.
        **more: Fields of `Faults` by name, such as `latency=0.1, shape="docs", cut=3`.

    Raises:
        ConfigurationError: The extra `sandbox` is missing, or a fault is invalid. `start` raises it if the port or the
            certificate cannot be used.

    Example:
        >>> from moondream_async import Client
        >>> with Sandbox() as sandbox, Client(base_url=sandbox.base_url) as client:
        ...     print(client.caption("photo.jpg").caption)
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
        rate_limit: float | None = None,
        certificate: tuple[str, str] | None = None,
        faults: Faults | None = None,
        **more: float | str | bool,
    ) -> None:
        try:
            faults = faults if faults is not None else Faults()
            for name, value in more.items():
                faults = faults.with_header(f"{name}={value}")
        except ValueError as exc:
            raise ConfigurationError(f"The sandbox cannot be configured: {exc}.") from None
        self._app = app.build(api_key=api_key, rate_limit=rate_limit, faults=faults)
        self._host = host
        self._port = port
        self._certificate = certificate
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """Port that the server listens on; before `start`, the argument `port`."""
        return self._port

    @property
    def base_url(self) -> str:
        """Base URL for `Client` and `AsyncClient`."""
        return f"{self._root}/v1"

    @property
    def fal_url(self) -> str:
        """Base URL for `FalClient` and `AsyncFalClient`."""
        return f"{self._root}/fal"

    @property
    def _root(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        scheme = "https" if self._certificate else "http"
        return f"{scheme}://{host}:{self._port}"

    def start(self) -> Self:
        """Start the server; return once it accepts requests.

        Raises:
            ConfigurationError: The port or the certificate cannot be used.
        """
        listener = self._listen()
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,  # uvicorn's default needs a standard output, which programs without a console lack
            log_level="critical",
            server_header=False,
            timeout_graceful_shutdown=1,
            ssl_certfile=self._certificate[0] if self._certificate else None,
            ssl_keyfile=self._certificate[1] if self._certificate else None,
        )
        _load_config(config, listener)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="moondream-sandbox", daemon=True
        )
        self._thread.start()
        self._wait_until_started()
        logger.info("sandbox on %s: a %s", self.base_url, app.NOTICE)
        return self

    def stop(self) -> None:
        """Stop the server and free the port; does nothing if it is not running."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_STOP_TIMEOUT)
            self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await anyio.to_thread.run_sync(self.start)

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)

    def _listen(self) -> socket.socket:
        try:
            listener = _create_listener(self._host, self._port)
        except (OSError, ValueError) as exc:  # UnicodeError is a ValueError
            problem = getattr(exc, "strerror", None) or exc
            raise ConfigurationError(f"The sandbox cannot listen on {self._host}:{self._port}: {problem}.") from None
        # Inherited by accepted sockets. Without it, Nagle's algorithm delays every small response by 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener

    def _wait_until_started(self) -> None:
        assert self._server is not None
        assert self._thread is not None
        pause = threading.Event()
        for _ in range(int(_START_TIMEOUT / 0.01)):
            if self._server.started:
                return
            if not self._thread.is_alive():
                break
            pause.wait(0.01)
        raise ConfigurationError("The sandbox did not start.")


def _create_listener(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65_535:
        raise ValueError("the port must be from 0 to 65535")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def _load_config(config: uvicorn.Config, listener: socket.socket) -> None:
    """Load the configuration, which reads the certificate."""
    try:
        config.load()
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        listener.close()
        raise ConfigurationError(f"The sandbox cannot use the certificate: {exc}.") from None
