"""A job's manifest, its batches, and the entries that describe its lines."""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, cast

import attrs
from attrs.validators import instance_of, optional

from ..._bulk import records
from ...errors import BatchError, ConfigurationError

MANIFEST = "manifest.json"
_INVALID_DATA = (LookupError, TypeError, ValueError, AttributeError, RecursionError)  # raised by reading other data
_VERSION = 1

_text = instance_of(str)
_number = instance_of(int)
_flag = instance_of(bool)


def _parts(_: Any, __: Any, value: Any) -> None:
    if not all(str(number).isdecimal() and isinstance(etag, str) for number, etag in value.items()):
        raise TypeError("parts must map numbers to etags")


@attrs.define
class BatchFile:
    """The lines of one batch, and the state of its upload.

    Attributes:
        file: The file with the lines: a name in the job's folder, or the path of a ready file.
        start: Offset of the first byte in the file.
        length: Size in bytes.
        lines: Number of lines.
        closed: Whether all lines were written.
        file_id: The server's id of the file, once the upload was created.
        upload_id: The server's id of the upload, once it was created.
        completing: Whether the server may have received the request that completes the upload.
        parts: The etag of each uploaded part, by part number.
        batch_id: The server's id of the batch, once it was accepted.
        cancelled: Whether the batch was cancelled before it was submitted.
    """

    file: str = attrs.field(validator=_text)
    start: int = attrs.field(default=0, validator=_number)
    length: int = attrs.field(default=0, validator=_number)
    lines: int = attrs.field(default=0, validator=_number)
    closed: bool = attrs.field(default=False, validator=_flag)
    file_id: str | None = attrs.field(default=None, validator=optional(_text))
    upload_id: str | None = attrs.field(default=None, validator=optional(_text))
    completing: bool = attrs.field(default=False, validator=_flag)
    parts: dict[str, str] = attrs.field(factory=dict[str, str], validator=_parts)
    batch_id: str | None = attrs.field(default=None, validator=optional(_text))
    cancelled: bool = attrs.field(default=False, validator=_flag)

    def forget_upload(self) -> None:
        """Forget the upload, so that the next one starts from the beginning."""
        self.file_id = self.upload_id = None
        self.parts.clear()


@attrs.define
class Manifest:
    """The contents of `manifest.json`.

    Attributes:
        base_url: The server's URL.
        model: The model; None for the server's default.
        skill: The skill of every item; None for a ready file, where each line has its own.
        arguments: The skill's arguments for every item.
        source: For a ready file: its path, size and modification time, to detect changes.
        closed: Whether all items were added.
        items: Number of items, once all were added.
        portions: The batches.
        version: Version of this format.
    """

    base_url: str = attrs.field(validator=_text)
    model: str | None = attrs.field(validator=optional(_text))
    skill: str | None = attrs.field(default=None, validator=optional(_text))
    arguments: dict[str, Any] = attrs.field(factory=dict[str, Any], validator=instance_of(dict))
    source: list[Any] | None = attrs.field(default=None, validator=optional(instance_of(list)))
    closed: bool = attrs.field(default=False, validator=_flag)
    items: int = attrs.field(default=0, validator=_number)
    portions: list[BatchFile] = attrs.field(factory=list[BatchFile])
    version: int = _VERSION

    @property
    def task(self) -> str:
        """A fingerprint that differs between jobs."""
        return records.fingerprint([self.base_url, self.model, self.skill, self.arguments, self.source])

    @classmethod
    def of(cls, data: Any) -> Manifest:
        """Parse a manifest. Call it inside `folder_errors`: invalid data raises one of several built-in errors."""
        if data["version"] != _VERSION:
            raise ValueError(f"version {data['version']!r} is not supported")
        fields: dict[str, Any] = {**data, "portions": [BatchFile(**portion) for portion in data["portions"]]}
        return cls(**fields)


@attrs.frozen
class Entry:
    """A description of one line.

    Attributes:
        item: The item's position in the job, from 0.
        id: The item's id.
        skill: The skill.
        arguments: The skill's arguments.
        size: Width and height of the upright image in pixels, if known.
    """

    item: int
    id: Any
    skill: str
    arguments: Mapping[str, Any]
    size: tuple[int, int] | None = None

    @property
    def key(self) -> bytes:
        """A key that differs between items with different ids or arguments."""
        return records.key_of(self.id, {self.skill: self.arguments})


def entry_of(data: Mapping[str, Any], manifest: Manifest) -> Entry:
    """Parse an entry. Call it inside `file_errors`: invalid data raises one of several built-in errors."""
    skill = data.get("skill") or manifest.skill
    size, item, name = data.get("size"), data["item"], data["id"]
    if not (isinstance(item, int) and isinstance(name, (str, int, float)) and isinstance(skill, str)):
        raise TypeError("an entry has fields of other types")
    return Entry(
        item=item,
        id=name,
        skill=skill,
        arguments={**manifest.arguments, **data.get("arguments", {})},
        size=None if size is None else (size[0], size[1]),
    )


def data_of(entry: Entry, manifest: Manifest) -> dict[str, Any]:
    """Return an entry as JSON data, without what the manifest says already."""
    data: dict[str, Any] = {"item": entry.item, "id": entry.id}
    if manifest.skill is None:
        data["skill"] = entry.skill
    own = {name: value for name, value in entry.arguments.items() if manifest.arguments.get(name, data) != value}
    if own:
        data["arguments"] = own
    if entry.size is not None:
        data["size"] = list(entry.size)
    return data


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a job's folder, whether or not a process works on the job.

    Raises:
        BatchError: There is no manifest, or it is invalid.
    """
    with folder_errors(path, invalid=f"{MANIFEST} is not a valid manifest: "):
        return Manifest.of(json.loads((path / MANIFEST).read_bytes()))


@contextmanager
def folder_errors(
    path: Path,
    *,
    os_error: str = "",
    invalid: str = "it contains invalid data: ",
    error: type[BatchError] = BatchError,
) -> Generator[None]:
    """Turn OS errors and errors about invalid data into an error that names the job's folder.

    Args:
        path: The folder.
        os_error: Text before the message of an OS error.
        invalid: Text before the message of an error about invalid data.
        error: The class to raise.

    Raises:
        BatchError: The folder cannot be read or written, or contains invalid data.
    """
    try:
        yield
    except OSError as exc:
        raise unusable(path, f"{os_error}{exc.strerror or exc}", error) from None
    except _INVALID_DATA as exc:
        raise unusable(path, f"{invalid}{exc}", error) from None


def file_errors(path: Path) -> AbstractContextManager[None]:
    """Turn errors from reading a file of a job's folder into a `BatchError` that names the file."""
    return folder_errors(path.parent, os_error=f"{path.name} cannot be read: ", invalid=f"{path.name} is damaged: ")


def unusable(path: Path, problem: str, error: type[BatchError] = BatchError) -> BatchError:
    """Return the error for a job's folder that cannot be used."""
    return error(f"The job's folder {str(path)!r} cannot be used: {problem}.", code="folder")


def path_of(path: object) -> Path:
    """Return an absolute path. Links are not resolved.

    Raises:
        ConfigurationError: The argument is not a path.
    """
    name: Any = cast("Any", path).__fspath__() if isinstance(path, os.PathLike) else path
    if not isinstance(name, str):
        raise ConfigurationError(f"path must be a str or Path, not {type(cast('Any', path)).__name__}.")
    try:
        return Path(os.path.abspath(name))  # noqa: PTH100 - links stay links
    except OSError as exc:  # the current directory is gone
        raise ConfigurationError(f"{name!r} cannot be made absolute: {exc.strerror or exc}.") from None
