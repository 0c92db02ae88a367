"""`detect` and `point` over several labels: one call each, side by side, merged into one result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

import attrs

from ._concurrency.gather import gather
from .errors import ConfigurationError
from .types import DetectResult, Meta, Metrics, PointResult, Result

R = TypeVar("R", bound=Result)

_WORST_FIRST = ("error", "length", "stop")


def parse_labels(object: object) -> list[str] | None:
    """The labels of a list or tuple, each once, in their order; None if `object` is neither.

    Raises:
        ConfigurationError: The list is empty, or holds something that is not text.
    """
    if not isinstance(object, (list, tuple)):
        return None
    labels = cast("Sequence[Any]", object)
    if not labels or not all(isinstance(label, str) and label.strip() for label in labels):
        raise ConfigurationError("object must be what to look for, or a list of such texts, none of them empty.")
    return list(dict.fromkeys(labels))


async def detect(call: Callable[[str], Awaitable[DetectResult]], labels: Iterable[str]) -> DetectResult:
    """All boxes, each with its label, in the order of the labels."""
    found = await _each(call, labels)
    boxes = [attrs.evolve(box, label=label) for label, result in found.items() for box in result.objects]
    return DetectResult(objects=tuple(boxes), by_label=found, **_of_all(list(found.values())))


async def point(call: Callable[[str], Awaitable[PointResult]], labels: Iterable[str]) -> PointResult:
    """All points, each with its label, in the order of the labels."""
    found = await _each(call, labels)
    points = [attrs.evolve(point, label=label) for label, result in found.items() for point in result.points]
    return PointResult(points=tuple(points), by_label=found, **_of_all(list(found.values())))


async def _each(call: Callable[[str], Awaitable[R]], labels: Iterable[str]) -> dict[str, R]:
    """What each label's call answers; the first that fails ends the others."""
    wanted = list(dict.fromkeys(labels))
    return dict(zip(wanted, await gather(call, wanted), strict=True))


def _of_all(results: Sequence[Result]) -> dict[str, Any]:
    """The fields of a result that speak of the call, for several calls."""
    reasons = [result.finish_reason for result in results]
    return {
        "finish_reason": next((reason for reason in _WORST_FIRST if reason in reasons), reasons[0]),
        "image_size": results[0].image_size,
        "metrics": _sum([result.metrics for result in results if result.metrics is not None]),
        "meta": Meta(
            status=results[0].meta.status,
            attempts=sum(result.meta.attempts for result in results),
            elapsed=max(result.meta.elapsed for result in results),
        ),
    }


def _sum(metrics: Sequence[Metrics]) -> Metrics | None:
    def total(name: str) -> Any:
        values = [getattr(each, name) for each in metrics if getattr(each, name) is not None]
        return sum(values) if values else None

    return Metrics(**{field.name: total(field.name) for field in attrs.fields(Metrics)}) if metrics else None
