"""`Outcome` is a union for type checkers, and the class that it looks like at run time."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import attrs
import pytest

import moondream_async as md
from moondream_async import bulk

OUTCOME: Any = md.Outcome  # type checkers see a union, which cannot be called
DONE = OUTCOME(0, "a.jpg", 5, None, 1, 0.5)
FAILED = OUTCOME(index=1, id="b.jpg", result=None, error=md.ImageError("no"), attempts=0, elapsed=0.1)


def test_an_outcome_is_done_or_failed() -> None:
    assert [type(each) for each in (DONE, FAILED)] == [md.Done, md.Failed]
    assert all(isinstance(each, OUTCOME) for each in (DONE, FAILED))
    assert (DONE.ok, FAILED.ok) == (True, False)
    assert (DONE.result, FAILED.result) == (5, None)
    assert bulk.Outcome is md.Outcome
    assert bulk.Done is md.Done
    match DONE:
        case md.Done(result=result):
            assert result == 5


def test_unwrap_returns_the_result_or_raises_the_error() -> None:
    assert DONE.unwrap() == 5
    with pytest.raises(md.ImageError, match="no"):
        FAILED.unwrap()


@pytest.mark.parametrize("outcome", [DONE, FAILED])
def test_copies_are_of_the_same_kind(outcome: Any) -> None:
    for other in (pickle.loads(pickle.dumps(outcome)), copy.copy(outcome), attrs.evolve(outcome, index=outcome.index)):
        assert type(other) is type(outcome)
        assert other != outcome  # they compare by identity
        assert repr(other) == repr(outcome)


def test_its_repr_is_that_of_an_outcome() -> None:
    assert repr(DONE) == "Outcome(index=0, id='a.jpg', result=5, error=None, attempts=1, elapsed=0.5)"
    assert repr(OUTCOME[int]) == "moondream_async.Outcome[int]"
