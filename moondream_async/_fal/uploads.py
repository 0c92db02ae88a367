"""Upload files to fal.ai's store, whole or in parts, and replace binary values in arguments by URLs."""

from __future__ import annotations

import base64
import datetime
import json
import math
import mimetypes
import os
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import attrs

from .._concurrency.gather import gather
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
from .._wire.checks import is_mapping, is_sequence
from .._wire.responses import is_object
from ..config import check_headers
from ..errors import APIConnectionError, AuthenticationError, ConfigurationError, ImageError, ServerError
from .connection import FalConnection, FalErrors
from .models import Lifecycle

PART_SIZE = 10 * 1024 * 1024
"""Bytes of a part; more if there would be more than 10,000 parts."""

_MAX_PARTS = 10_000
_MULTIPART_ABOVE = 50 * 1024 * 1024  # bytes
_PART_CONCURRENCY = 4
_TOKEN_MIN_LIFETIME = 60.0  # seconds; a token that expires sooner is replaced
_DEFAULT_MEDIA_TYPE = "application/octet-stream"

_MEDIA_TYPE_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "AVIF")

Encode = Callable[[Any], Awaitable[EncodedImage]]


@attrs.frozen(eq=False)
class Blob:
    """Content to upload: bytes, or a file on disk."""

    content: bytes | Path = attrs.field(repr=False)
    size: int
    media_type: str
    name: str | None = None

    def part(self, start: int, length: int) -> bytes | FileBody:
        """Return a part of the content as a request body."""
        if isinstance(self.content, Path):
            return FileBody(self.content, start, length)
        return self.content if length == self.size else self.content[start : start + length]

    async def data_uri(self) -> str:
        """Return the content as a data URI."""
        content = self.content
        data = await run_in_thread(Path.read_bytes, content) if isinstance(content, Path) else content
        return f"data:{self.media_type};base64,{base64.b64encode(data).decode('ascii')}"


def blob_of(value: Any, media_type: str | None = None, name: str | None = None) -> Blob:
    """Return the content of a value that the user passed. Blocking.

    Raises:
        ConfigurationError: The value is not a file, or cannot be read.
    """
    if isinstance(value, EncodedImage):
        return Blob(value.data, value.nbytes, media_type or value.media_type, name)
    if isinstance(value, (str, os.PathLike)):
        return _blob_of_path(Path(cast("str", value)), media_type, name)
    if isinstance(value, (bytes, bytearray, memoryview)):
        data = bytes(cast("bytes", value))
    else:
        try:
            loaded = load(value)
        except ImageError as exc:
            raise ConfigurationError(f"Cannot upload this value: {exc.message}") from None
        if not isinstance(loaded, bytes):
            raise ConfigurationError("Arrays and PIL images are not files; encode them with encode_image first.")
        data = loaded
        name = name or _header_name(file_name(value))
    if not data:
        raise ConfigurationError("Cannot upload an empty file (0 bytes).")
    return Blob(data, len(data), media_type or _guess_media_type(name, data[:64]), name)


