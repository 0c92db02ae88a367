"""The functions of `fal-client`, with its names and parameters: `from moondream_async import fal as fal_client`.

They use one client for the process, which is created by the first call, from `FAL_KEY`.
"""

from __future__ import annotations

import base64
import functools
import io
import mimetypes
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from .._fal.async_client import AsyncFalClient
from .._fal.models import Lifecycle, Status
from .._fal.request_handle import AsyncRequestHandle
from .._public import public
from .fal_client import FalClient
from .fal_handle import RequestHandle

_JPEG_QUALITY = 95

Priority = Literal["normal", "low"]


@functools.cache
def _client() -> FalClient:
    return FalClient(job_timeout=None)


@functools.cache
def _async_client() -> AsyncFalClient:
    return AsyncFalClient(job_timeout=None)


@public("fal")
def subscribe(
    application: str,
    arguments: Mapping[str, Any],
    *,
    path: str = "",
    hint: str | None = None,
    with_logs: bool = False,
    interval: float = 0.1,
    on_enqueue: Callable[[str], Any] | None = None,
    on_queue_update: Callable[[Status], Any] | None = None,
    priority: Priority | None = None,
    headers: Mapping[str, str] | None = None,
    start_timeout: float | None = None,
    client_timeout: float | None = None,
) -> Any:
    """Submit a request, wait for it, and return the endpoint's response: `FalClient.subscribe` by fal-client's names.

    Args:
        application: Endpoint id, such as `"fal-ai/moondream3-preview/caption"`.
        arguments: The endpoint's input, which may contain paths, bytes and images.
        path: Path below the endpoint.
        hint: Requests with the same hint go to the same runner if possible.
        with_logs: Whether the statuses include log lines. Default False.
        interval: Ignored, as fal pushes the statuses.
        on_enqueue: Function that is called with the request id.
        on_queue_update: Function that is called with each new status.
        priority: `"normal"` or `"low"`.
        headers: Extra headers.
        start_timeout: Seconds within which a runner must start.
        client_timeout: Seconds that the whole call may take. Default None: no limit.

    Raises:
        MoondreamError: As in `FalClient.subscribe`.
    """
    __tracebackhide__ = True
    del interval
    return _client().subscribe(
        application,
        arguments,
        path=path,
        hint=hint,
        logs=with_logs,
        on_enqueue=on_enqueue,
        on_queue_update=on_queue_update,
        priority=priority,
        headers=headers,
        start_timeout=start_timeout,
        timeout=client_timeout,
    )


@public("fal")
async def subscribe_async(
    application: str,
    arguments: Mapping[str, Any],
    *,
    path: str = "",
    hint: str | None = None,
    with_logs: bool = False,
    interval: float = 0.1,
    on_enqueue: Callable[[str], Any] | None = None,
    on_queue_update: Callable[[Status], Any] | None = None,
    priority: Priority | None = None,
    headers: Mapping[str, str] | None = None,
    start_timeout: float | None = None,
    client_timeout: float | None = None,
) -> Any:
    """Submit a request, wait for it, and return the endpoint's response. Arguments and errors as in `subscribe`."""
    __tracebackhide__ = True
    del interval
    return await _async_client().subscribe(
        application,
        arguments,
        path=path,
        hint=hint,
        logs=with_logs,
        on_enqueue=on_enqueue,
        on_queue_update=on_queue_update,
        priority=priority,
        headers=headers,
        start_timeout=start_timeout,
        timeout=client_timeout,
    )


@public("fal")
def submit(
    application: str,
    arguments: Mapping[str, Any],
    *,
    path: str = "",
    hint: str | None = None,
    webhook_url: str | None = None,
    priority: Priority | None = None,
    headers: Mapping[str, str] | None = None,
    start_timeout: float | None = None,
) -> RequestHandle:
    """Submit a request and return its handle, with `status`, `iter_events`, `get` and `cancel`.

    Args:
        application: As in `subscribe`.
        arguments: As in `subscribe`.
        path: As in `subscribe`.
        hint: As in `subscribe`.
        webhook_url: URL to which fal posts the result.
        priority: As in `subscribe`.
        headers: As in `subscribe`.
        start_timeout: As in `subscribe`.

    Raises:
        MoondreamError: As in `FalClient.submit`.
    """
    __tracebackhide__ = True
    return _client().submit(
        application,
        arguments,
        path=path,
        hint=hint,
        webhook_url=webhook_url,
        priority=priority,
        headers=headers,
        start_timeout=start_timeout,
    )


