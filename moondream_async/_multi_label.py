"""Run `detect` and `point` for several labels: concurrent calls, one per label, merged into one result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

import attrs

from ._concurrency.gather import gather
from .errors import ConfigurationError
from .types import DetectResult, Meta, Metrics, PointResult, Result

R = TypeVar("R", bound=Result)

_FINISH_REASONS = ("error", "length", "stop")  # the worst first


def parse_labels(object: object) -> list[str] | None:
    """Return the labels of a list or tuple, in order and without duplicates; None if `object` is neither.

    Raises:
        ConfigurationError: The list is empty, or contains an empty string or anything but strings.
    """
    if not isinstance(object, (list, tuple)):
        return None
    labels = cast("Sequence[Any]", object)
    if not labels or not all(isinstance(label, str) and label.strip() for label in labels):
        raise ConfigurationError("object must be a label, or a list of labels, which must be non-empty strings.")
    return list(dict.fromkeys(labels))


async def detect(call: Callable[[str], Awaitable[DetectResult]], labels: Iterable[str]) -> DetectResult:
    """Detect the objects of each label; the merged result has all boxes, in the order of the labels."""
    by_label = await _call_each(call, labels)
    boxes = [attrs.evolve(box, label=label) for label, result in by_label.items() for box in result.objects]
    return DetectResult(objects=tuple(boxes), by_label=by_label, **_merge_metadata(list(by_label.values())))


async def point(call: Callable[[str], Awaitable[PointResult]], labels: Iterable[str]) -> PointResult:
    """Point at the objects of each label; the merged result has all points, in the order of the labels."""
    by_label = await _call_each(call, labels)
    points = [attrs.evolve(point, label=label) for label, result in by_label.items() for point in result.points]
    return PointResult(points=tuple(points), by_label=by_label, **_merge_metadata(list(by_label.values())))


async def _call_each(call: Callable[[str], Awaitable[R]], labels: Iterable[str]) -> dict[str, R]:
    """Return each label's result; if a call fails, cancel the others and raise its error."""
    unique = list(dict.fromkeys(labels))
    return dict(zip(unique, await gather(call, unique), strict=True))


def _merge_metadata(results: Sequence[Result]) -> dict[str, Any]:
    """Merge the fields of several results that describe the call."""
    reasons = [result.finish_reason for result in results]
    return {
        "finish_reason": next((reason for reason in _FINISH_REASONS if reason in reasons), reasons[0]),
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
