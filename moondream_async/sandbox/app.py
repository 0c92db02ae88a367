"""The routes: Moondream Cloud's wire, answered from pixels."""

from __future__ import annotations

import datetime
import functools
import hmac
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import anyio
import anyio.to_thread
import attrs
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from . import chat, events, reading, skills
from .batches.routes import Batches, Handler
from .events import Event, lost
from .faults import Burst, Faults, RateLimit, from_headers
from .reading import Fields, Refusal
from .tuning import Tuning

NOTICE = "stand-in computed from pixels, not a model"
MODELS = ("moondream3.1-9B-A2B", "moondream3-preview")

_IMAGE_TOKENS = 729
_LARGEST_BODY = 24 * 1024 * 1024
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


@attrs.frozen
class Done:
    """A skill's work on one request.

    Attributes:
        field: The wire field of the answer.
        value: The answer.
        tokens: How many tokens it is counted as.
        finish_reason: `stop`, or `length` when the token budget cut it.
        more: Further fields of the answer.
        found: The outline, of a segmentation.
    """

    field: str
    value: Any
    tokens: int
    finish_reason: str = "stop"
    more: Event = attrs.field(factory=dict[str, Any])
    found: skills.Segmentation | None = None


class Skill(Protocol):
    """Does the work of a route, in a worker thread."""

    def __call__(self, data: Fields) -> Done:
        """Check the fields and work out the answer."""
        ...


def build(*, api_key: str | None, rate_limit: float | None, faults: Faults) -> Starlette:
    """The ASGI application of one sandbox."""
    from .fal.routes import Fal  # which answers by the skills in here

    gate = _Gate(api_key, RateLimit(rate_limit), faults)
    tuning = Tuning(_answered)
    batches = Batches(_answered, lambda model: model in MODELS or tuning.knows_model(model), MODELS[1], faults)
    routes = [
        Route(
            f"/v1/{name}", gate.before(name, _always(functools.partial(_serve, name, work, tuning))), methods=["POST"]
        )
        for name, work in SKILLS.items()
    ]
    routes.append(Route("/v1/chat/completions", gate.before("chat", _always(_chat)), methods=["POST"]))
    # Public, but a wrong key is refused: a free way to check one.
    routes.append(Route("/v1/models", gate.before("models", _always(_models), public=True)))
    routes += batches.routes(gate.before)
    routes += tuning.routes(gate.before)
    routes.append(Route("/health", _health))
    fal = Fal(api_key, RateLimit(rate_limit), faults)
    routes += fal.routes()
    application = Starlette(routes=routes, exception_handlers={HTTPException: _plain_error})
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


async def _serve(name: str, work: Skill, tuning: Tuning, request: Request, faults: Faults) -> Response:
    if int(request.headers.get("content-length") or 0) > _LARGEST_BODY:
        raise Refusal(413, "Image size exceeds limits", code="image_too_large", param="image_url")
    started = time.monotonic()
    data = reading.fields(await request.body())
    model = data.get("model")
    if isinstance(model, str) and "@" in model and not tuning.knows_model(model):
        raise Refusal(404, f"There is no saved checkpoint {model!r}", code="not_found", param="model")
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


async def _chat(request: Request, faults: Faults) -> Response:
    data = reading.fields(await request.body())
    streams = reading.flag(data, "stream")
    whole = await anyio.to_thread.run_sync(chat.answer, data, _query, metrics)
    if not streams:
        return JSONResponse(whole, headers=_HEADERS)
    headers = {**_HEADERS, "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(chat.stream(whole, data, faults), media_type="text/event-stream", headers=headers)


def _query(data: Fields) -> Done:
    question, settings = reading.text(data, "question"), reading.settings(data)
    refs = reading.spatial_refs(data)
    scene = reading.scene(data, required=False)
    if scene is None:
        return _text("answer", skills.answer_text_only(question), settings)
    answer, regions = skills.answer(scene, question, refs)
    more = {"reasoning": skills.reasoning(scene, regions)} if reading.flag(data, "reasoning") else {}
    return _text("answer", answer, settings, more)


def _caption(data: Fields) -> Done:
    length, settings = reading.length(data), reading.settings(data)
    scene = reading.scene(data)
    assert scene is not None
    return _text("caption", skills.caption(scene, length), settings)


def _detect(data: Fields) -> Done:
    regions = _found(data)
    return Done("objects", [r.box for r in regions], tokens=3 * len(regions) + 1)


def _point(data: Fields) -> Done:
    regions = _found(data)
    points = [{"x": x, "y": y} for x, y in (r.center for r in regions)]
    return Done("points", points, tokens=2 * len(regions) + 1)


def _segment(data: Fields) -> Done:
    found = skills.segment(_found(data))
    more = {} if found.box is None else {"bbox": found.box}
    return Done("path", found.refined, tokens=len(events.tokens(found.refined)), more=more, found=found)


def _found(data: Fields) -> list[Any]:
    words, settings = reading.text(data, "object"), reading.settings(data)
    refs = reading.spatial_refs(data)
    scene = reading.scene(data)
    assert scene is not None
    return skills.find(scene, words, refs)[: settings.get("max_objects", 150)]


def _text(field: str, text: str, settings: Fields, more: Event | None = None) -> Done:
    pieces = events.tokens(text)
    budget = settings.get("max_tokens", 768)
    cut = len(pieces) > budget
    pieces = pieces[:budget]
    return Done(field, "".join(pieces), len(pieces), "length" if cut else "stop", more or {})


SKILLS: dict[str, Skill] = {
    "query": _query,
    "caption": _caption,
    "detect": _detect,
    "point": _point,
    "segment": _segment,
}


def _answered(name: str, data: Fields) -> tuple[Fields, Fields]:
    """The work of a skill alone: its answer, and what it is counted as."""
    done = SKILLS[name](data)
    counted = metrics(data, done, 0.0)
    return {done.field: done.value, **done.more}, {kind: counted[kind] for kind in ("input_tokens", "output_tokens")}


def metrics(data: Fields, done: Done, seconds: float) -> Event:
    """What an answer is counted as, and how long it took."""
    words = len(str(data.get("question") or data.get("object") or "").split())
    image = _IMAGE_TOKENS if data.get("image_url") else 0
    return {
        "input_tokens": image + words,
        "output_tokens": done.tokens,
        "prefill_time_ms": round(seconds * 1000, 3),
        "decode_time_ms": round(seconds * 100, 3),
        "ttft_ms": round(seconds * 1000, 3),
    }


def _answer(name: str, data: Fields, done: Done, seconds: float) -> Event:
    now = datetime.datetime.now(datetime.UTC)
    return {
        "request_id": f"{now:%Y-%m-%d}_{name}_{now:%Y-%m-%d-%H:%M:%S}-sandbox-{secrets.token_hex(3)}",
        "finish_reason": done.finish_reason,
        done.field: done.value,
        **done.more,
        "metrics": metrics(data, done, seconds),
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


async def _plain_error(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    return _error(exc.status_code, exc.detail)


async def _models(_: Request, __: Faults) -> Response:
    listing = [{"id": name, "object": "model", "owned_by": "sandbox"} for name in MODELS]
    return JSONResponse({"object": "list", "data": listing}, headers=_HEADERS)


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok", "server": "moondream-async-sandbox", "notice": NOTICE}, headers=_HEADERS)


def _bearer(request: Request) -> str | None:
    match = re.fullmatch(r"Bearer\s+(\S+)", request.headers.get("authorization", ""))
    return match[1] if match else None


_HEADERS = {"Server": "moondream-async-sandbox", "X-Moondream-Sandbox": NOTICE}
