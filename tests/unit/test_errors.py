"""Errors are plain data: they pickle, say what happened, and fit Python's own families."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import moondream_async as md
from moondream_async import errors

ERRORS: list[Any] = [
    each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, md.MoondreamError)
]


def examples() -> list[md.MoondreamError]:
    made: list[md.MoondreamError] = []
    for kind in ERRORS:
        if issubclass(kind, md.APIError):
            made.append(kind("m", status=418, code="c", request_id="r", retry_after=1.5, body={"error": "m"}))
        elif kind is md.StreamInterruptedError:
            made.append(kind("m", partial="so far"))
        else:
            made.append(kind("m"))
    return made


@pytest.mark.parametrize("error", examples(), ids=lambda e: type(e).__name__)
def test_round_trips(error: md.MoondreamError) -> None:
    error.attempts = 3
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert twin.__dict__ == error.__dict__
        assert str(twin) == str(error)
        assert twin.args == error.args


def test_families() -> None:
    assert issubclass(md.APITimeoutError, TimeoutError)
    assert issubclass(md.ImageError, ValueError)
    assert issubclass(md.ConfigurationError, ValueError)
    for kind in ERRORS:
        assert getattr(md, kind.__name__) is kind
