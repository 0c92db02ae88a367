"""Files, whole and in parts; kept on the disk until the sandbox ends."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tempfile
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

import attrs


@attrs.define(eq=False)
class Stored:
    """A file of the store."""

    name: str
    media_type: str
    path: Path
    lifecycle: str | None = None
    parts: dict[int, Path] = attrs.field(factory=dict[int, Path])
    etags: dict[int, str] = attrs.field(factory=dict[int, str])
    complete: bool = False


class Storage:
    """All files of one sandbox."""

    def __init__(self) -> None:
        self._made: str | None = None
        self.files: dict[str, Stored] = {}

    @property
    def folder(self) -> str:
        """Where they are."""
        if self._made is None:
            self._made = tempfile.mkdtemp(prefix="moondream-sandbox-")
            weakref.finalize(self, shutil.rmtree, self._made, ignore_errors=True)
        return self._made

    def new_file(self, name: str | None, media_type: str, lifecycle: str | None) -> tuple[str, Stored]:
        """A place for a file; returns its id."""
        key = secrets.token_urlsafe(12)
        file = Stored(name or "file.bin", media_type, Path(self.folder, key), lifecycle)
        self.files[key] = file
        return key, file

    async def write(self, path: Path, chunks: AsyncIterator[bytes]) -> str:
        """Write what comes; returns a digest of it."""
        digest = hashlib.md5(usedforsecurity=False)
        with path.open("wb") as out:
            async for chunk in chunks:
                digest.update(chunk)
                out.write(chunk)
        return digest.hexdigest()

    def part_of(self, file: Stored, number: int) -> Path:
        """A place for a part."""
        return file.path.with_name(f"{file.path.name}.{number}")

    def join(self, file: Stored) -> None:
        """Make one file of its parts; asked again, because the answer was lost, it is one already."""
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
