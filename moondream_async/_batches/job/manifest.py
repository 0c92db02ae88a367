"""What a job's folder says of it: the manifest, its portions, and what each line is of."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import attrs
from attrs.validators import instance_of, optional

from ..._bulk import records
from ...errors import BatchError, ConfigurationError

MANIFEST = "manifest.json"
NOT_OURS = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What reading something else raises."""

_VERSION = 1


_text = instance_of(str)
_number = instance_of(int)
_flag = instance_of(bool)


def _parts(_: Any, __: Any, value: Any) -> None:
    if not all(str(number).isdecimal() and isinstance(etag, str) for number, etag in value.items()):
        raise TypeError("its parts are not etags by number")


@attrs.define
class BatchFile:
    """The lines of one batch, and how far they have come.

    Attributes:
        file: Where they are: a file's name in the folder, or the path of a ready file.
        start: The first byte.
        length: Bytes.
        lines: How many.
        closed: Whether all of its lines are there.
        file_id: The server's, once the upload has begun.
        upload_id: The same.
        completing: Whether the server was, or was to be, told that all parts are there.
        parts: The etag of each part that was uploaded, by its number.
        batch_id: The server's, once it has accepted the batch.
        cancelled: Whether it shall not be handed in.
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
        """It begins anew."""
        self.file_id = self.upload_id = None
        self.parts.clear()


@attrs.define
class Manifest:
    """What `manifest.json` holds.

    Attributes:
        base_url: The server.
        model: What is to answer; None is the server's default.
        skill: What is asked of every item; None in a ready file, whose lines have their own.
        arguments: The skill's own, for every item.
        source: Of a ready file: its path, size and time, by which a changed one is known.
        closed: Whether all items are in.
        items: How many there were, once all are in.
        portions: One for each batch.
        version: Of this format.
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
        """What tells jobs apart."""
        return records.fingerprint([self.base_url, self.model, self.skill, self.arguments, self.source])

    @classmethod
    def of(cls, data: Any) -> Manifest:
        """Read one; raises one of `NOT_OURS` for anything else."""
        if data["version"] != _VERSION:
            raise ValueError(f"it is of version {data['version']}")
        fields: dict[str, Any] = {**data, "portions": [BatchFile(**portion) for portion in data["portions"]]}
        return cls(**fields)


@attrs.frozen
class Entry:
    """What a line is of.

    Attributes:
        item: The item's place among all, from 0.
        id: Its id.
        skill: What was asked.
        arguments: The skill's.
        size: The upright image's, in pixels, if it is known.
    """

    item: int
    id: Any
    skill: str
    arguments: Mapping[str, Any]
    size: tuple[int, int] | None = None

    @property
    def key(self) -> bytes:
        """What tells items apart: id and arguments."""
        return records.key_of(self.id, {self.skill: self.arguments})


def entry_of(data: Mapping[str, Any], manifest: Manifest) -> Entry:
    """Read an entry; raises one of `NOT_OURS` for anything else."""
    skill = data.get("skill") or manifest.skill
    size, item, name = data.get("size"), data["item"], data["id"]
    if not (isinstance(item, int) and isinstance(name, (str, int, float)) and isinstance(skill, str)):
        raise TypeError("an entry is not one of ours")
    return Entry(
        item=item,
        id=name,
        skill=skill,
        arguments={**manifest.arguments, **data.get("arguments", {})},
        size=None if size is None else (size[0], size[1]),
    )


def data_of(entry: Entry, manifest: Manifest) -> dict[str, Any]:
    """What is written of an entry: what the manifest does not say already."""
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
    """What a job's folder says, whoever works on it.

    Raises:
        BatchError: It is none.
    """
    try:
        return Manifest.of(json.loads((path / MANIFEST).read_bytes()))
    except OSError as exc:
        problem = exc.strerror or str(exc)
    except NOT_OURS as exc:
        problem = f"{MANIFEST} is not ours: {exc}"
    raise unusable(path, problem)


def unusable(path: Path, problem: str) -> BatchError:
    """The error for a folder that is not what it should be."""
    return BatchError(f"The job's folder {str(path)!r} cannot be used: {problem}.", code="folder")


def path_of(path: object) -> Path:
    """Return a path as it is from anywhere.

    Raises:
        ConfigurationError: It is not a path.
    """
    name: Any = cast("Any", path)
    if isinstance(name, os.PathLike):
        name = cast("Any", name).__fspath__()
    if not isinstance(name, str):
        raise ConfigurationError(f"path must be a str or Path, not {type(cast('Any', path)).__name__}.")
    try:
        return Path(os.path.abspath(name))  # noqa: PTH100 - links stay links
    except OSError as exc:  # the current directory is gone
        problem = exc.strerror or str(exc)
    raise ConfigurationError(f"{name!r} cannot be found from here: {problem}.")