class Uploads:
    """Uploads of one client.

    Args:
        connection: Sends the requests.
        encode: Prepares images that are not files.
        inline_limit: Maximum size in bytes of values that are sent as data URIs.
    """

    def __init__(self, connection: FalConnection, encode: Encode, inline_limit: int) -> None:
        self._connection = connection
        self._encode = encode
        self._inline_limit = inline_limit
        self._token_fetch: SingleFlight[_Token] = SingleFlight()
        self._token: _Token | None = None

    async def upload(self, value: Any, *, media_type: str | None, name: str | None, lifecycle: Lifecycle | None) -> str:
        """Upload a value and return its URL."""
        if _is_image(value):
            value = await self._encode(value)
        elif is_async_file(value):
            value, name = await _read_async_file(value, name)
        _check_header("content_type", media_type)
        blob = await run_in_thread(lambda _: blob_of(value, media_type, _header_name(name)), None)
        return await self._upload_blob(blob, _lifecycle_headers(lifecycle))

    async def _upload_blob(self, blob: Blob, headers: dict[str, str]) -> str:
        if blob.size > _MULTIPART_ABOVE:
            return await self._upload_parts(blob, headers)
        try:
            return await self._upload_whole(blob, headers)
        except (ServerError, APIConnectionError):
            if headers:  # the other store has no lifecycles, so a private file would become public
                raise
            return await self._upload_presigned(blob)

    async def resolve(self, value: Any) -> Any:
        """Return the arguments with every binary value replaced by a data URI or, if large, by the URL of its upload.

        Raises:
            ConfigurationError: A value can neither be sent nor uploaded.
        """
        if not isinstance(value, dict):
            raise ConfigurationError(f"arguments must be a dict, not {type(value).__name__}.")
        return await self._resolve(value, "arguments", {}, depth=0)

    async def place(self, image: EncodedImage) -> str:
        """Return a prepared image as a data URI or, if it is large, the URL of its upload."""
        if image.nbytes <= self._inline_limit:
            return image.image_url
        return await self.upload(image, media_type=None, name=None, lifecycle=None)

    async def _resolve(self, value: Any, where: str, done: dict[int, tuple[Any, str]], *, depth: int) -> Any:
        if getattr(value, "shape", None) == () and hasattr(value, "item"):  # a NumPy scalar
            value = value.item()
        if value is None or isinstance(value, (str, int, float, bool)):
            return value
        if depth > 100:
            raise ConfigurationError(f"{where} is nested too deeply.")
        if is_mapping(value):
            return {
                name: await self._resolve(each, f"{where}.{name}", done, depth=depth + 1)
                for name, each in value.items()
            }
        if is_sequence(value):
            return [await self._resolve(each, f"{where}[{n}]", done, depth=depth + 1) for n, each in enumerate(value)]
        if id(value) not in done:  # a value that occurs twice is uploaded once
            done[id(value)] = value, await self._url_of(value, where)  # keeping the value keeps its id unique
        return done[id(value)][1]

    async def _url_of(self, value: Any, where: str) -> str:
        if _is_image(value):
            return await self.place(await self._encode(value))
        try:
            content, name = await _read_async_file(value, None) if is_async_file(value) else (value, None)
            blob = await run_in_thread(lambda each: blob_of(each, name=name), content)
        except ConfigurationError as exc:
            raise ConfigurationError(f"{where} (a {type(value).__name__}): {exc.message}") from None
        return await blob.data_uri() if blob.size <= self._inline_limit else await self._upload_blob(blob, {})

    async def _upload_whole(self, blob: Blob, headers: dict[str, str]) -> str:
        response = await self._post_to_store("/files/upload", blob, headers, blob.part(0, blob.size))
        return _text_field(response, "access_url")

    async def _upload_parts(self, blob: Blob, headers: dict[str, str]) -> str:
        response = await self._post_to_store("/files/upload/multipart", blob, headers, b"")
        url, upload_id = _text_field(response, "access_url"), _text_field(response, "uploadId")
        if not self._connection.hosts.is_cdn(url):
            raise response.invalid("its access_url is not in fal's file store", response.json())
        size = max(PART_SIZE, math.ceil(blob.size / _MAX_PARTS))

        async def send(number: int) -> dict[str, Any]:
            start = (number - 1) * size
            part = blob.part(start, min(size, blob.size - start))
            etag = await self._send_part(f"{url}/multipart/{upload_id}/{number}", blob, part)
            return {"partNumber": number, "etag": etag}

        parts = await gather(send, range(1, math.ceil(blob.size / size) + 1), at_once=_PART_CONCURRENCY)
        body = json.dumps({"parts": parts}).encode()
        await self._send_authorized(
            "POST", f"{url}/multipart/{upload_id}/complete", {"Content-Type": "application/json"}, body
        )
        return url

    async def _send_part(self, url: str, blob: Blob, part: bytes | FileBody) -> str:
        response = await self._send_authorized("PUT", url, {"Content-Type": blob.media_type}, part)
        etag = response.headers.get("etag")
        if not etag:
            raise response.invalid("it has no ETag")
        return etag

    async def _upload_presigned(self, blob: Blob) -> str:
        body = json.dumps({"file_name": blob.name or "upload.bin", "content_type": blob.media_type}).encode()
        url = f"{self._connection.hosts.rest}/storage/upload/initiate?storage_type=gcs"
        response = await self._connection.send(
            "upload", "POST", url, body=body, headers={"Content-Type": "application/json"}
        )
        # A presigned URL needs neither key nor token.
        headers, part = {"Content-Type": blob.media_type}, blob.part(0, blob.size)
        target = PresignedTarget.of(self._connection.hosts.rest)
        await self._send("PUT", _text_field(response, "upload_url", is_secret=True), headers, part, target)
        return _text_field(response, "file_url")

    async def _post_to_store(self, path: str, blob: Blob, headers: dict[str, str], body: bytes | FileBody) -> Response:
        name = {} if blob.name is None else {"X-Fal-File-Name": blob.name}
        headers = {"Accept": "application/json", "Content-Type": blob.media_type, **name, **headers}
        return await self._send_authorized("POST", self._connection.hosts.cdn + path, headers, body)

    async def _send_authorized(
        self, method: str, url: str, headers: dict[str, str], body: bytes | FileBody
    ) -> Response:
        """Send with the store's token; if it is refused, fetch a new one and send again."""
        token = await self._valid_token()
        try:
            return await self._send(method, url, {**headers, "Authorization": token.header}, body)
        except AuthenticationError:
            if self._token is token:
                self._token = None
        token = await self._valid_token()
        return await self._send(method, url, {**headers, "Authorization": token.header}, body)

    async def _send(
        self, method: str, url: str, headers: dict[str, str], body: bytes | FileBody, target: Target | None = None
    ) -> Response:
        """Send a request without the key."""
        parsed = parse_url(url) if target is None else target.check(url)
        merged, errors = request_headers(parsed, headers), FalErrors(explains_key=False)
        return await self._connection.http.send(Request("upload", method, parsed, merged, errors, body, target=target))

    async def _valid_token(self) -> _Token:
        """Return the store's short-lived token; concurrent calls share one fetch."""
        token = self._token
        if token is None or token.expires - time.time() < _TOKEN_MIN_LIFETIME:
            token = self._token = await self._token_fetch.run("token", self._fetch_token)
            self._connection.http.redactor.add(token.header.partition(" ")[2])
        return token

    async def _fetch_token(self) -> _Token:
        url = f"{self._connection.hosts.rest}/storage/auth/token?storage_type=fal-cdn-v3"
        response = await self._connection.send(
            "upload", "POST", url, body=b"{}", headers={"Content-Type": "application/json"}
        )
        fields = response.json(redacted=False)  # redacting would hide a token that was seen before
        try:
            expires = datetime.datetime.fromisoformat(fields["expires_at"])
            header = HiddenStr(f"{fields.get('token_type', 'Bearer')} {fields['token']}")
            _check_header("token", header)
        except (TypeError, KeyError, ValueError, AttributeError):
            pass
        else:
            if expires.tzinfo is None:
                expires = expires.replace(tzinfo=datetime.UTC)
            return _Token(header, expires.timestamp())
        raise response.invalid("it is not a token for the file store")


