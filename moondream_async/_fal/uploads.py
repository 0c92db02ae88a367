"""Files to fal.ai's store: one request, or many parts at once; and binary values anywhere in a request's arguments."""

from __future__ import annotations

import base64
import datetime
import json
import math
import mimetypes
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, cast

import anyio
import attrs

from .._concurrency.single_flight import SingleFlight
from .._concurrency.threads import run_in_thread
from .._hidden import HiddenStr
from .._http.payloads import FileBody
from .._http.presigned_urls import PresignedTarget
from .._http.request import Request, Response, Target, parse_url, request_headers
from .._images.async_files import is_async_file
from .._images.encoded import EncodedImage
from .._images.encoder import read_file
from .._images.formats import detect_format
from .._images.source_names import file_name
from .._images.sources import is_pillow, load
from ..config import check_headers
from ..errors import (
    APIConnectionError,
    AuthenticationError,
    ConfigurationError,
    ImageError,
    MoondreamError,
    ServerError,
)
from .connection import FalConnection, FalErrors
from .models import Lifecycle

PART = 10 * 1024 * 1024
"""Bytes of a part, unless there would be more than 10,000 of them."""

_MAX_PARTS = 10_000
_MULTIPART_ABOVE = 50 * 1024 * 1024  # bytes
_PARTS_AT_ONCE = 4
_TOKEN_LEFT = 60.0  # seconds that a token must last; else another is fetched
_ANYTHING = "application/octet-stream"

Encode = Callable[[Any], Awaitable[EncodedImage]]


@attrs.frozen(eq=False)
class Blob:
    """What is to be uploaded: bytes, or a file on the disk."""

    content: bytes | Path = attrs.field(repr=False)
    size: int
    media_type: str
    name: str | None = None

    def part(self, start: int, length: int) -> bytes | FileBody:
        """Some of it, to be sent."""
        if isinstance(self.content, Path):
            return FileBody(self.content, start, length)
        return self.content if length == self.size else self.content[start : start + length]

    async def data_uri(self) -> str:
        """All of it, in a text."""
        content = self.content
        data = await run_in_thread(Path.read_bytes, content) if isinstance(content, Path) else content
        return f"data:{self.media_type};base64,{base64.b64encode(data).decode('ascii')}"


def blob_of(value: Any, media_type: str | None = None, name: str | None = None) -> Blob:
    """Read what a user has; blocking.

    Raises:
        ConfigurationError: It is no file, or cannot be read.
    """
    if isinstance(value, EncodedImage):
        return Blob(value.data, value.nbytes, media_type or value.media_type, name)
    if isinstance(value, (str, os.PathLike)):
        return _of_path(Path(cast("str", value)), media_type, name)
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(cast("bytes", value))
    else:
        try:
            loaded = load(value)
        except ImageError as exc:
            raise ConfigurationError(f"This cannot be uploaded: {exc.message}") from None
        if not isinstance(loaded, bytes):
            raise ConfigurationError("Images are uploaded after encode_image; arrays and PIL images are no files.")
        data = loaded
        name = name or _name_of(file_name(value))
    if not data:
        raise ConfigurationError("There is nothing to upload: 0 bytes.")
    return Blob(data, len(data), media_type or _guess(name, data[:64]), name)


