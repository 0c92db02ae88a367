"""The ASGI application: Moondream Cloud's API, with answers computed from pixels."""

from __future__ import annotations

import datetime
import functools
import hmac
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import anyio.to_thread
import attrs
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from . import chat, engine, events, validation
from .batches.routes import Batches, Handler
from .events import Event, cut_response
from .fal.cors import StorageCors
from .fal.routes import Fal
from .faults import FaultCounter, Faults, RateLimit, faults_for
from .limits import BodyLimit
from .tuning import Tuning
from .validation import Fields, RequestError

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
    """Build the ASGI application of one sandbox."""
    gate = _Gate(api_key, RateLimit(rate_limit), faults)
    tuning = Tuning(engine.run_skill)
    batches = Batches(engine.run_skill, lambda model: model in MODELS or tuning.knows_model(model), MODELS[1], faults)
    routes = [
        Route(f"/v1/{name}", gate.admit(name, functools.partial(_run_skill, name, skill, tuning)), methods=["POST"])
        for name, skill in engine.SKILLS.items()
    ]
    fal = Fal(api_key, RateLimit(rate_limit), faults)
    routes += [
        Route("/v1/chat/completions", gate.admit("chat", functools.partial(_chat, tuning)), methods=["POST"]),
        # Public, but a wrong key gets a 401: a free way to check a key.
        Route("/v1/models", gate.admit("models", _models, public=True)),
        *batches.routes(gate.admit),
        *tuning.routes(gate.admit),
        Route("/health", _health),
        *fal.routes(),
    ]
    application = Starlette(
        routes=routes,
        middleware=[Middleware(BodyLimit), Middleware(StorageCors)],
        exception_handlers={HTTPException: _http_error},
    )
    application.state.fal, application.state.batches, application.state.tuning = fal, batches, tuning
    return application


@attrs.define
class _Gate:
    """The checks before every request: latency, API key, rate limit, injected errors."""

    api_key: str | None
    rate_limit: RateLimit
    faults: Faults
    fault_counter: FaultCounter = attrs.field(factory=FaultCounter)

    def admit(self, name: str, handler: Handler, *, public: bool = False) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint that admits a request, then calls its handler."""
        return functools.partial(self._admit, name, handler, public=public)

    async def _admit(self, name: str, handler: Handler, request: Request, *, public: bool) -> Response:
        name = request.query_params.get("action") or name
        try:
            faults = faults_for(self.faults, request.headers)
        except ValueError as exc:
            return _error_response(400, f"Bad X-Sandbox-Fault: {exc}", code="bad_fault")
        applies = faults.on in ("", name)
        if faults.latency and applies:
            await anyio.sleep(faults.latency)
        key = _api_key(request)
        if not (public and key is None) and not self._accepts(key):
            return _error_response(401)
        if not self.rate_limit.try_acquire():
            return _error_response(429, retry_after=faults.retry_after)
        due = applies and self.fault_counter.is_due(faults)
        if due and not faults.drop:
            return _error_response(faults.status, retry_after=faults.retry_after)
        try:
            response = await handler(request, faults)
            return cut_response() if due else response
        except RequestError as exc:
            return _error_response(exc.status, exc.message, code=exc.code, param=exc.param)

    def _accepts(self, key: str | None) -> bool:
        return self.api_key is None or hmac.compare_digest((key or "").encode(), self.api_key.encode())


async def _run_skill(
    name: str, skill: engine.SkillFunction, tuning: Tuning, request: Request, faults: Faults
) -> Response:
    started = time.monotonic()
    data = validation.parse_object(await request.body())
    tuning.check_model(data)
    stream = validation.parse_flag(data, "stream") and name in ("query", "caption", "segment")
    result = await anyio.to_thread.run_sync(skill, data)
    body = _response_body(name, data, result, time.monotonic() - started)
    if not stream:
        return JSONResponse(body, headers=_HEADERS)
    if result.segmentation is not None:
        stream_events = events.segment_events(result.segmentation, body)
    else:
        stream_events = events.text_events(faults.shape, result.field, result.value, body)
    return _event_stream(events.stream_body(stream_events, faults))


async def _chat(tuning: Tuning, request: Request, faults: Faults) -> Response:
    data = validation.parse_object(await request.body())
    tuning.check_model(data)
    stream = validation.parse_flag(data, "stream")
    completion = await anyio.to_thread.run_sync(chat.complete, data, engine.SKILLS["query"], engine.metrics)
    if not stream:
        return JSONResponse(completion, headers=_HEADERS)
    return _event_stream(chat.stream(completion, data, faults))


def _event_stream(body: AsyncIterator[bytes]) -> Response:
    headers = {**_HEADERS, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(body, media_type="text/event-stream", headers=headers)


def _response_body(name: str, data: Fields, result: engine.SkillResult, seconds: float) -> Event:
    now = datetime.datetime.now(datetime.UTC)
    return {
        "request_id": f"{now:%Y-%m-%d}_{name}_{now:%Y-%m-%d-%H:%M:%S}-sandbox-{secrets.token_hex(3)}",
        "finish_reason": result.finish_reason,
        result.field: result.value,
        **result.extra,
        "metrics": engine.metrics(data, result, seconds),
    }


def _error_response(
    status: int,
    message: str | None = None,
    *,
    code: str | None = None,
    param: str | None = None,
    retry_after: float = -1,
) -> Response:
    kind, default_code, default_message = _ERROR_TYPES.get(
        status, ("invalid_request_error", "error", f"Error {status}")
    )
    error = {"message": message or default_message, "type": kind, "param": param, "code": code or default_code}
    headers = {**_HEADERS, "x-request-id": f"sandbox-{secrets.token_hex(4)}"}
    if status in (429, 503) and retry_after >= 0:
        headers["Retry-After"] = f"{retry_after:g}"
    return JSONResponse({"error": error}, status, headers)


async def _http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    if request.url.path.startswith("/fal/"):
        return JSONResponse({"detail": exc.detail}, exc.status_code, exc.headers)
    response = _error_response(exc.status_code, exc.detail)
    response.headers.update(exc.headers or {})
    return response


async def _models(_: Request, __: Faults) -> Response:
    listing = [{"id": name, "object": "model", "owned_by": "sandbox"} for name in MODELS]
    return JSONResponse({"object": "list", "data": listing}, headers=_HEADERS)


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok", "server": "moondream-async-sandbox", "notice": NOTICE}, headers=_HEADERS)


def _api_key(request: Request) -> str | None:
    match = re.fullmatch(r"Bearer\s+(\S+)", request.headers.get("authorization", ""))
    return request.headers.get("x-moondream-auth") or (match[1] if match else None)


_HEADERS = {"Server": "moondream-async-sandbox", "X-Moondream-Sandbox": NOTICE}
