"""A folder of Parquet files as the output of a run that can be resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
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
        ConfigurationError: The arguments cannot be written as JSON.
        ResultsFileError: It holds results of another skill, or of other arguments.
    """

    def __init__(self, folder: str | os.PathLike[str], id: str, task: dict[str, Any]) -> None:
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
            items: Their ids, or rows as dicts.
            retry_failed: As in `finished`.
        """
        finished = self.finished(retry_failed=retry_failed)
        return [item for item in items if self._id_of(item) not in finished]

    def _id_of(self, item: Any) -> Any:
        return cast("dict[str, Any]", item)[self._id] if isinstance(item, dict) else item

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
                if json.loads(note.read_text("utf-8")) != json.loads(text):
                    raise ResultsFileError(f"{self.folder} holds results of another run: {note.read_text('utf-8')}")
                return
            if next(self.folder.rglob("*.parquet"), None) is not None:
                raise ResultsFileError(f"{self.folder} has Parquet files, but not of such a run.")
            self.folder.mkdir(parents=True, exist_ok=True)
            with replace_file(note) as file:
                file.write_text(text, "utf-8")
        except (OSError, ValueError) as exc:
            raise ResultsFileError(f"{self.folder} cannot be used: {exc}") from None
