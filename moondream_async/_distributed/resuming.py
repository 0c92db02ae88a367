"""A folder of Parquet files as the output of a run that can be resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

from .._bulk.atomic_files import replace_file
from .._extras import import_extra
from .._log import log
from .._public import public
from ..errors import ConfigurationError, ResultsFileError

T = TypeVar("T")

_NOTE = "_moondream.json"  # engines ignore files whose name begins with an underscore


@public("distributed")
class Output:
    """The results that a folder has; `SkillMapper.output` makes it.

    Args:
        folder: The folder of Parquet files.
        id: The column that identifies items.
        task: The skill and its arguments, which tell runs apart.

    Raises:
        ConfigurationError: The arguments cannot be written as JSON, or `folder` or `id` is not valid.
        ResultsFileError: It holds results of another skill, or of other arguments.
    """

    def __init__(self, folder: str | os.PathLike[str], id: str, task: dict[str, Any]) -> None:
        if "://" in os.fspath(folder):
            raise ConfigurationError(f"The folder must be on a local or shared file system, not {os.fspath(folder)!r}.")
        if not isinstance(id, str) or not id:
            raise ConfigurationError(f"id must be the name of a column, not {id!r}.")
        self.folder = Path(folder)
        self._id = id
        self._claim(task)

    def finished(self, *, retry_failed: bool = False) -> set[Any]:
        """Return the ids of the items whose results are there, failed ones included.

        A file that cannot be read, as a worker may leave it when it is killed, is skipped, with a warning in the log.

        Args:
            retry_failed: Whether to leave out those that failed, so that they are done again. Default False.

        Raises:
            ConfigurationError: The extra `parquet` is missing, or a file has no such column.
        """
        ids: set[Any] = set()
        for name in sorted(self.folder.rglob("*.parquet")):
            ids.update(self._ids_in(name, retry_failed=retry_failed))
        return ids

    def remaining(self, items: Iterable[T], *, retry_failed: bool = False) -> list[T]:
        """Return the items whose results are not there yet.

        Args:
            items: Their ids, or rows as dicts. Paths are compared as strings.
            retry_failed: As in `finished`.

        Raises:
            ConfigurationError: `items` is one string or a table instead of a list, or a row has no such column.
        """
        if isinstance(items, str | bytes) or hasattr(items, "columns"):
            raise ConfigurationError(f"items must be a list of ids or of rows as dicts, not {type(items).__name__}.")
        finished = self.finished(retry_failed=retry_failed)
        return [item for item in items if self._id_of(item) not in finished]

    def _id_of(self, item: Any) -> Any:
        if isinstance(item, dict):
            row = cast("dict[str, Any]", item)
            if self._id not in row:
                raise ConfigurationError(f"A row has no column {self._id!r}; it has {', '.join(map(repr, row))}.")
            item = row[self._id]
        if isinstance(item, os.PathLike):
            return os.fspath(cast("os.PathLike[str]", item))
        if not isinstance(item, Hashable):
            raise ConfigurationError(f"An id must be a value of the column {self._id!r}, not {type(item).__name__}.")
        return item

    def _ids_in(self, path: Path, *, retry_failed: bool) -> Iterator[Any]:
        parquet = import_extra("pyarrow.parquet", "parquet", "Resuming")
        try:
            file = parquet.ParquetFile(path)
            if self._id not in file.schema_arrow.names:
                raise ConfigurationError(f"{path} has no column {self._id!r}.")
            with file:
                table = file.read([self._id, *(["error"] if retry_failed else [])])
        except (OSError, ValueError) as exc:  # Arrow's errors are some
            if isinstance(exc, ConfigurationError):
                raise
            log.warning("%s cannot be read, and is skipped: %s", path, exc)
            return
        errors = table["error"].to_pylist() if retry_failed else [None] * table.num_rows
        for value, error in zip(table[self._id].to_pylist(), errors, strict=True):
            if error is None:
                yield value

    def _claim(self, task: dict[str, Any]) -> None:
        """Write down what the folder is for, or check it."""
        try:
            text = json.dumps(task, sort_keys=True)
        except (TypeError, ValueError) as exc:
            raise ConfigurationError(f"The arguments cannot be written as JSON: {exc}.") from None
        note = self.folder / _NOTE
        try:
            if note.exists():
                self._compare(json.loads(note.read_text("utf-8")), json.loads(text))
                return
            if next(self.folder.rglob("*.parquet"), None) is not None:
                raise ResultsFileError(f"{self.folder} has Parquet files, but not of such a run.")
            self.folder.mkdir(parents=True, exist_ok=True)
            with replace_file(note) as file:
                file.write_text(text, "utf-8")
        except (OSError, ValueError) as exc:
            raise ResultsFileError(f"{note} cannot be used: {exc}") from None

    def _compare(self, there: Any, here: dict[str, Any]) -> None:
        recorded = cast("dict[str, Any]", there) if isinstance(there, dict) else {}
        for name in sorted({*recorded, *here}):
            before, now = recorded.get(name), here.get(name)
            if before != now:
                raise ResultsFileError(
                    f"{self.folder} holds results of another run: {name} was {before!r}, now {now!r}."
                )
