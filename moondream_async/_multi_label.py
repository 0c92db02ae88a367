"""Run `detect` and `point` for several labels: concurrent calls, one per label, merged into one result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import attrs

from ._concurrency.gather import gather
from ._wire.checks import is_sequence
from ._wire.skills import Skill
from .errors import ConfigurationError
from .types import Meta, Metrics, Result

R = TypeVar("R", bound=Result)

_FINISH_REASONS = ("error", "length", "stop")  # the worst first


def parse_labels(object: object) -> list[str] | None:
    """Return the labels of a list or tuple, in order and without duplicates; None if `object` is neither.

    Raises:
        ConfigurationError: The list is empty, or contains an empty string or anything but strings.
    """
    if not is_sequence(object):
        return None
    if not object or not all(isinstance(label, str) and label.strip() for label in object):
        raise ConfigurationError("object must be a label, or a list of labels, which must be non-empty strings.")
    return list(dict.fromkeys(object))


async def for_each_label(skill: Skill[R], call: Callable[[str], Awaitable[R]], labels: Sequence[str]) -> R:
    """Return the merged result of one call per label: all boxes or points, each with its label, in label order.

    Args:
        skill: `detect` or `point`.
        call: Calls the skill for one label.
        labels: The labels, without duplicates.
    """
    results = await gather(call, labels)
    return merge_labels(skill, dict(zip(labels, results, strict=True)))


def merge_labels(skill: Skill[R], by_label: Mapping[str, R]) -> R:
    """Return the merged result of the results by label."""
    items = tuple(
        attrs.evolve(item, label=label) for label, result in by_label.items() for item in getattr(result, skill.field)
    )
    results = list(by_label.values())
    merged: dict[str, Any] = {skill.field: items, "by_label": by_label, **merge_metadata(results)}
    return type(results[0])(**merged)


def merge_metadata(results: Sequence[Result]) -> dict[str, Any]:
    """Merge the fields of several results that describe the call."""
    reasons = [result.finish_reason for result in results]
    return {
        "finish_reason": next((reason for reason in _FINISH_REASONS if reason in reasons), reasons[0]),
        "image_size": results[0].image_size,
        "metrics": _sum([result.metrics for result in results if result.metrics is not None]),
        "meta": Meta(
            status=results[0].meta.status,
            attempts=max(result.meta.attempts for result in results),
            elapsed=max(result.meta.elapsed for result in results),
            cached=all(result.meta.cached for result in results),
        ),
    }


def _sum(metrics: Sequence[Metrics]) -> Metrics | None:
    def total(name: str) -> Any:
        values = [getattr(each, name) for each in metrics if getattr(each, name) is not None]
        return sum(values) if values else None

    return Metrics(**{field.name: total(field.name) for field in attrs.fields(Metrics)}) if metrics else None
