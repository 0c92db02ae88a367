"""The routes: Moondream Cloud's wire, answered from pixels."""

from __future__ import annotations

import datetime
import functools
import hmac
import re
import secrets
import time
from collections.abc import Awaitable, Callable

import anyio
import anyio.to_thread
import attrs
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from . import chat, engine, events, reading
from .batches.routes import Batches, Handler
from .events import Event, lost
from .fal.routes import Fal
from .faults import Burst, Faults, RateLimit, from_headers
from .limits import BodyLimit
from .reading import Fields, Refusal
from .tuning import Tuning

NOTICE = "stand-in computed from pixels, not a model"
MODELS = ("moondream3.1-9B-A2B", "moondream3-preview")

_ERROR_TYPES = {
    401: ("authentication_error", "invalid_api_key", "Invalid API key"),
    403: ("permission_error", "forbidden", "This key may not do that"),
    404: ("not_found_error", "not_found", "Not found"),
    413: ("invalid_request_error", "image_too_large", "Image size exceeds limits"),
    422: ("invalid_request_error", "unprocessable", "The request cannot be processed"),
    429: ("rate_limit_error", "rate_limit_exceeded", "Rate limit exceeded"),
    500: ("server_error", "internal_error", "Inference failed"),
    503: ("server_error", "engine_not_ready", "Engine is not ready"),
}


def build(*, api_key: str | None, rate_limit: float | None, faults: Faults) -> Starlette:
    """The ASGI application of one sandbox."""
    gate = _Gate(api_key, RateLimit(rate_limit), faults)
    tuning = Tuning(engine.answered)
    batches = Batches(engine.answered, lambda model: model in MODELS or tuning.knows_model(model), MODELS[1], faults)
    routes = [
        Route(
            f"/v1/{name}", gate.before(name, _always(functools.partial(_serve, name, work, tuning))), methods=["POST"]
        )
        for name, work in engine.SKILLS.items()
    ]
    routes.append(
        Route("/v1/chat/completions", gate.before("chat", _always(functools.partial(_chat, tuning))), methods=["POST"])
    )
    # Public, but a wrong key is refused: a free way to check one.
    routes.append(Route("/v1/models", gate.before("models", _always(_models), public=True)))
    routes += batches.routes(gate.before)
    routes += tuning.routes(gate.before)
    routes.append(Route("/health", _health))
    fal = Fal(api_key, RateLimit(rate_limit), faults)
    routes += fal.routes()
    application = Starlette(
        routes=routes, middleware=[Middleware(BodyLimit)], exception_handlers={HTTPException: _plain_error}
    )
    application.state.fal, application.state.batches, application.state.tuning = fal, batches, tuning
    return application


@attrs.define
class _Gate:
    """What stands before every skill: latency, rate limit, error bursts, the key."""

    api_key: str | None
    limit: RateLimit
    faults: Faults
    burst: Burst = attrs.field(factory=Burst)

    def before(
        self, name: str, choose: Callable[[Request], Handler], *, public: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint that `choose` picks the handler of, once the request is admitted."""

        async def endpoint(request: Request) -> Response:
            return await self._admit(request.query_params.get("action") or name, choose, request, public=public)

        return endpoint

    async def _admit(
        self, name: str, choose: Callable[[Request], Handler], request: Request, *, public: bool
    ) -> Response:
        try:
            faults = from_headers(self.faults, request.headers)
        except ValueError as exc:
            return _error(400, f"Bad X-Sandbox-Fault: {exc}", code="bad_fault")
        here = faults.on in ("", name)
        if faults.latency and here:
            await anyio.sleep(faults.latency)
        if not (public and self._key(request) is None) and not self._knows(self._key(request)):
            return _error(401)
        if not self.limit.allows():
            return _error(429, retry_after=faults.retry_after)
        due = here and self.burst.due(faults)
        if due and not faults.drop:
            return _error(faults.status, retry_after=faults.retry_after)
        try:
            response = await choose(request)(request, faults)
            return lost() if due else response
        except Refusal as refusal:
            return _error(refusal.status, refusal.message, code=refusal.code, param=refusal.param)

    def _key(self, request: Request) -> str | None:
        return request.headers.get("x-moondream-auth") or _bearer(request)

    def _knows(self, key: str | None) -> bool:
        return self.api_key is None or hmac.compare_digest((key or "").encode(), self.api_key.encode())


def _always(work: Handler) -> Callable[[Request], Handler]:
    return lambda _: work


async def _serve(name: str, work: engine.Skill, tuning: Tuning, request: Request, faults: Faults) -> Response:
    started = time.monotonic()
    data = reading.fields(await request.body())
    tuning.check_model(data)
    stream = reading.flag(data, "stream") and name in ("query", "caption", "segment")
    done = await anyio.to_thread.run_sync(work, data)
    answer = _answer(name, data, done, time.monotonic() - started)
    if not stream:
        return JSONResponse(answer, headers=_HEADERS)
    if done.found is not None:
        written = events.segment_events(done.found, answer)
    else:
        written = events.text_events(faults.shape, done.field, done.value, answer)
    headers = {**_HEADERS, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(events.body(written, faults), media_type="text/event-stream", headers=headers)


async def _chat(tuning: Tuning, request: Request, faults: Faults) -> Response:
    data = reading.fields(await request.body())
    tuning.check_model(data)
    streams = reading.flag(data, "stream")
    whole = await anyio.to_thread.run_sync(chat.answer, data, engine.SKILLS["query"], engine.metrics)
    if not streams:
        return JSONResponse(whole, headers=_HEADERS)
    headers = {**_HEADERS, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(chat.stream(whole, data, faults), media_type="text/event-stream", headers=headers)


def _answer(name: str, data: Fields, done: engine.Done, seconds: float) -> Event:
    now = datetime.datetime.now(datetime.UTC)
    return {
        "request_id": f"{now:%Y-%m-%d}_{name}_{now:%Y-%m-%d-%H:%M:%S}-sandbox-{secrets.token_hex(3)}",
        "finish_reason": done.finish_reason,
        done.field: done.value,
        **done.more,
        "metrics": engine.metrics(data, done, seconds),
    }


def _error(
    status: int,
    message: str | None = None,
    *,
    code: str | None = None,
    param: str | None = None,
    retry_after: float = -1,
) -> Response:
    kind, usual_code, usual = _ERROR_TYPES.get(status, ("invalid_request_error", "error", f"Error {status}"))
    error = {"message": message or usual, "type": kind, "param": param, "code": code or usual_code}
    headers = {**_HEADERS, "x-request-id": f"sandbox-{secrets.token_hex(4)}"}
    if status in (429, 503) and retry_after >= 0:
        headers["Retry-After"] = f"{retry_after:g}"
    return JSONResponse({"error": error}, status, headers)


async def _plain_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    if request.url.path.startswith("/fal/"):
        return JSONResponse({"detail": exc.detail}, exc.status_code, exc.headers)
    response = _error(exc.status_code, exc.detail)
    response.headers.update(exc.headers or {})
    return response


async def _models(_: Request, __: Faults) -> Response:
    listing = [{"id": name, "object": "model", "owned_by": "sandbox"} for name in MODELS]
    return JSONResponse({"object": "list", "data": listing}, headers=_HEADERS)


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok", "server": "moondream-async-sandbox", "notice": NOTICE}, headers=_HEADERS)


def _bearer(request: Request) -> str | None:
    match = re.fullmatch(r"Bearer\s+(\S+)", request.headers.get("authorization", ""))
    return match[1] if match else None


_HEADERS = {"Server": "moondream-async-sandbox", "X-Moondream-Sandbox": NOTICE}
