"""Routes of fal.ai's API: queue, direct runs, upload tokens, files, and the public key of webhooks."""

from __future__ import annotations

import asyncio
import datetime
import functools
import json
import math
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import anyio
import attrs
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ..._wire.responses import is_object
from ..events import CutError, cut_response
from ..faults import FaultCounter, Faults, RateLimit, faults_for
from ..storage import Storage, StoredFile, etags_of
from . import models
from .jobs import CANCELLED, NOT_STARTED, Job, Queue
from .models import Reply
from .webhooks import Webhooks

Handler = Callable[["Fal", Request, Faults], Awaitable[Response]]

_INGRESS = "<html><head><title>{0} Bad Gateway</title></head><body><center>nginx</center></body></html>"
_NOT_FOUND = JSONResponse({"status": "NOT_FOUND"}, 404)
_BINARY = "application/octet-stream"
_TOKEN_LIFETIME = 3600  # seconds


@attrs.define(eq=False)
class Fal:
    """The fal.ai API of one sandbox.

    Args:
        api_key: The only API key that is accepted; None accepts any key and no key.
        rate_limit: Limit of submitted requests, beyond which the response is a 429.
        faults: Faults of all requests.

    Attributes:
        storage: The uploaded files.
        tokens: The tokens that uploads may have.
    """

    api_key: str | None
    rate_limit: RateLimit
    faults: Faults
    storage: Storage = attrs.field(factory=Storage)
    tokens: set[str] = attrs.field(factory=set[str])
    fault_counter: FaultCounter = attrs.field(factory=FaultCounter)
    _tasks: set[asyncio.Task[None]] = attrs.field(factory=set[asyncio.Task[None]])

    @functools.cached_property
    def queue(self) -> Queue:
        """The queue, created on first use in the server's event loop."""
        return Queue(self._process, self._post_webhook)

    @functools.cached_property
    def webhooks(self) -> Webhooks:
        """The sender of webhooks, created on first use because it needs the extra `fal`."""
        return Webhooks()

    def routes(self) -> list[Route]:
        """Return the routes, with faults and authentication."""
        job = "/fal/queue/{owner}/{alias}/requests/{id}"
        table: list[tuple[str, str, str, Handler]] = [
            ("submit", "POST", "/fal/queue/{endpoint:path}", _submit),
            ("stream", "GET", job + "/status/stream", _stream),
            ("status", "GET", job + "/status", _status),
            ("cancel", "PUT", job + "/cancel", _cancel),
            ("result", "GET", job, _result),
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
            faults = faults_for(self.faults, request.headers)
        except ValueError as exc:
            return JSONResponse({"detail": f"Bad X-Sandbox-Fault: {exc}"}, 400)
        applies = faults.on in ("", name)
        if faults.latency and applies:
            await anyio.sleep(faults.latency)
        if not self._is_authorized(name, request):
            return JSONResponse({"detail": "No user found for Key ID and Secret"}, 401)
        if name in ("submit", "run") and not self.rate_limit.try_acquire():
            return JSONResponse({"detail": "Too many requests"}, 429)
        due = applies and self.fault_counter.is_due(faults)
        if due and not faults.drop:
            return _fault_response(faults)
        response = await handler(self, request, faults)
        return cut_response() if due else response

    def _is_authorized(self, name: str, request: Request) -> bool:
        credentials = request.headers.get("authorization", "")
        if name in ("file", "keys"):
            return True
        if name == "presigned":  # credentials must not be sent there
            return not credentials
        if name in ("upload", "multipart", "part", "complete"):
            return credentials.startswith("Bearer ") and credentials.removeprefix("Bearer ") in self.tokens
        return self.api_key is None or credentials == f"Key {self.api_key}"

    def _process(self, job: Job) -> Reply:
        return models.answer(job.endpoint, job.arguments, self._load)

    def _load(self, url: str) -> tuple[bytes, str] | None:
        file = self.storage.files.get(url.split("/files/b/")[-1].split("/")[0])
        return (file.path.read_bytes(), file.media_type) if file is not None and file.complete else None

    async def _post_webhook(self, job: Job) -> None:
        if job.webhook is not None:
            task = asyncio.get_running_loop().create_task(self.webhooks.post(job))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _submit(fal: Fal, request: Request, faults: Faults) -> Response:
    endpoint = request.path_params["endpoint"]
    if not models.is_endpoint(endpoint):
        return JSONResponse({"detail": f"Path /{endpoint} not found"}, 404)
    limit = _parse_positive(request.query_params.get("fal_max_queue_length"))
    if limit is not None and len(fal.queue) > limit:
        return JSONResponse({"detail": "The queue is too long"}, 429)
    arguments = await _read_json(request)
    if arguments is None:
        return JSONResponse({"detail": "Invalid JSON"}, 422)
    job = Job(endpoint, arguments, request.query_params.get("fal_webhook"))
    start_within = _parse_positive(request.headers.get("x-fal-request-timeout"))
    fal.queue.add(job, queue=faults.queue, work=faults.work, start_within=start_within)
    return _job_response(job, {"status": "IN_QUEUE", "queue_position": fal.queue.position(job), **_urls(request, job)})


async def _status(fal: Fal, request: Request, faults: Faults) -> Response:
    job = _job(fal, request)
    if job is None:
        return _NOT_FOUND
    return _job_response(job, _status_json(fal, request, job), 200 if job.state == "COMPLETED" else 202)


async def _stream(fal: Fal, request: Request, faults: Faults) -> Response:
    job = _job(fal, request)
    if job is None:
        return _NOT_FOUND

    async def statuses() -> AsyncIterator[bytes]:
        count, previous = 0, None
        while True:
            status = _status_json(fal, request, job)
            if status != previous:
                if count == faults.cut:
                    raise CutError
                yield b"data: " + models.as_json(status) + b"\n\n"
                count, previous = count + 1, status
            if status["status"] == "COMPLETED":
                return
            await fal.queue.next_change()

    return StreamingResponse(statuses(), media_type="text/event-stream")


async def _result(fal: Fal, request: Request, faults: Faults) -> Response:
    job = _job(fal, request)
    if job is None:
        return _NOT_FOUND
    if job.reply is None:
        return JSONResponse({"detail": "Request is still in progress"}, 400)
    return _reply_response(job.id, job.reply)


async def _cancel(fal: Fal, request: Request, faults: Faults) -> Response:
    job = _job(fal, request)
    if job is None:
        return _NOT_FOUND
    if not fal.queue.cancel(job):
        return _job_response(job, {"status": "ALREADY_COMPLETED"}, 400)
    return _job_response(job, {"status": "CANCELLATION_REQUESTED"}, 202)


async def _run(fal: Fal, request: Request, faults: Faults) -> Response:
    endpoint = request.path_params["endpoint"]
    if not models.is_endpoint(endpoint):
        return JSONResponse({"detail": f"Path /{endpoint} not found"}, 404)
    job = Job(endpoint, await _read_json(request))
    return _reply_response(job.id, await asyncio.to_thread(fal._process, job))  # pyright: ignore[reportPrivateUsage]


async def _token(fal: Fal, request: Request, faults: Faults) -> Response:
    token = secrets.token_urlsafe(16)
    fal.tokens.add(token)
    expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=_TOKEN_LIFETIME)
    fields = {"token": token, "token_type": "Bearer", "expires_at": expires.isoformat()}
    return JSONResponse({**fields, "base_url": _base(request) + "/cdn"})


