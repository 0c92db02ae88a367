"""Answers of the tools: structured content, a short text and pictures, never more than a client takes."""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from mcp_types import CallToolResult, ContentBlock, ImageContent, ResourceLink, TextContent
from pydantic import BaseModel

from .._images.options import ImageOptions
from .._images.prepare import encode
from ..errors import ConfigurationError

URI = "moondream://answers/{answer}/{part}"
_MAX_SIZE = 24_000  # bytes of text and structured content together; no token is shorter, and clients take 25,000
_MAX_TEXT = 8_000  # of these
_MAX_PICTURES = 700_000  # bytes of all pictures together; in base64, they fit the 1 MiB that clients take
_MAX_SIDE = 1024  # pixels of a picture
_MAX_PARTS = 3_000  # of long answers that are kept


class Answers:
    """Builds answers, and keeps the latest that were too long, to be read part by part as resources."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, list[str]] = OrderedDict()

    def build(self, result: BaseModel, text: str, jpegs: Sequence[bytes] = ()) -> CallToolResult:
        """Return an answer; if it is too long, a shortened one, whose field `more` names a resource with all of it."""
        text = _clean(text)
        data: dict[str, Any] = json.loads(_clean(json.dumps(result.model_dump(mode="json"), ensure_ascii=False)))
        links: list[ContentBlock] = []
        if _size(text) + _size(data) > _MAX_SIZE:
            uri, count = self._keep(f"{text}\n\n{json.dumps(data, ensure_ascii=False, indent=1)}")
            note = f"\n[Shortened. All of it is in the resource {uri}, and so on to part {count}.]"
            text, data["more"] = _cut(text, _MAX_TEXT) + note, uri
            _shorten(data, _MAX_SIZE - _size(text))
            links = [ResourceLink(uri=uri, name="complete-answer", mime_type="text/plain")]
        pictures = [ImageContent(data=base64.b64encode(jpeg).decode(), mime_type="image/jpeg") for jpeg in jpegs]
        return CallToolResult(content=[TextContent(text=text), *pictures, *links], structured_content=data)

    def _keep(self, text: str) -> tuple[str, int]:
        name = secrets.token_hex(8)  # cannot be guessed by another client
        self._kept[name] = parts = _split(text)
        while len(self._kept) > 1 and sum(map(len, self._kept.values())) > _MAX_PARTS:
            self._kept.popitem(last=False)
        return URI.format(answer=name, part=1), len(parts)

    def read(self, answer: str, part: str) -> str:
        """Return a part of an answer; raise `ResourceNotFoundError` if it is not kept."""
        parts = self._kept.get(answer, [])
        index = int(part) if re.fullmatch("[0-9]{1,6}", part) else 0
        if not 1 <= index <= len(parts):
            raise ResourceNotFoundError("There is no such answer, or it is no longer kept: call the tool again.")
        return parts[index - 1]


class Output:
    """The folder for pictures and results, which is created. Nothing is written elsewhere, and no file is replaced."""

    def __init__(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigurationError(f"output {str(path)!r} cannot be used: {exc.strerror or exc}.") from None
        self.path, self.written = path.resolve(), set[Path]()

    def write(self, kind: str, image: str, data: bytes) -> str:
        """Write a JPEG to a new file, and return its path; blocking. Raise `ConfigurationError` if that fails."""
        stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(image).stem)[:40].strip("-") or "image"
        path = self.path / f"{kind}-{stem}-{secrets.token_hex(4)}.jpg"
        try:
            with path.open("xb") as file:  # fails if there is a file or link
                file.write(data)
        except OSError as exc:
            raise ConfigurationError(f"{str(path)!r} cannot be written: {exc.strerror or exc}.") from None
        self.written.add(path)
        return str(path)


def to_jpegs(pictures: Sequence[Any]) -> list[bytes]:
    """Encode the Pillow images of an answer within its limits; blocking."""
    options = ImageOptions(resize=_MAX_SIDE, max_bytes=_MAX_PICTURES // max(1, len(pictures)))
    return [encode(picture, options).data for picture in pictures]


def _shorten(data: dict[str, Any], limit: int) -> None:
    """Halve the longest list or text until the whole fits."""
    while _size(data) > limit:
        names = [name for name, value in data.items() if isinstance(value, list | str) and name != "more"]
        longest = max(names, key=lambda name: _size(data[name]))
        data[longest] = data[longest][: len(data[longest]) // 2]


def _split(text: str) -> list[str]:
    """Split a text into parts that a client takes, at the ends of lines where that is possible."""
    parts, at = list[str](), 0
    while at < len(text):
        part = _cut(text[at : at + _MAX_SIZE], _MAX_SIZE)
        end = part.rfind("\n") + 1
        part = part[:end] if end and at + len(part) < len(text) else part
        parts.append(part)
        at += len(part)
    return parts


def _cut(text: str, limit: int) -> str:
    return text.encode()[:limit].decode("utf-8", "ignore")


def _size(value: Any) -> int:
    return len((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode())


def _clean(text: str) -> str:
    """Replace surrogates, which a server's JSON may have and UTF-8 has not."""
    return text.encode("utf-8", "replace").decode()
