"""Options of tiles, and plans of calls."""

from __future__ import annotations

import re
from typing import Any, Literal, TypeAlias

import attrs

from ._public import public
from ._scalars import to_python
from .errors import ConfigurationError

_MAX_OVERLAP = 0.5
_GRID = re.compile(r"\s*(\d{1,4})\s*[x,]\s*(\d{1,4})\s*", re.IGNORECASE)


def _whole(least: int) -> Any:
    def check(_: Any, field: Any, value: Any) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise ConfigurationError(f"Tiles: {field.name} must be a whole number of at least {least}, not {value!r}.")

    return check


def _fraction(_: Any, field: Any, value: Any) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= _MAX_OVERLAP:
        raise ConfigurationError(f"Tiles: {field.name} must be a number from 0 to {_MAX_OVERLAP}, not {value!r}.")


def _flag(_: Any, field: Any, value: Any) -> None:
    if not isinstance(value, bool):
        raise ConfigurationError(f"Tiles: {field.name} must be True or False, not {value!r}.")


@public()
@attrs.frozen
class Tiles:
    """How `detect` and `point` cut a large image into tiles (`tiles=`).

    Args:
        columns: The number of columns. Default None: as many columns and rows as show the model every pixel.
        rows: The number of rows. Give both, or neither.
        overlap: How far neighboring tiles overlap, as a fraction of a tile's width or height, 0..0.5. Default 0.2.
            For `point`, it should be larger than the objects.
        whole: Whether to call the skill for the whole image, too: objects larger than a tile are seen only there.
            Default True.
        splits: How many times a tile is cut into four if its answer was truncated, because it has too many objects.
            Default 2; 0 for never.
        max_tiles: The most tiles of an image, those of splits included. Default 100.
        strict: Whether a tile that fails raises a `TilesError`, which has the merged result of the others. If False,
            that result is returned, and `result.tiles.failed` has the errors. Default True.

    Raises:
        ConfigurationError: A value is out of range.
    """

    columns: int | None = attrs.field(default=None, converter=to_python, validator=attrs.validators.optional(_whole(1)))
    rows: int | None = attrs.field(default=None, converter=to_python, validator=attrs.validators.optional(_whole(1)))
    overlap: float = attrs.field(default=0.2, kw_only=True, converter=to_python, validator=_fraction)
    whole: bool = attrs.field(default=True, kw_only=True, converter=to_python, validator=_flag)
    splits: int = attrs.field(default=2, kw_only=True, converter=to_python, validator=_whole(0))
    max_tiles: int = attrs.field(default=100, kw_only=True, converter=to_python, validator=_whole(1))
    strict: bool = attrs.field(default=True, kw_only=True, converter=to_python, validator=_flag)

    def __attrs_post_init__(self) -> None:
        if (self.columns is None) != (self.rows is None):
            raise ConfigurationError("Tiles needs both columns and rows, or neither.")
        if self.columns and self.rows and self.columns * self.rows > self.max_tiles:
            count = self.columns * self.rows
            raise ConfigurationError(f"{self.columns} x {self.rows} are {count} tiles; max_tiles is {self.max_tiles}.")

    @classmethod
    def of(cls, value: object) -> Tiles:
        """Read the argument `tiles`: `"auto"`, `(columns, rows)`, `"4x3"`, a `Tiles`, or its `to_dict()`.

        Raises:
            ConfigurationError: It is something else.
        """
        if isinstance(value, Tiles):
            return value
        if value == "auto":
            return cls()
        if isinstance(value, str) and (match := _GRID.fullmatch(value)):
            value = int(match[1]), int(match[2])
        if isinstance(value, (tuple, list)) and len(value) == 2:  # pyright: ignore[reportUnknownArgumentType]
            return cls(*value)  # pyright: ignore[reportUnknownArgumentType]
        if isinstance(value, dict) and value.keys() <= {field.name for field in attrs.fields(cls)}:
            return cls(**value)
        raise ConfigurationError(f"tiles must be 'auto', (columns, rows) or Tiles(...), not {value!r}.")

    def to_dict(self) -> dict[str, Any]:
        """Return the options as a dict, ready for `json.dumps`."""
        return attrs.asdict(self)


TilesInput: TypeAlias = Literal["auto"] | tuple[int, int] | Tiles
"""What the parameter `tiles` accepts."""


@public()
@attrs.frozen(kw_only=True)
class Plan:
    """What a call would do and cost (`client.plan(...)`). Estimated tokens are replaced by real ones in `metrics`.

    Attributes:
        calls: The number of calls: one for each label and each tile. Tiles may be split further (`Tiles.splits`).
        columns: The number of columns of tiles; 1 without tiles.
        rows: The number of rows of tiles.
        input_tokens: The estimated input tokens.
        output_tokens: The estimated output tokens, of typical answers.
        cost: The estimated cost in US dollars; None if the prices are not known.
    """

    calls: int
    columns: int = 1
    rows: int = 1
    input_tokens: int
    output_tokens: int
    cost: float | None = None