async def _keys(fal: Fal, request: Request, faults: Faults) -> Response:
    return JSONResponse(fal.webhooks.jwks())


async def _upload(fal: Fal, request: Request, faults: Faults) -> Response:
    key, file = _new_file(fal, request)
    await fal.storage.write(file.path, request.stream())
    file.complete = True
    return JSONResponse({"access_url": _file_url(request, key, file)})


async def _multipart(fal: Fal, request: Request, faults: Faults) -> Response:
    key, file = _new_file(fal, request)
    return JSONResponse({"access_url": _file_url(request, key, file), "uploadId": f"upload-{key}"})


async def _part(fal: Fal, request: Request, faults: Faults) -> Response:
    file = fal.storage.files.get(request.path_params["key"])
    if file is None or request.path_params["upload"] != f"upload-{request.path_params['key']}":
        return _NOT_FOUND
    number = request.path_params["number"]
    path = fal.storage.part_path(file, number)
    digest = await fal.storage.write(path, request.stream())
    if not path.stat().st_size or not 1 <= number <= 10_000:
        return JSONResponse({"detail": "A part must not be empty, nor beyond the 10,000th"}, 400)
    file.parts[number], file.etags[number] = path, f'"{digest}"'
    return Response(headers={"ETag": file.etags[number]})


