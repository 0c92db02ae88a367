"""A file store on disk, with multipart uploads; deleted when the sandbox ends."""

from __future__ import annotations

import functools
import hashlib
import secrets
import shutil
import tempfile
import weakref
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs


@attrs.define(eq=False)
class StoredFile:
    """A stored file."""

    name: str
    media_type: str
    path: Path
    lifecycle: str | None = None
    parts: dict[int, Path] = attrs.field(factory=dict[int, Path])
    etags: dict[int, str] = attrs.field(factory=dict[int, str])
    complete: bool = False


def etags_of(parts: Any) -> dict[int, str]:
    """Return the etag of each part that a request lists to complete an upload; none if the list is invalid."""
    try:
        return {part["partNumber"]: part["etag"] for part in parts}
    except (TypeError, KeyError):
        return {}


class Storage:
    """The files of one API of a sandbox."""

    def __init__(self) -> None:
        self.files: dict[str, StoredFile] = {}

    @functools.cached_property
    def folder(self) -> str:
        """The temporary folder of the files, created on first use."""
        folder = tempfile.mkdtemp(prefix="moondream-sandbox-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def new_file(self, name: str | None, media_type: str, lifecycle: str | None) -> tuple[str, StoredFile]:
        """Register a file that is not written yet; return its id and itself."""
        key = secrets.token_urlsafe(12)
        file = StoredFile(name or "file.bin", media_type, Path(self.folder, key), lifecycle)
        self.files[key] = file
        return key, file

    async def write(self, path: Path, chunks: AsyncIterator[bytes]) -> str:
        """Write the chunks to a file; return their MD5 digest in hex."""
        digest = hashlib.md5(usedforsecurity=False)
        with path.open("wb") as out:
            async for chunk in chunks:
                digest.update(chunk)
                out.write(chunk)
        return digest.hexdigest()

    def part_path(self, file: StoredFile, number: int) -> Path:
        """Return the path of a part."""
        return file.path.with_name(f"{file.path.name}.{number}")

    def join(self, file: StoredFile) -> None:
        """Join the parts into one file; does nothing if that is done, so that a retry succeeds."""
        if file.complete:
            return
        with file.path.open("wb") as out:
            for number in sorted(file.parts):
                part = file.parts[number]
                with part.open("rb") as source:
                    while chunk := source.read(1024 * 1024):
                        out.write(chunk)
                part.unlink()
        file.complete = True
