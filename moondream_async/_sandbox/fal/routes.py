"""The routes: submit, status, result, cancel; run; tokens, uploads, files; the public key of webhooks."""

from __future__ import annotations

import asyncio
import functools
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast
from urllib.parse import quote

import anyio
import attrs
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..events import CutError, lost
from ..faults import Burst, Faults, RateLimit, from_headers
from ..storage import Stored
from . import models
from .jobs import CANCELLED, NOT_STARTED, Job, Queue
from .models import Reply
from .storage import FalStorage
from .webhooks import Webhooks

Handler = Callable[["Fal", Request, Faults], Awaitable[Response]]

_INGRESS = "<html><head><title>{0} Bad Gateway</title></head><body><center>nginx</center></body></html>"
_NOT_FOUND = JSONResponse({"status": "NOT_FOUND"}, 404)
_ANYTHING = "application/octet-stream"


@attrs.define(eq=False)
class Fal:
    """One sandbox's fal.ai.

    Args:
        api_key: The one key that is accepted; None accepts any, and none.
        limit: 429 beyond it.
        faults: What goes wrong.
    """

    api_key: str | None
    limit: RateLimit
    faults: Faults
    storage: FalStorage = attrs.field(factory=FalStorage)
    burst: Burst = attrs.field(factory=Burst)
    _queue: Queue | None = None
    _webhooks: Webhooks | None = None
    _tasks: set[asyncio.Task[None]] = attrs.field(factory=set[asyncio.Task[None]])

    @property
    def queue(self) -> Queue:
        """The queue, which belongs to the server's event loop."""
        if self._queue is None:
            self._queue = Queue(self._work, self._finished)
        return self._queue

    @property
    def webhooks(self) -> Webhooks:
        """Made when they are first used: they need the extra `fal`."""
        if self._webhooks is None:
            self._webhooks = Webhooks()
        return self._webhooks

    def routes(self) -> list[Route]:
        """All routes, each with its faults."""
        below = "/fal/queue/{owner}/{alias}/requests/{id}"
        table: list[tuple[str, str, str, Handler]] = [
            ("submit", "POST", "/fal/queue/{endpoint:path}", _submit),
            ("stream", "GET", below + "/status/stream", _stream),
            ("status", "GET", below + "/status", _status),
            ("cancel", "PUT", below + "/cancel", _cancel),
            ("result", "GET", below, _result),
            ("run", "POST", "/fal/run/{endpoint:path}", _run),
            ("token", "POST", "/fal/rest/storage/auth/token", _token),
            ("initiate", "POST", "/fal/rest/storage/upload/initiate", _initiate),
            ("keys", "GET", "/fal/rest/.well-known/jwks.json", _keys),
            ("upload", "POST", "/fal/cdn/files/upload", _upload),
            ("multipart", "POST", "/fal/cdn/files/upload/multipart", _multipart),
            ("part", "PUT", "/fal/cdn/files/b/{key}/{name}/multipart/{upload}/{number:int}", _part),
            ("complete", "POST", "/fal/cdn/files/b/{key}/{name}/multipart/{upload}/complete", _complete),
            ("presigned", "PUT", "/fal/presigned/{key}", _presigned),
            ("file", "GET", "/fal/cdn/files/b/{key}/{name}", _file),
        ]
        return [
            Route(path, functools.partial(self._admit, name, handler), methods=[method])
            for name, method, path, handler in table
        ]

    async def _admit(self, name: str, handler: Handler, request: Request) -> Response:
        try:
            faults = from_headers(self.faults, request.headers)
        except ValueError as exc:
            return JSONResponse({"detail": f"Bad X-Sandbox-Fault: {exc}"}, 400)
        here = faults.on in ("", name)
        if faults.latency and here:
            await anyio.sleep(faults.latency)
        if not self._knows(name, request):
            return JSONResponse({"detail": "No user found for Key ID and Secret"}, 401)
        if name in ("submit", "run") and not self.limit.allows():
            return JSONResponse({"detail": "Too many requests"}, 429)
        due = here and self.burst.due(faults)
        if due and not faults.drop:
            return _refused(faults)
        response = await handler(self, request, faults)
        return lost() if due else response

    def _knows(self, name: str, request: Request) -> bool:
        given = request.headers.get("authorization", "")
        if name in ("file", "keys"):
            return True
        if name == "presigned":  # no secret has any business there
            return not given
        if name in ("upload", "multipart", "part", "complete"):
            return given.startswith("Bearer ") and given.removeprefix("Bearer ") in self.storage.tokens
        return self.api_key is None or given == f"Key {self.api_key}"

    def _work(self, job: Job) -> Reply:
        return models.answer(job.endpoint, job.arguments, self._load)

    def _load(self, url: str) -> tuple[bytes, str] | None:
        file = self.storage.files.get(url.split("/files/b/")[-1].split("/")[0])
        return (file.path.read_bytes(), file.media_type) if file is not None and file.complete else None

    async def _finished(self, job: Job) -> None:
        if job.webhook is not None:
            task = asyncio.get_running_loop().create_task(self.webhooks.post(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _submit(fal: Fal, request: Request, faults: Faults) -> Response:
    endpoint = request.path_params["endpoint"]
    if not models.knows(endpoint):
        return JSONResponse({"detail": f"Path /{endpoint} not found"}, 404)
    limit = _number(request.query_params.get("fal_max_queue_length"))
    if limit is not None and len(fal.queue) > limit:
        return JSONResponse({"detail": "The queue is too long"}, 429)
    arguments = await _body(request)
    if arguments is None:
        return JSONResponse({"detail": "Invalid JSON"}, 422)
    job = Job(endpoint, arguments, request.query_params.get("fal_webhook"))
    within = _number(request.headers.get("x-fal-request-timeout"))
    fal.queue.add(job, queue=faults.queue, work=faults.work, start_within=within)
    return _of_job(job, {"status": "IN_QUEUE", "queue_position": fal.queue.position(job), **_urls(request, job)})


async def _status(fal: Fal, request: Request, faults: Faults) -> Response:
    job = _job(fal, request)
    if job is None:
        return _NOT_FOUND
    return _of_job(job, _told(fal, request, job), 200 if job.state == "COMPLETED" else 202)


async def _stream(fal: Fal, request: Request, faults: Faults) -> Response:
    job = _job(fal, request)
    if job is None:
        return _NOT_FOUND

    async def statuses() -> AsyncIterator[bytes]:
        count, last = 0, None
        while True:
            told = _told(fal, request, job)
            if told != last:
                if count == faults.cut:
                    raise CutError
                yield b"data: " + models.as_json(told) + b"\n\n"
                count, last = count + 1, told
            if told["status"] == "COMPLETED":
                return
            await fal.queue.next_change()

    return StreamingResponse(statuses(), media_type="text/event-stream")


async def _result(fal: Fal, request: Request, faults: Faults) -> Response:
    job = _job(fal, request)
    if job is None:
        return _NOT_FOUND
    if job.reply is None:
        return JSONResponse({"detail": "Request is still in progress"}, 400)
    return _of_reply(job.id, job.reply)


async def _cancel(fal: Fal, request: Request, faults: Faults) -> Response:
    job = _job(fal, request)
    if job is None:
        return _NOT_FOUND
    if not fal.queue.cancel(job):
        return _of_job(job, {"status": "ALREADY_COMPLETED"}, 400)
    return _of_job(job, {"status": "CANCELLATION_REQUESTED"}, 202)


async def _run(fal: Fal, request: Request, faults: Faults) -> Response:
    endpoint = request.path_params["endpoint"]
    if not models.knows(endpoint):
        return JSONResponse({"detail": f"Path /{endpoint} not found"}, 404)
    job = Job(endpoint, await _body(request))
    return _of_reply(job.id, await asyncio.to_thread(fal._work, job))  # pyright: ignore[reportPrivateUsage]


async def _token(fal: Fal, request: Request, faults: Faults) -> Response:
    return JSONResponse({**fal.storage.new_token(), "base_url": _base(request) + "/cdn"})


async def _keys(fal: Fal, request: Request, faults: Faults) -> Response:
    return JSONResponse(fal.webhooks.jwks())


async def _upload(fal: Fal, request: Request, faults: Faults) -> Response:
    key, file = _new_file(fal, request)
    await fal.storage.write(file.path, request.stream())
    file.complete = True
    return JSONResponse({"access_url": _address(request, key, file)})


async def _multipart(fal: Fal, request: Request, faults: Faults) -> Response:
    key, file = _new_file(fal, request)
    return JSONResponse({"access_url": _address(request, key, file), "uploadId": f"upload-{key}"})


async def _part(fal: Fal, request: Request, faults: Faults) -> Response:
    file = fal.storage.files.get(request.path_params["key"])
    if file is None or request.path_params["upload"] != f"upload-{request.path_params['key']}":
        return _NOT_FOUND
    number = request.path_params["number"]
    path = fal.storage.part_of(file, number)
    digest = await fal.storage.write(path, request.stream())
    if not path.stat().st_size or not 1 <= number <= 10_000:
        return JSONResponse({"detail": "A part must not be empty, nor beyond the 10,000th"}, 400)
    file.parts[number], file.etags[number] = path, f'"{digest}"'
    return Response(headers={"ETag": file.etags[number]})


async def _complete(fal: Fal, request: Request, faults: Faults) -> Response:
    file = fal.storage.files.get(request.path_params["key"])
    fields: Any = await _body(request)
    is_its = request.path_params["upload"] == f"upload-{request.path_params['key']}"
    if file is None or not isinstance(fields, dict) or not is_its:
        return _NOT_FOUND
    # The official client names them in the order in which they were done.
    listed: list[dict[str, Any]] = cast("dict[str, Any]", fields).get("parts", [])
    try:
        named = {part["partNumber"]: part["etag"] for part in listed}
    except (TypeError, KeyError):
        named = {}
    if named != file.etags or not listed:
        return JSONResponse({"detail": "The parts must all be there, each with its etag"}, 400)
    await asyncio.to_thread(fal.storage.join, file)
    return JSONResponse({"access_url": _address(request, request.path_params["key"], file)})


async def _initiate(fal: Fal, request: Request, faults: Faults) -> Response:
    given: Any = await _body(request)
    fields: dict[str, Any] = cast("dict[str, Any]", given) if isinstance(given, dict) else {}
    key, file = fal.storage.new_file(fields.get("file_name"), fields.get("content_type", _ANYTHING), None)
    upload_url = f"{_base(request)}/presigned/{key}"
    return JSONResponse({"upload_url": upload_url, "file_url": _address(request, key, file)})


async def _presigned(fal: Fal, request: Request, faults: Faults) -> Response:
    file = fal.storage.files.get(request.path_params["key"])
    if file is None:
        return _NOT_FOUND
    await fal.storage.write(file.path, request.stream())
    file.complete = True
    return Response()


async def _file(fal: Fal, request: Request, faults: Faults) -> Response:
    file = fal.storage.files.get(request.path_params["key"])
    if file is None or not file.complete:
        return _NOT_FOUND
    return FileResponse(file.path, media_type=file.media_type)


def _job(fal: Fal, request: Request) -> Job | None:
    job = fal.queue.jobs.get(request.path_params["id"])
    app = f"{request.path_params['owner']}/{request.path_params['alias']}"
    return job if job is not None and job.endpoint.split("/")[:2] == app.split("/") else None


def _told(fal: Fal, request: Request, job: Job) -> dict[str, Any]:
    told: dict[str, Any] = {"status": job.state, "request_id": job.id, **_urls(request, job)}
    if job.state == "IN_QUEUE":
        return {**told, "queue_position": fal.queue.position(job)}
    told["logs"] = list(job.log) if request.query_params.get("logs") in ("1", "true") else None
    if job.reply is not None:
        told["metrics"] = {"inference_time": 0.01}
        if job.reply.status != 200:
            told["error"] = f"Invalid status code: {job.reply.status}"
            told["error_type"] = "bad_request" if job.reply.status < 499 else job.reply.body.get("error_type")
    return told


def _urls(request: Request, job: Job) -> dict[str, str]:
    base = f"{_base(request)}/queue/{'/'.join(job.endpoint.split('/')[:2])}/requests/{job.id}"
    return {"response_url": base, "status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}


def _base(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}/fal"


def _address(request: Request, key: str, file: Stored) -> str:
    return f"{_base(request)}/cdn/files/b/{key}/{quote(file.name, safe='')}"


def _new_file(fal: Fal, request: Request) -> tuple[str, Stored]:
    return fal.storage.new_file(
        request.headers.get("x-fal-file-name"),
        request.headers.get("content-type", _ANYTHING),
        request.headers.get("x-fal-object-lifecycle"),
    )


def _of_job(job: Job, body: Any, status: int = 200) -> Response:
    return JSONResponse({"request_id": job.id, **body}, status, {"x-fal-request-id": job.id})


def _of_reply(request_id: str, reply: Reply) -> Response:
    headers = {"x-fal-request-id": request_id}
    if reply in (CANCELLED, NOT_STARTED):
        headers["X-Fal-Error-Type"] = reply.body["error_type"]
    if reply is NOT_STARTED:
        headers["X-Fal-Request-Timeout-Type"] = "user"
    return JSONResponse(reply.body, reply.status, headers)


def _refused(faults: Faults) -> Response:
    if faults.status in (502, 503, 504):  # the entrance, not fal
        return Response(_INGRESS.format(faults.status), faults.status, media_type="text/html")
    headers = {"Retry-After": f"{faults.retry_after:g}"} if faults.status == 429 and faults.retry_after >= 0 else None
    return JSONResponse({"detail": "told to fail"}, faults.status, headers)


def _number(text: str | None) -> float | None:
    """A number above 0; None if it is something else."""
    try:
        value = float(text) if text is not None else 0.0
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


async def _body(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError):
        return None
