"""Routes of the Batch API: multipart upload, list, retrieve, and the result files on presigned URLs."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio.to_thread
import attrs
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from .. import validation
from ..events import CutError
from ..faults import Faults
from ..paging import new_id, paginate
from ..presigned import UrlSigner, store_error
from ..storage import Storage, StoredFile, etags_of
from ..validation import Fields, RequestError
from . import jobs
from .jobs import Job, Worker
from .lines import RunSkill

Handler = Callable[[Request, Faults], Awaitable[Response]]
Admit = Callable[[str, Handler], Callable[[Request], Awaitable[Response]]]


@attrs.define(eq=False)
class Batches:
    """The Batch API of one sandbox.

    Args:
        run_skill: Runs a skill.
        knows_model: Returns whether a model exists.
        default_model: Model of batches that name none.
        faults: Faults of the result files, which clients request without headers.
    """

    run_skill: RunSkill
    knows_model: Callable[[str], bool]
    default_model: str
    faults: Faults
    storage: Storage = attrs.field(factory=Storage)
    jobs: dict[str, Job] = attrs.field(factory=dict[str, Job])
    _uploads: dict[str, tuple[str, StoredFile]] = attrs.field(factory=dict[str, tuple[str, StoredFile]])
    _signer: UrlSigner = attrs.field(factory=UrlSigner)
    _fault_counts: Counter[str] = attrs.field(factory=Counter[str])
    _tasks: set[asyncio.Task[None]] = attrs.field(factory=set[asyncio.Task[None]])

    def routes(self, admit: Admit) -> list[Route]:
        """Return the routes; `admit` adds the API key, the rate limit and the faults to each."""
        return [
            Route("/v1/batch", admit("batch", self._on_collection), methods=["GET", "POST"]),
            Route("/v1/batch/{id}", admit("batch", self._on_item), methods=["GET", "PUT", "POST", "DELETE"]),
            Route("/results/{id}/{number:int}", self._output),
        ]

    async def _on_collection(self, request: Request, faults: Faults) -> Response:
        if request.method == "GET":
            return await self._list(request, faults)
        handler = self._create if _action(request) == "mpu-create" else _unknown
        return await handler(request, faults)

    async def _on_item(self, request: Request, faults: Faults) -> Response:
        handlers = {
            ("GET", ""): self._retrieve,
            ("PUT", "mpu-uploadpart"): self._part,
            ("POST", "mpu-complete"): self._complete,
            ("DELETE", "mpu-abort"): self._abort,
        }
        return await handlers.get((request.method, _action(request)), _unknown)(request, faults)

    async def _create(self, request: Request, faults: Faults) -> Response:
        name = new_id()
        upload = secrets.token_hex(16)
        _, file = self.storage.new_file(f"{name}.jsonl", "application/octet-stream", None)
        self._uploads[name] = upload, file
        return JSONResponse({"fileId": name, "uploadId": upload, "key": f"requests/sandbox/{name}.jsonl"})

    async def _part(self, request: Request, faults: Faults) -> Response:
        file = self._upload_of(request)
        number = request.query_params.get("partNumber", "")
        if not number.isdigit() or not 1 <= int(number) <= 10_000:
            raise RequestError("partNumber must be from 1 to 10000")
        path = self.storage.part_path(file, int(number))
        digest = await self.storage.write(path, request.stream())
        file.parts[int(number)], file.etags[int(number)] = path, f'"{digest}"'
        return JSONResponse({"etag": file.etags[int(number)], "partNumber": int(number)})

    async def _complete(self, request: Request, faults: Faults) -> Response:
        file = self._upload_of(request)
        data = validation.parse_object(await request.body())
        named = etags_of(data.get("parts"))
        if not named or named != file.etags or sorted(named) != list(range(1, len(named) + 1)):
            raise RequestError("The parts must all be there, in a row, each with its etag", code="invalid_part")
        model = data.get("model") or self.default_model
        name = request.path_params["id"]
        await anyio.to_thread.run_sync(self.storage.join, file)
        del self._uploads[name]
        job = self.jobs[name] = Job(name, str(model), file.path)
        size = file.path.stat().st_size
        task = asyncio.get_running_loop().create_task(Worker(self.run_skill, self.knows_model).run(job, faults))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return JSONResponse({"id": name, "status": "chunking", "size": size})

    async def _abort(self, request: Request, faults: Faults) -> Response:
        file = self._upload_of(request)
        del self._uploads[request.path_params["id"]]
        for path in file.parts.values():
            path.unlink(missing_ok=True)
        return JSONResponse({"ok": True})

    async def _list(self, request: Request, faults: Faults) -> Response:
        newest = sorted(self.jobs.values(), key=lambda job: -job.created)
        return paginate(request, "batches", newest, lambda job: self._to_json(request, job, faults), 50)

    async def _retrieve(self, request: Request, faults: Faults) -> Response:
        job = self.jobs.get(request.path_params["id"])
        if job is None:
            raise RequestError("There is no such batch", status=404, code="not_found")
        return JSONResponse(self._to_json(request, job, faults))

    async def _output(self, request: Request) -> Response:
        error = self._signer.check(request)
        if error is not None:
            return error
        job = self.jobs.get(request.path_params["id"])
        number: int = request.path_params["number"]
        if job is None or job.is_purged or number >= len(job.outputs):
            return store_error("NoSuchKey", 404)
        if self.faults.on == "output" and self._is_due(request.url.path):
            if self.faults.status:
                return store_error("InternalError", self.faults.status)
            if self.faults.cut >= 0:
                return _cut_response(job.outputs[number], self.faults.cut)
        return FileResponse(job.outputs[number], media_type="application/octet-stream")

    def _is_due(self, path: str) -> bool:
        self._fault_counts[path] += 1
        return self.faults.times == 0 or self._fault_counts[path] <= self.faults.times

    def _to_json(self, request: Request, job: Job, faults: Faults) -> Fields:
        fields = jobs.to_json(job)
        if job.status == "completed":
            numbers = range(0 if job.is_purged else len(job.outputs))
            fields["outputs"] = [{"index": n, "url": self._url(request, job, n, faults)} for n in numbers]
        return fields

    def _url(self, request: Request, job: Job, number: int, faults: Faults) -> str:
        return self._signer.sign(request, f"/results/{job.id}/{number}", faults.url_lifetime)

    def _upload_of(self, request: Request) -> StoredFile:
        upload, file = self._uploads.get(request.path_params["id"], ("", None))
        if file is None or request.query_params.get("uploadId") != upload:
            raise RequestError("There is no such upload", status=404, code="not_found")
        return file


def _action(request: Request) -> str:
    return request.query_params.get("action", "")


async def _unknown(request: Request, faults: Faults) -> Response:
    raise RequestError(f"Unknown action {_action(request)!r}", "action")


def _cut_response(path: Path, lines: int) -> Response:
    """Return a response that ends after `lines` lines and half of the next one."""

    async def body() -> AsyncIterator[bytes]:
        with path.open("rb") as file:
            for _ in range(lines):
                yield file.readline()
            line = file.readline()
            yield line[: len(line) // 2]
        raise CutError

    headers = {"Content-Length": str(path.stat().st_size), "ETag": f'"{path.stat().st_mtime_ns}"'}
    return StreamingResponse(body(), headers=headers, media_type="application/octet-stream")