class Uploads:
    """Uploads of one client.

    Args:
        connection: Sends the requests.
        encode: Prepares images that are no files.
        inline_limit: Bytes up to which a binary value goes along in the request.
    """

    def __init__(self, connection: FalConnection, encode: Encode, inline_limit: int) -> None:
        self._connection = connection
        self._encode = encode
        self._inline_limit = inline_limit
        self._once: SingleFlight[_Token] = SingleFlight()
        self._token: _Token | None = None

    async def upload(self, value: Any, *, media_type: str | None, name: str | None, lifecycle: Lifecycle | None) -> str:
        """Upload; returns the URL."""
        if _is_picture(value):
            value = await self._encode(value)
        elif is_async_file(value):
            value, name = await _read(value, name)
        _check_header("content_type", media_type)
        blob = await run_in_thread(lambda _: blob_of(value, media_type, _name_of(name)), None)
        return await self._uploaded(blob, _lifecycle_headers(lifecycle))

    async def _uploaded(self, blob: Blob, headers: dict[str, str]) -> str:
        if blob.size > _MULTIPART_ABOVE:
            return await self._in_parts(blob, headers)
        try:
            return await self._whole(blob, headers)
        except (ServerError, APIConnectionError):
            if headers:  # the other store knows no lifecycles: what is private must not become public
                raise
            return await self._presigned(blob)

    async def resolve(self, value: Any, where: str = "arguments") -> Any:
        """The arguments with every binary value in them as a data URI, or uploaded, and its URL in its place.

        Raises:
            ConfigurationError: One can neither be sent nor uploaded.
        """
        if not isinstance(value, dict):
            raise ConfigurationError(f"{where} must be a dict, not {type(value).__name__}.")
        return await self._resolved(value, where, {}, depth=0)

    async def place(self, image: EncodedImage) -> str:
        """A prepared image as a data URI, or uploaded, and its URL."""
        if image.nbytes <= self._inline_limit:
            return image.image_url
        return await self.upload(image, media_type=None, name=None, lifecycle=None)

    async def _resolved(self, value: Any, where: str, done: dict[int, tuple[Any, str]], *, depth: int) -> Any:
        if getattr(value, "shape", None) == () and hasattr(value, "item"):  # a number of NumPy's
            value = value.item()
        if value is None or isinstance(value, (str, int, float, bool)):
            return value
        if depth > 100:
            raise ConfigurationError(f"{where} is nested too deeply.")
        if isinstance(value, Mapping):
            fields = cast("Mapping[str, Any]", value)
            return {
                name: await self._resolved(each, f"{where}.{name}", done, depth=depth + 1)
                for name, each in fields.items()
            }
        if isinstance(value, (list, tuple)):
            items = cast("list[Any]", value)
            return [await self._resolved(each, f"{where}[{n}]", done, depth=depth + 1) for n, each in enumerate(items)]
        if id(value) not in done:  # the same value twice is uploaded once
            done[id(value)] = value, await self._placed(value, where)  # the value is kept: its id is not used again
        return done[id(value)][1]

    async def _placed(self, value: Any, where: str) -> str:
        if _is_picture(value):
            return await self.place(await self._encode(value))
        try:
            content, name = await _read(value, None) if is_async_file(value) else (value, None)
            blob = await run_in_thread(lambda each: blob_of(each, name=name), content)
        except ConfigurationError as exc:
            raise ConfigurationError(f"{where} is a {type(value).__name__}: {exc.message}") from None
        return await blob.data_uri() if blob.size <= self._inline_limit else await self._uploaded(blob, {})

    async def _whole(self, blob: Blob, headers: dict[str, str]) -> str:
        answer = await self._to_store("POST", "/files/upload", blob, headers, blob.part(0, blob.size))
        return _text_in(answer, "access_url")

    async def _in_parts(self, blob: Blob, headers: dict[str, str]) -> str:
        begun = await self._to_store("POST", "/files/upload/multipart", blob, headers, b"")
        url, upload = _text_in(begun, "access_url"), _text_in(begun, "uploadId")
        if not self._connection.hosts.is_cdn(url):
            raise begun.invalid("its access_url is not of fal's store", begun.json())
        size = max(PART, math.ceil(blob.size / _MAX_PARTS))
        etags: dict[int, str] = {}
        limit = anyio.CapacityLimiter(_PARTS_AT_ONCE)
        failed: list[Exception] = []

        async def send(number: int) -> None:
            start = (number - 1) * size
            async with limit:
                part = blob.part(start, min(size, blob.size - start))
                try:
                    etags[number] = await self._send_part(f"{url}/multipart/{upload}/{number}", blob, part)
                except (MoondreamError, OSError) as exc:
                    failed.append(exc)
                    tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            for number in range(1, math.ceil(blob.size / size) + 1):
                tasks.start_soon(send, number)
        if failed:
            raise failed[0]
        parts = [{"partNumber": number, "etag": etags[number]} for number in sorted(etags)]
        body = json.dumps({"parts": parts}).encode()
        await self._with_token("POST", f"{url}/multipart/{upload}/complete", {"Content-Type": "application/json"}, body)
        return url

    async def _send_part(self, url: str, blob: Blob, part: bytes | FileBody) -> str:
        answer = await self._with_token("PUT", url, {"Content-Type": blob.media_type}, part)
        etag = answer.headers.get("etag")
        if not etag:
            raise answer.invalid("it has no ETag")
        return etag

    async def _presigned(self, blob: Blob) -> str:
        body = json.dumps({"file_name": blob.name or "upload.bin", "content_type": blob.media_type}).encode()
        url = f"{self._connection.hosts.rest}/storage/upload/initiate?storage_type=gcs"
        begun = await self._connection.send(
            "upload", "POST", url, body=body, headers={"Content-Type": "application/json"}
        )
        # The address is proof enough: neither key nor token go there.
        headers, part = {"Content-Type": blob.media_type}, blob.part(0, blob.size)
        target = PresignedTarget.of(self._connection.hosts.rest)
        await self._send("PUT", _signed_url_in(begun), headers, part, target)
        return _text_in(begun, "file_url")

    async def _to_store(
        self, method: str, path: str, blob: Blob, headers: dict[str, str], body: bytes | FileBody
    ) -> Response:
        named = {} if blob.name is None else {"X-Fal-File-Name": blob.name}
        sent = {"Accept": "application/json", "Content-Type": blob.media_type, **named, **headers}
        return await self._with_token(method, self._connection.hosts.cdn + path, sent, body)

    async def _with_token(self, method: str, url: str, headers: dict[str, str], body: bytes | FileBody) -> Response:
        """Send with the store's token; with a new one, if that is refused."""
        token = await self._token_for_now()
        sent = {**headers, "Authorization": token.header}
        try:
            return await self._send(method, url, sent, body)
        except AuthenticationError:
            if self._token is token:
                self._token = None
        sent = {**headers, "Authorization": (await self._token_for_now()).header}
        return await self._send(method, url, sent, body)

    async def _send(
        self, method: str, url: str, headers: dict[str, str], body: bytes | FileBody, target: Target | None = None
    ) -> Response:
        """Send a request without the key."""
        parsed = parse_url(url) if target is None else target.check(url)
        merged, errors = request_headers(parsed, headers), FalErrors(explains_key=False)
        return await self._connection.http.send(Request("upload", method, parsed, merged, errors, body, target=target))

    async def _token_for_now(self) -> _Token:
        """The store's own short-lived token, fetched once for all that want it."""
        token = self._token
        if token is None or token.expires - time.time() < _TOKEN_LEFT:
            token = self._token = await self._once.run("token", self._fetch_token)
            self._connection.http.redactor.add(token.header.partition(" ")[2])
        return token

    async def _fetch_token(self) -> _Token:
        url = f"{self._connection.hosts.rest}/storage/auth/token?storage_type=fal-cdn-v3"
        answer = await self._connection.send(
            "upload", "POST", url, body=b"{}", headers={"Content-Type": "application/json"}
        )
        fields = answer.json(redacted=False)  # the same token may come again
        try:
            expires = datetime.datetime.fromisoformat(fields["expires_at"])
            header = HiddenStr(f"{fields.get('token_type', 'Bearer')} {fields['token']}")
            _check_header("token", header)
        except (TypeError, KeyError, ValueError, AttributeError):  # of which one is ours
            pass
        else:
            if expires.tzinfo is None:
                expires = expires.replace(tzinfo=datetime.UTC)
            return _Token(header, expires.timestamp())
        raise answer.invalid("it is not a token for the file store")