@public("fal")
async def submit_async(
    application: str,
    arguments: Mapping[str, Any],
    *,
    path: str = "",
    hint: str | None = None,
    webhook_url: str | None = None,
    priority: Priority | None = None,
    headers: Mapping[str, str] | None = None,
    start_timeout: float | None = None,
) -> AsyncRequestHandle:
    """Submit a request and return its handle. Arguments and errors as in `submit`."""
    __tracebackhide__ = True
    return await _async_client().submit(
        application,
        arguments,
        path=path,
        hint=hint,
        webhook_url=webhook_url,
        priority=priority,
        headers=headers,
        start_timeout=start_timeout,
    )


@public("fal")
def status(application: str, request_id: str, *, with_logs: bool = False) -> Status:
    """Return the state of a request: `Queued`, `InProgress` or `Completed`. Errors as in `FalClient.status`."""
    __tracebackhide__ = True
    return _client().status(application, request_id, logs=with_logs)


@public("fal")
async def status_async(application: str, request_id: str, *, with_logs: bool = False) -> Status:
    """Return the state of a request: `Queued`, `InProgress` or `Completed`. Errors as in `FalClient.status`."""
    __tracebackhide__ = True
    return await _async_client().status(application, request_id, logs=with_logs)


@public("fal")
def result(application: str, request_id: str) -> Any:
    """Wait for a request and return the endpoint's response. Errors as in `FalClient.result`."""
    __tracebackhide__ = True
    return _client().result(application, request_id)


@public("fal")
async def result_async(application: str, request_id: str) -> Any:
    """Wait for a request and return the endpoint's response. Errors as in `FalClient.result`."""
    __tracebackhide__ = True
    return await _async_client().result(application, request_id)


@public("fal")
def cancel(application: str, request_id: str) -> bool:
    """Cancel a request; return False if it was already completed. Errors as in `FalClient.cancel`."""
    __tracebackhide__ = True
    return _client().cancel(application, request_id)


@public("fal")
async def cancel_async(application: str, request_id: str) -> bool:
    """Cancel a request; return False if it was already completed. Errors as in `FalClient.cancel`."""
    __tracebackhide__ = True
    return await _async_client().cancel(application, request_id)


@public("fal")
def upload(data: str | bytes, content_type: str, file_name: str | None = None) -> str:
    """Upload bytes, or a text as UTF-8, and return their URL. Errors as in `FalClient.upload`."""
    __tracebackhide__ = True
    return _client().upload(_to_bytes(data), content_type=content_type, file_name=file_name)


@public("fal")
async def upload_async(data: str | bytes, content_type: str, file_name: str | None = None) -> str:
    """Upload bytes, or a text as UTF-8, and return their URL. Errors as in `FalClient.upload`."""
    __tracebackhide__ = True
    return await _async_client().upload(_to_bytes(data), content_type=content_type, file_name=file_name)


@public("fal")
def upload_file(path: str | os.PathLike[str], *, lifecycle: Lifecycle | None = None) -> str:
    """Upload a file, streamed from disk, and return its URL. Errors as in `FalClient.upload`.

    Args:
        path: The file.
        lifecycle: How long to keep the file, and who may read it.
    """
    __tracebackhide__ = True
    return _client().upload(Path(path), lifecycle=lifecycle)


@public("fal")
async def upload_file_async(path: str | os.PathLike[str], *, lifecycle: Lifecycle | None = None) -> str:
    """Upload a file, streamed from disk, and return its URL. Arguments and errors as in `upload_file`."""
    __tracebackhide__ = True
    return await _async_client().upload(Path(path), lifecycle=lifecycle)


@public("fal")
def upload_image(image: Any, format: str = "jpeg") -> str:
    """Upload a PIL image as a file of a format, and return its URL. Errors as in `FalClient.upload`."""
    __tracebackhide__ = True
    return _client().upload(_encoded(image, format), content_type=f"image/{format}")


@public("fal")
async def upload_image_async(image: Any, format: str = "jpeg") -> str:
    """Upload a PIL image as a file of a format, and return its URL. Errors as in `FalClient.upload`."""
    __tracebackhide__ = True
    return await _async_client().upload(_encoded(image, format), content_type=f"image/{format}")


@public("fal")
def encode(data: str | bytes, content_type: str) -> str:
    """Return bytes, or a text as UTF-8, as a data URI."""
    return f"data:{content_type};base64,{base64.b64encode(_to_bytes(data)).decode('ascii')}"


@public("fal")
def encode_file(path: str | os.PathLike[str]) -> str:
    """Return a file as a data URI; its media type is that of its extension.

    Raises:
        OSError: The file cannot be read.
    """
    return encode(Path(path).read_bytes(), mimetypes.guess_type(path)[0] or "application/octet-stream")


@public("fal")
def encode_image(image: Any, format: str = "jpeg") -> str:
    """Return a PIL image as a data URI, in a format that Pillow writes."""
    return encode(_encoded(image, format), f"image/{format}")


def _to_bytes(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else data


def _encoded(image: Any, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind, quality=_JPEG_QUALITY)
    return file.getvalue()
