"""Failures are grouped by what differs between kinds, not between items."""

from __future__ import annotations

from moondream_async._bulk.failures import FailureGroups
from moondream_async.errors import ImageError, MoondreamError, RateLimitError, ServerError


def test_groups_ignore_ids_names_and_numbers() -> None:
    groups = FailureGroups()
    for number in range(5):
        name = f"photos/{number}.jpg"
        groups.add(name, ImageError(f"There is no file {name!r}."))
    groups.add("a", ImageError("The file is empty [a]."))
    for number in range(3):
        groups.add(number, ServerError("Not ready", status=503, request_id=f"r-{number}"))
    groups.add(9, ServerError("Not ready", status=500))
    groups.add(9, RateLimitError("Not ready", status=429))
    assert [(group.count, group.id) for group in groups.by_size()][:2] == [(5, "photos/0.jpg"), (3, 0)]
    assert len(groups.by_size()) == 5


def test_the_number_of_groups_is_bounded() -> None:
    groups = FailureGroups()
    for number in range(300):
        groups.add(0, MoondreamError("x" * number))
    by_size = groups.by_size()
    assert len(by_size) <= 101
    assert sum(group.count for group in by_size) == 300
