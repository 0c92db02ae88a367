"""The routes: upload in parts, complete, abort, list, retrieve; and the files of results, which take no key."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import anyio.to_thread
import attrs
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from .. import reading
from ..events import CutError
from ..faults import Faults
from ..paging import page, ulid
from ..presigned import Signer, refused
from ..reading import Fields, Refusal
from ..storage import Storage, Stored
from . import jobs
from .jobs import Job, Worker
from .lines import Answer

Handler = Callable[[Request, Faults], Awaitable[Response]]
Admit = Callable[[str, Callable[[Request], Handler]], Callable[[Request], Awaitable[Response]]]


@attrs.define(eq=False)
class Batches:
    """One sandbox's Batch API.

    Args:
        answer: Does the skills.
        models: Whether there is a model.
        default_model: What answers if none is named.
        faults: What goes wrong with files of results, to which clients send no headers.
    """

    answer: Answer
    models: Callable[[str], bool]
    default_model: str
    faults: Faults
    storage: Storage = attrs.field(factory=Storage)
    jobs: dict[str, Job] = attrs.field(factory=dict[str, Job])
    _uploads: dict[str, tuple[str, Stored]] = attrs.field(factory=dict[str, tuple[str, Stored]])
    _signer: Signer = attrs.field(factory=Signer)
    _cuts: Counter[str] = attrs.field(factory=Counter[str])
    _tasks: set[asyncio.Task[None]] = attrs.field(factory=set[asyncio.Task[None]])

    def routes(self, admit: Admit) -> list[Route]:
        """All of them; `admit` puts the key, the rate limit and the faults before each."""
        return [
            Route("/v1/batch", admit("batch", self._of_all), methods=["GET", "POST"]),
            Route("/v1/batch/{id}", admit("batch", self._of_one), methods=["GET", "PUT", "POST", "DELETE"]),
            Route("/results/{id}/{number:int}", self._output),
        ]

    def _of_all(self, request: Request) -> Handler:
        if request.method == "GET":
            return self._list
        return {"mpu-create": self._create}.get(_action(request), _unknown)

    def _of_one(self, request: Request) -> Handler:
        known = {
            ("GET", ""): self._retrieve,
            ("PUT", "mpu-uploadpart"): self._part,
            ("POST", "mpu-complete"): self._complete,
            ("DELETE", "mpu-abort"): self._abort,
        }
        return known.get((request.method, _action(request)), _unknown)

    async def _create(self, request: Request, faults: Faults) -> Response:
        name = ulid()
        upload = secrets.token_hex(16)
        _, file = self.storage.new_file(f"{name}.jsonl", "application/octet-stream", None)
        self._uploads[name] = upload, file
        return JSONResponse({"fileId": name, "uploadId": upload, "key": f"requests/sandbox/{name}.jsonl"})

    async def _part(self, request: Request, faults: Faults) -> Response:
        file = self._upload_of(request)
        number = request.query_params.get("partNumber", "")
        if not number.isdigit() or not 1 <= int(number) <= 10_000:
            raise Refusal(400, "partNumber must be from 1 to 10000", code="invalid_request")
        path = self.storage.part_of(file, int(number))
        digest = await self.storage.write(path, request.stream())
        file.parts[int(number)], file.etags[int(number)] = path, f'"{digest}"'
        return JSONResponse({"etag": file.etags[int(number)], "partNumber": int(number)})

    async def _complete(self, request: Request, faults: Faults) -> Response:
        file = self._upload_of(request)
        data = reading.fields(await request.body())
        listed = data.get("parts")
        try:
            named = {part["partNumber"]: part["etag"] for part in cast("list[Any]", listed)}
        except (TypeError, KeyError):
            named = {}
        if not named or named != file.etags or sorted(named) != list(range(1, len(named) + 1)):
            raise Refusal(400, "The parts must all be there, in a row, each with its etag", code="invalid_part")
        model = data.get("model") or self.default_model
        name = request.path_params["id"]
        await anyio.to_thread.run_sync(self.storage.join, file)
        del self._uploads[name]
        job = self.jobs[name] = Job(name, str(model), file.path)
        size = file.path.stat().st_size
        task = asyncio.get_running_loop().create_task(Worker(self.answer, self.models).run(job, faults))
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
        return page(request, "batches", newest, lambda job: self._told(request, job, faults), 50)

    async def _retrieve(self, request: Request, faults: Faults) -> Response:
        job = self.jobs.get(request.path_params["id"])
        if job is None:
            raise Refusal(404, "There is no such batch", code="not_found")
        return JSONResponse(self._told(request, job, faults))

    async def _output(self, request: Request) -> Response:
        refusal = self._signer.refusal(request)
        if refusal is not None:
            return refusal
        job = self.jobs.get(request.path_params["id"])
        number: int = request.path_params["number"]
        if job is None or job.is_purged or number >= len(job.outputs):
            return refused("NoSuchKey", 404)
        if self.faults.on == "output" and self._is_due(request.url.path):
            if self.faults.status:
                return refused("InternalError", self.faults.status)
            if self.faults.cut >= 0:
                return _cut(job.outputs[number], self.faults.cut)
        return FileResponse(job.outputs[number], media_type="application/octet-stream")

    def _is_due(self, path: str) -> bool:
        self._cuts[path] += 1
        return self.faults.times == 0 or self._cuts[path] <= self.faults.times

    def _told(self, request: Request, job: Job, faults: Faults) -> Fields:
        fields = jobs.told(job)
        if job.status == "completed":
            fields["outputs"] = (
                []
                if job.is_purged
                else [
                    {"index": number, "url": self._address(request, job, number, faults)}
                    for number in range(len(job.outputs))
                ]
            )
        return fields

    def _address(self, request: Request, job: Job, number: int, faults: Faults) -> str:
        return self._signer.address(request, f"/results/{job.id}/{number}", faults.url_lifetime)

    def _upload_of(self, request: Request) -> Stored:
        upload, file = self._uploads.get(request.path_params["id"], ("", None))
        if file is None or request.query_params.get("uploadId") != upload:
            raise Refusal(404, "There is no such upload", code="not_found")
        return file


def _action(request: Request) -> str:
    return request.query_params.get("action", "")


async def _unknown(request: Request, faults: Faults) -> Response:
    raise Refusal(400, f"Unknown action {_action(request)!r}", code="invalid_request", param="action")


def _cut(path: Path, lines: int) -> Response:
    """Some lines, and half of one, and then nothing."""

    async def some() -> AsyncIterator[bytes]:
        with path.open("rb") as file:
            for _ in range(lines):
                yield file.readline()
            line = file.readline()
            yield line[: len(line) // 2]
        raise CutError

    headers = {"Content-Length": str(path.stat().st_size), "ETag": f'"{path.stat().st_mtime_ns}"'}
    return StreamingResponse(some(), headers=headers, media_type="application/octet-stream")