@attrs.frozen
class _Token:
    header: str = attrs.field(repr=False)
    expires: float


async def _read(file: Any, name: str | None) -> tuple[bytes, str | None]:
    """Read an async file in this event loop; the name is the file's own if none is given."""
    try:
        return (await read_file(file)).data, name or _name_of(file_name(file))
    except ImageError as exc:
        problem = exc.message
    raise ConfigurationError(f"This cannot be uploaded: {problem}")


def _is_picture(value: Any) -> bool:
    """Whether it is pixels, and no file yet."""
    if isinstance(value, EncodedImage):
        return False
    return is_pillow(value) or hasattr(value, "__array_interface__")


def _of_path(path: Path, media_type: str | None, name: str | None) -> Blob:
    try:
        size, is_file, head = path.stat().st_size, path.is_file(), b""
        if is_file:  # to open a pipe would wait for whoever writes it
            with path.open("rb") as file:
                head = file.read(64)
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"{str(path)!r} cannot be read: {getattr(exc, 'strerror', None) or exc}.") from None
    if not is_file or not size:
        raise ConfigurationError(f"{str(path)!r} {'is empty' if is_file else 'is not a regular file'}.")
    name = name or _name_of(path.name)
    return Blob(path, size, media_type or _guess(name, head), name)


def _guess(name: str | None, head: bytes) -> str:
    by_name = mimetypes.guess_type(name)[0] if name else None
    kind = detect_format(head)
    return by_name or (f"image/{kind.lower()}" if kind in ("JPEG", "PNG", "GIF", "WEBP", "AVIF") else _ANYTHING)


def _name_of(name: Any) -> str | None:
    """A file's name as a header can hold it."""
    if not isinstance(name, str):
        return None
    plain = Path(name).name.encode("ascii", "replace").decode()
    return re.sub(r"[^\x20-\x7e]|\?", "_", plain) or None


def _check_header(name: str, value: str | None) -> None:
    if value is not None:
        try:
            check_headers({"X-Value": value})
        except ConfigurationError:
            raise ConfigurationError(f"{name} must be one line of printable ASCII, not {value!r}.") from None


def _lifecycle_headers(lifecycle: Lifecycle | None) -> dict[str, str]:
    if lifecycle is not None and not isinstance(lifecycle, Lifecycle):
        raise ConfigurationError(f"lifecycle must be Lifecycle(...), not {type(lifecycle).__name__}.")
    wire = lifecycle.to_wire() if lifecycle is not None else {}
    if not wire:
        return {}
    text = json.dumps(wire)
    return {"X-Fal-Object-Lifecycle": text, "X-Fal-Object-Lifecycle-Preference": text}


def _signed_url_in(answer: Response) -> str:
    data = answer.json(redacted=False)
    url = cast("dict[str, Any]", data).get("upload_url") if isinstance(data, dict) else None
    if isinstance(url, str) and url:
        return HiddenStr(url)
    raise answer.invalid("it has no text 'upload_url'")  # other fields may be signed


def _text_in(answer: Response, name: str) -> str:
    data = answer.json()
    value = cast("dict[str, Any]", data).get(name) if isinstance(data, dict) else None
    if not isinstance(value, str) or not value:
        raise answer.invalid(f"it has no text {name!r}", None if "upload_url" in (data or ()) else data)
    return value
