"""`Proxy`: the ASGI application."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Literal

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from .. import config
from .._client.async_client import AsyncClient
from .._fal.async_client import AsyncFalClient, is_configured
from .._public import public
from ..errors import ConfigurationError
from .access import Access, Authorize
from .exchange import SAFE_HEADERS, Endpoint, Gate, log, new_id
from .fal_targets import MOONDREAM_ENDPOINTS
from .refusals import Refusal
from .upstreams import FalUpstream, MoondreamUpstream
from .visitors import Visitors

SKILLS = ("query", "caption", "detect", "point", "segment", "chat")

_MB = 1024 * 1024
_LOGGED_PATH = 200
_ERROR_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error"}
_EXPOSED = ("x-upstream-request-id", "x-request-id", "x-fal-request-id", "x-fal-error-type", "retry-after")


@public("proxy")
class Proxy:
    """An ASGI application that calls Moondream and fal.ai for browsers, which then need no key.

    - `/v1/query`, `/v1/caption`, `/v1/detect`, `/v1/point`, `/v1/segment`, `/v1/chat/completions`: Moondream's API.
      Point Moondream's own clients to it with `endpoint=`.
    - `/api/fal/proxy`: fal.ai's proxy contract, for `fal.config({ proxyUrl: "/api/fal/proxy" })`.

    Mount it in Starlette or FastAPI (`app.mount("/moondream", Proxy(authorize=...))`), or run it with any ASGI server.
    Responses are passed on as they arrive. The key is added here, and taken out of whatever comes back.

    Args:
        authorize: Your function, sync or async, that decides about each Starlette `Request`. It returns True, or the
            visitor's name, to admit it; any falsy value is answered with 401. **Default None: only programs and
            pages of this machine are admitted**: the peer and the Host are loopback, the Origin is absent or the
            proxy's own, and nothing shows that the request passed a reverse proxy.
        client: The client whose server, key and model are used. Default: `AsyncClient()`, from the environment.
        fal: The same for fal.ai. Default: `AsyncFalClient()`, if `FAL_KEY` or `FAL_BASE_URL` is set; else fal's route
            answers with 404. False: never.
        skills: The skills that may be called. Default: query, caption, detect, point, segment, chat.
        models: The models that a request may name, besides the client's own. Default None: all, so that a visitor may
            name a dearer one, or a finetune of yours. `[]` for the client's own only.
        fal_endpoints: The endpoints of fal that may be called; `/*` at the end allows all below. Default: Moondream's.
        origins: Other origins whose pages may call it, such as `https://app.example` (CORS). Needs `authorize`.
        max_body: Maximum size of a request, in bytes. Default 20 MiB; above it, the answer is 413.
        rate_limit: Calls per second for each visitor; twice as many may come at once. Default 5; None for no limit.
        max_concurrent: Requests at a time for each visitor. Default 16; None for no limit.

    Attributes:
        has_fal: Whether fal.ai can be called.

    Raises:
        ConfigurationError: An argument is not valid, or a client cannot be made.
    """

    def __init__(
        self,
        *,
        authorize: Authorize | None = None,
        client: AsyncClient | None = None,
        fal: AsyncFalClient | Literal[False] | None = None,
        skills: Sequence[str] = SKILLS,
        models: Sequence[str] | None = None,
        fal_endpoints: Sequence[str] = MOONDREAM_ENDPOINTS,
        origins: Sequence[str] = (),
        max_body: int = 20 * _MB,
        rate_limit: float | None = 5.0,
        max_concurrent: int | None = 16,
    ) -> None:
        if unknown := [name for name in skills if name not in SKILLS]:
            raise ConfigurationError(f"skills must be among {', '.join(SKILLS)}, not {unknown[0]!r}.")
        if isinstance(models, str):
            raise ConfigurationError(f"models must be a list, such as [{models!r}].")
        self._own: list[AsyncClient | AsyncFalClient] = []
        if client is None:
            client = AsyncClient()
            self._own.append(client)
        if fal is None and is_configured():
            fal = AsyncFalClient()
            self._own.append(fal)
        fal = fal or None
        self.has_fal = fal is not None
        visitors = Visitors(
            config.check_rate_limit(rate_limit),
            None if max_concurrent is None else config.check_whole("max_concurrent", max_concurrent, least=1),
        )
        max_body = config.check_whole("max_body", max_body, least=1)
        self._gate = Gate(Access(authorize, origins), visitors, max_body)
        moondream = MoondreamUpstream(client, skills, models)
        routes = [Route("/v1/{skill:path}", Endpoint(self._gate, moondream), methods=["POST"])]
        if fal is not None:
            fal_upstream = FalUpstream(fal, fal_endpoints)
            methods = ["GET", "POST", "PUT"]
            routes.append(Route("/api/fal/proxy", Endpoint(self._gate, fal_upstream), methods=methods))
        else:
            routes.append(Route("/api/fal/proxy", _no_fal, methods=["GET", "POST", "PUT"]))
        self._app = Starlette(
            routes=routes,
            middleware=_cors(origins),
            exception_handlers={HTTPException: _http_error},
            lifespan=self._lifespan,
        )
        self._app.router.redirect_slashes = False  # before any check, to any Host
        if authorize is None:
            log.warning("This proxy has no `authorize`: only programs and pages of this machine may call it.")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        await self._app(scope, receive, send)

    async def check_access(self, request: Request) -> str:
        """Check whether a request is admitted, and return the visitor's name. Use it to protect routes of your own.

        Raises:
            HTTPException: It is not admitted (Starlette's exception).
        """
        try:
            return await self._gate.access.check(request)
        except Refusal as exc:
            refused = HTTPException(exc.status, exc.message)
        raise refused

    async def aclose(self) -> None:
        """Close the clients that the proxy created.

        An ASGI server does this at shutdown. If you mount the proxy, call it yourself.
        """
        for client in self._own:
            await client.aclose()

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            await self.aclose()


def _cors(origins: Sequence[str]) -> list[Middleware]:
    if not origins:
        return []
    return [
        Middleware(
            _Cors,
            allow_origins=[origin.lower() for origin in origins],
            allow_methods=["GET", "POST", "PUT"],
            allow_headers=["*"],
            allow_credentials="*" not in origins,
            expose_headers=list(_EXPOSED),
        )
    ]


class _Cors(CORSMiddleware):
    """CORS that logs the preflight requests that it refuses."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a preflight request."""
        response = super().preflight_response(request_headers)
        if response.status_code >= 400:
            log.info("OPTIONS: %d, origin %r: %s", response.status_code, request_headers["origin"], response.body)
        return response


async def _no_fal(request: Request) -> JSONResponse:
    return _refuse(
        request, {"detail": "This proxy does not serve fal.ai; to change that, set FAL_KEY on the server."}, 404
    )


async def _http_error(request: Request, exc: Exception) -> JSONResponse:
    assert isinstance(exc, HTTPException)
    kind = _ERROR_TYPES.get(exc.status_code, "invalid_request_error")
    body = {"error": {"type": kind, "message": exc.detail}}
    return _refuse(request, body, exc.status_code, exc.headers)


def _refuse(request: Request, body: Any, status: int, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Answer what no route serves, and log it."""
    request_id = new_id()
    log.info("%s %r: %d, request %s", request.method, request.url.path[:_LOGGED_PATH], status, request_id)
    return JSONResponse(body, status, {**SAFE_HEADERS, **(headers or {}), "X-Request-ID": request_id})
