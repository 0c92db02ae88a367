"""A web backend with FastAPI: a page that streams a caption and draws boxes. The key stays on the server.

    pip install moondream-async fastapi python-multipart uvicorn
    MOONDREAM_API_KEY=... uvicorn app:app

Without a key: run `moondream-async sandbox` beside it, and set MOONDREAM_BASE_URL=http://localhost:2020/v1.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Form, Request, UploadFile
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse

from moondream_async import AsyncClient, MoondreamError
from moondream_async.web import SSE_HEADERS, error_body, http_status, sse


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    async with AsyncClient() as app.state.moondream:  # one client for all requests
        yield


app = FastAPI(lifespan=lifespan)


def get_client(request: Request) -> AsyncClient:
    client: AsyncClient = request.app.state.moondream
    return client


Moondream = Annotated[AsyncClient, Depends(get_client)]


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("page.html"))


@app.post("/caption")
async def caption(image: UploadFile, client: Moondream) -> StreamingResponse:
    stream = await client.caption(image, stream=True)  # a failure here gets its own status, below
    return StreamingResponse(sse(stream), headers=dict(SSE_HEADERS))


@app.post("/detect")
async def detect(image: UploadFile, label: Annotated[str, Form()], client: Moondream) -> dict[str, Any]:
    result = await client.detect(image, label)
    return result.to_dict()


@app.exception_handler(MoondreamError)
async def failed(request: Request, exc: MoondreamError) -> JSONResponse:
    return JSONResponse(error_body(exc), http_status(exc))