async def _complete(fal: Fal, request: Request, faults: Faults) -> Response:
    file = fal.storage.files.get(request.path_params["key"])
    fields = await _read_json(request)
    is_upload = request.path_params["upload"] == f"upload-{request.path_params['key']}"
    if file is None or not is_object(fields) or not is_upload:
        return _NOT_FOUND
    # The official client lists the parts in the order in which their uploads ended.
    listed = fields.get("parts", [])
    if etags_of(listed) != file.etags or not listed:
        return JSONResponse({"detail": "The parts must all be there, each with its etag"}, 400)
    await asyncio.to_thread(fal.storage.join, file)
    return JSONResponse({"access_url": _file_url(request, request.path_params["key"], file)})


async def _initiate(fal: Fal, request: Request, faults: Faults) -> Response:
    body = await _read_json(request)
    fields = body if is_object(body) else {}
    key, file = fal.storage.new_file(fields.get("file_name"), fields.get("content_type", _BINARY), None)
    upload_url = f"{_base(request)}/presigned/{key}"
    return JSONResponse({"upload_url": upload_url, "file_url": _file_url(request, key, file)})


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


def _status_json(fal: Fal, request: Request, job: Job) -> dict[str, Any]:
    status: dict[str, Any] = {"status": job.state, "request_id": job.id, **_urls(request, job)}
    if job.state == "IN_QUEUE":
        return {**status, "queue_position": fal.queue.position(job)}
    status["logs"] = list(job.log) if request.query_params.get("logs") in ("1", "true") else None
    if job.reply is not None:
        status["metrics"] = {"inference_time": 0.01}
        if job.reply.status != 200:
            status["error"] = f"Invalid status code: {job.reply.status}"
            status["error_type"] = "bad_request" if job.reply.status < 499 else job.reply.body.get("error_type")
    return status


def _urls(request: Request, job: Job) -> dict[str, str]:
    base = f"{_base(request)}/queue/{'/'.join(job.endpoint.split('/')[:2])}/requests/{job.id}"
    return {"response_url": base, "status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}


def _base(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}/fal"


def _file_url(request: Request, key: str, file: StoredFile) -> str:
    return f"{_base(request)}/cdn/files/b/{key}/{quote(file.name, safe='')}"


def _new_file(fal: Fal, request: Request) -> tuple[str, StoredFile]:
    return fal.storage.new_file(
        request.headers.get("x-fal-file-name"),
        request.headers.get("content-type", _BINARY),
        request.headers.get("x-fal-object-lifecycle"),
    )


def _job_response(job: Job, body: Any, status: int = 200) -> Response:
    return JSONResponse({"request_id": job.id, **body}, status, {"x-fal-request-id": job.id})


def _reply_response(request_id: str, reply: Reply) -> Response:
    headers = {"x-fal-request-id": request_id}
    if reply in (CANCELLED, NOT_STARTED):
        headers["X-Fal-Error-Type"] = reply.body["error_type"]
    if reply is NOT_STARTED:
        headers["X-Fal-Request-Timeout-Type"] = "user"
    return JSONResponse(reply.body, reply.status, headers)


def _fault_response(faults: Faults) -> Response:
    if faults.status in (502, 503, 504):  # from the ingress in front of fal
        return Response(_INGRESS.format(faults.status), faults.status, media_type="text/html")
    headers = {"Retry-After": f"{faults.retry_after:g}"} if faults.status == 429 and faults.retry_after >= 0 else None
    return JSONResponse({"detail": "requested failure"}, faults.status, headers)


def _parse_positive(text: str | None) -> float | None:
    """Return the text as a number above 0; None if it is not one."""
    try:
        value = float(text) if text is not None else 0.0
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


async def _read_json(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError):
        return None
