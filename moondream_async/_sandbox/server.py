"""`Sandbox`: the application on a real loopback socket, in a thread of its own."""

from __future__ import annotations

import logging
import socket
import threading
from types import TracebackType
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

_START, _STOP = 10.0, 5.0  # seconds the server may take


@public("sandbox")
class Sandbox:
    """A local Moondream-compatible server; sync and async context manager.

    A stand-in, not a model: it says so in its log and in the header `X-Moondream-Sandbox` of
    every answer.

    Args:
        host: Where to listen. Default loopback.
        port: 0 takes a free one.
        api_key: The one key it accepts (401 for others); None accepts any, and none.
        rate_limit: Requests per second it allows, 429 beyond; the real tiers are 2 and 10.
        certificate: Paths of a certificate and its key, to serve https.
        faults: Everything else that should go wrong; see `Faults`. Each can also be asked for by
            request, with the header `X-Sandbox-Fault`.
        **more: Fields of `Faults` by name, such as `latency=0.1, shape="docs", cut=3`.

    Raises:
        ConfigurationError: The extra `sandbox` is missing, a fault is unknown, or the port is taken.
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
            chosen = faults if faults is not None else Faults()
            for name, value in more.items():
                chosen = chosen.with_header(f"{name}={value}")
        except ValueError as exc:
            problem = str(exc)
        else:
            self._app = app.build(api_key=api_key, rate_limit=rate_limit, faults=chosen)
            self._host = host
            self._port = port
            self._certificate = certificate
            self._server: uvicorn.Server | None = None
            self._thread: threading.Thread | None = None
            return
        raise ConfigurationError(f"The sandbox cannot be set up: {problem}.")

    @property
    def port(self) -> int:
        """The port it listens on; 0 before it is started, if none was given."""
        return self._port

    @property
    def base_url(self) -> str:
        """What to pass as `base_url`."""
        return f"{self._root}/v1"

    @property
    def fal_url(self) -> str:
        """What to pass to `AsyncFalClient` as `base_url`."""
        return f"{self._root}/fal"

    @property
    def _root(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'http' if self._certificate is None else 'https'}://{host}:{self._port}"

    def start(self) -> Self:
        """Start serving; returns when requests are accepted."""
        listener = self._listen()
        self._port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._app,
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,  # uvicorn's own would need a standard output, which windowed programs have not
            log_level="critical",
            server_header=False,
            timeout_graceful_shutdown=1,
            ssl_certfile=self._certificate[0] if self._certificate else None,
            ssl_keyfile=self._certificate[1] if self._certificate else None,
        )
        _load(config, listener)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="moondream-sandbox", daemon=True
        )
        self._thread.start()
        self._wait_until_started()
        logger.info("sandbox on %s: a %s", self.base_url, app.NOTICE)
        return self

    def stop(self) -> None:
        """Stop serving and free the port; safe to call again."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_STOP)
            self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await anyio.to_thread.run_sync(self.start)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)

    def _listen(self) -> socket.socket:
        try:
            listener = _listener(self._host, self._port)
        except (OSError, ValueError) as exc:  # UnicodeError is a ValueError
            problem = getattr(exc, "strerror", None) or str(exc)
        else:
            # Accepted sockets inherit it. Without it Nagle's algorithm holds every small answer back for 40 ms.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return listener
        raise ConfigurationError(f"The sandbox cannot listen on {self._host}:{self._port}: {problem}.")

    def _wait_until_started(self) -> None:
        assert self._server is not None
        assert self._thread is not None
        waited = threading.Event()
        for _ in range(int(_START / 0.01)):
            if self._server.started:
                return
            if not self._thread.is_alive():
                break
            waited.wait(0.01)
        raise ConfigurationError("The sandbox did not start.")


def _listener(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65_535:
        raise ValueError("there is no such port")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=2048)


def _load(config: uvicorn.Config, listener: socket.socket) -> None:
    """Have the certificate read."""
    try:
        config.load()
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        listener.close()
        problem = str(exc)
    else:
        return
    raise ConfigurationError(f"The sandbox cannot use its certificate: {problem}.")