@attrs.frozen
class _Token:
    header: str = attrs.field(repr=False)
    expires: float


async def _read_async_file(file: Any, name: str | None) -> tuple[bytes, str | None]:
    """Read an async file in this event loop; its own name is the default."""
    try:
        return (await read_file(file)).data, name or _header_name(file_name(file))
    except ImageError as exc:
        raise ConfigurationError(f"Cannot upload this value: {exc.message}") from None


def _is_image(value: Any) -> bool:
    """Return whether a value is pixels that have to be encoded: a PIL image or an array."""
    if isinstance(value, EncodedImage):
        return False
    return is_pillow(value) or hasattr(value, "__array_interface__")


def _blob_of_path(path: Path, media_type: str | None, name: str | None) -> Blob:
    try:
        size, is_file, head = path.stat().st_size, path.is_file(), b""
        if is_file:  # opening a pipe would block until there is a writer
            with path.open("rb") as file:
                head = file.read(64)
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"{str(path)!r} cannot be read: {getattr(exc, 'strerror', None) or exc}.") from None
    if not is_file or not size:
        raise ConfigurationError(f"{str(path)!r} {'is empty' if is_file else 'is not a regular file'}.")
    name = name or _header_name(path.name)
    return Blob(path, size, media_type or _guess_media_type(name, head), name)


def _guess_media_type(name: str | None, head: bytes) -> str:
    by_name = mimetypes.guess_type(name)[0] if name else None
    image_format = detect_format(head)
    return by_name or (f"image/{image_format.lower()}" if image_format in _MEDIA_TYPE_FORMATS else _DEFAULT_MEDIA_TYPE)


def _header_name(name: Any) -> str | None:
    """Return a file name in the ASCII characters that a header can hold."""
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


def _text_field(response: Response, name: str, *, is_secret: bool = False) -> str:
    data = response.json(redacted=not is_secret)
    value = data.get(name) if is_object(data) else None
    if isinstance(value, str) and value:
        return HiddenStr(value) if is_secret else value
    is_signed = is_secret or "upload_url" in (data or ())  # other fields of the body may be signed, too
    raise response.invalid(f"it has no text {name!r}", None if is_signed else data)
