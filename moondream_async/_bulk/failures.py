"""Group the failures of a run by kind (pure)."""

from __future__ import annotations

import re
from typing import Any

import attrs

from ..errors import APIError, MoondreamError

_VARIABLE = re.compile(r"'[^']*'|\"[^\"]*\"|\S*\d\S*")  # the parts of a message that differ by item
_MAX_KINDS, _MAX_LENGTH = 100, 200  # groups; characters of a message that tell kinds apart

Kind = tuple[str, int | None, str]


@attrs.define
class FailureGroup:
    """Failures of the same kind.

    Attributes:
        id: The ID of the first item.
        error: Its error.
        count: The number of failures.
    """

    id: Any
    error: MoondreamError
    count: int = 0


class FailureGroups:
    """Failures by kind, with one example each; beyond 100 kinds, further ones are counted by their error's class."""

    def __init__(self) -> None:
        self._groups: dict[Kind, FailureGroup] = {}

    def add(self, item_id: Any, error: MoondreamError) -> None:
        """Count a failure."""
        kind = _kind_of(error, item_id)
        if kind not in self._groups and len(self._groups) >= _MAX_KINDS:
            kind = kind[0], None, ""
        self._groups.setdefault(kind, FailureGroup(item_id, error)).count += 1

    def by_size(self) -> list[FailureGroup]:
        """Return the groups, the largest first."""
        return sorted(self._groups.values(), key=lambda group: -group.count)


def _kind_of(error: MoondreamError, item_id: Any) -> Kind:
    status = error.status if isinstance(error, APIError) else None
    message = str(error).replace(str(item_id), "")
    return type(error).__name__, status, _VARIABLE.sub("", message)[:_MAX_LENGTH]
