"""The options of `map` and `run`, for type checkers: the overloads for each skill share them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from .._progress.reporter import ProgressOption
    from ..prices import Prices


class CommonOptions(TypedDict, total=False):
    """The options that `map` and `run` have in common; documented there."""

    concurrency: int
    max_failures: int | None
    stop_on_auth_error: bool
    max_connection_failures: int | None
    max_cost: float | None
    prices: Prices | None
    progress: ProgressOption
    extra_body: Mapping[str, Any] | None


class MapOptions(CommonOptions, total=False):
    """The options of `map`."""

    ordered: bool


class RunOptions(CommonOptions, total=False):
    """The options of `run`."""

    resume: bool
    retry_failed: bool
