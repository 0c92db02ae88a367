"""Tables as engines pass them: a dict of columns, a pandas data frame, an Arrow table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from .._extras import import_package
from ..errors import ConfigurationError
from .columns import arrow_schema


class Batch(Protocol):
    """Some rows of a table."""

    @property
    def names(self) -> list[str]:
        """The names of its columns."""
        ...

    def column(self, name: str) -> Sequence[Any]:
        """Return the values of a column."""
        ...

    def with_columns(self, added: Mapping[str, list[Any]], skill: str, keep: Sequence[str] | None) -> Any:
        """Return the table in the form in which it came, with more columns.

        Args:
            added: The new columns.
            skill: The skill, whose Arrow types they have.
            keep: The columns that stay; None for all.
        """
        ...


def batch_of(table: Any) -> Batch:
    """Return a table as an engine passed it.

    Raises:
        ConfigurationError: It is no table of a known kind, or its columns are not lists of the same length.
    """
    module = type(table).__module__.partition(".")[0]
    if isinstance(table, Mapping):
        return DictBatch(_checked(dict(table)))  # pyright: ignore[reportUnknownArgumentType]
    if module == "pandas" and hasattr(table, "assign"):
        return FrameBatch(table)
    if module == "pyarrow" and hasattr(table, "append_column"):
        return ArrowBatch(table)
    if hasattr(table, "items") and hasattr(table, "keys"):  # the lazy batch of datasets
        return DictBatch(dict(table.items()))
    raise ConfigurationError(
        "A batch must be a dict of columns, a pandas DataFrame or a pyarrow Table, "
        f"not {type(table).__module__}.{type(table).__qualname__}."
    )


def column_of(batch: Batch, name: str) -> Sequence[Any]:
    """Return the values of a column.

    Raises:
        ConfigurationError: There is no such column; the message names those that are there.
    """
    check_columns(batch, [name])
    return batch.column(name)


def check_columns(batch: Batch, names: Sequence[str]) -> None:
    """Check that a table has columns.

    Raises:
        ConfigurationError: It has not; the message names those that are there.
    """
    for name in names:
        if name not in batch.names:
            there = (
                f"the columns are {', '.join(map(repr, batch.names))}" if batch.names else "the batch has no columns"
            )
            raise ConfigurationError(f"There is no column {name!r}; {there}.")


def _checked(table: dict[str, Any]) -> dict[str, Any]:
    for name, values in table.items():
        if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
            raise ConfigurationError(f"The column {name!r} must be a list of values, not {type(values).__name__}.")
    if len({len(values) for values in table.values()}) > 1:
        lengths = ", ".join(f"{name!r} has {len(values)}" for name, values in table.items())
        raise ConfigurationError(f"The columns differ in length: {lengths}.")
    return table


class DictBatch:
    """A dict of columns: lists, or NumPy arrays as Ray passes them."""

    def __init__(self, table: dict[str, Any]) -> None:
        self._table = table
        self.names = list(table)

    def column(self, name: str) -> Sequence[Any]:
        """Return the values of a column."""
        return list(self._table[name])

    def with_columns(self, added: Mapping[str, list[Any]], skill: str, keep: Sequence[str] | None) -> Any:
        """Return a dict with more columns; or, of NumPy arrays, an Arrow table, so that the types are always the same.

        Arrays of arrays, such as images, are no Arrow columns: then it is a dict of NumPy arrays.
        """
        kept = {name: self._table[name] for name in (self.names if keep is None else keep) if name not in added}
        if not any(type(column).__module__ == "numpy" for column in self._table.values()):
            return {**kept, **added}
        try:
            arrow = import_package("pyarrow", "This batch")
            table = arrow.table({name: arrow.array(column) for name, column in kept.items()})
        except (ConfigurationError, ValueError, TypeError):  # Arrow's errors are some
            return {**kept, **{name: _object_array(values) for name, values in added.items()}}
        return ArrowBatch(table).with_columns(added, skill, None)


class FrameBatch:
    """A pandas data frame."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self.names = list(table.columns)

    def column(self, name: str) -> Sequence[Any]:
        """Return the values of a column."""
        return list(self._table[name])

    def with_columns(self, added: Mapping[str, list[Any]], skill: str, keep: Sequence[str] | None) -> Any:
        """Return a data frame with more columns, with the same index."""
        pandas = import_package("pandas", "This batch")
        frame = self._table if keep is None else self._table[list(keep)]
        return frame.assign(
            **{name: pandas.Series(values, index=frame.index, dtype=object) for name, values in added.items()}
        )


class ArrowBatch:
    """An Arrow table."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self.names = list(table.column_names)

    def column(self, name: str) -> Sequence[Any]:
        """Return the values of a column."""
        return list(self._table.column(name).to_pylist())

    def with_columns(self, added: Mapping[str, list[Any]], skill: str, keep: Sequence[str] | None) -> Any:
        """Return a table with more columns, of the skill's Arrow types."""
        arrow = import_package("pyarrow", "This batch")
        kept = [name for name in (self.names if keep is None else keep) if name not in added]
        fields = [*(self._table.schema.field(name) for name in kept), *arrow_schema(skill)]
        cells = [arrow.array(added[field.name], type=field.type) for field in fields[len(kept) :]]
        return arrow.Table.from_arrays([*map(self._table.column, kept), *cells], schema=arrow.schema(fields))


def _object_array(values: list[Any]) -> Any:
    """Return a NumPy array of objects: NumPy would make more dimensions of lists of the same length."""
    array: Any = import_package("numpy", "This batch").empty(len(values), dtype=object)
    array[:] = values
    return array
