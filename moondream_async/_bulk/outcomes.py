"""`Outcome`: the result of one item, or its error.

For type checkers, `Outcome[R]` is the union `Done[R] | Failed`, so that `outcome.result` is an `R` without a check for
None. At run time, `Outcome` is the base class of both, and `Outcome(...)` makes one of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Literal, Never, NoReturn, Self, TypeAlias, TypeVar, cast, final

import attrs

from .._html import table
from .._public import public
from ..errors import MoondreamError

R = TypeVar("R")


@public()
@attrs.frozen(eq=False, repr=False)
class AnyOutcome(Generic[R]):
    """The outcome of one item: its result (`Done`) or its error (`Failed`).

    Attributes:
        index: The item's position, from 0.
        id: The ID from the item, or else its path or URL, or else its index.
        result: The typed result; None if the item failed. For several skills, a dict of results by skill, which also
            holds the completed ones if another skill failed.
        error: The error if the item failed; else None.
        attempts: The number of requests sent; for a list of labels, the most of one label.
        elapsed: Seconds spent on the item.
    """

    index: int
    id: Any
    result: R | None
    error: MoondreamError | None
    attempts: int
    elapsed: float

    def __new__(cls, index: int = 0, id: Any = None, result: Any = None, error: Any = None, *_: Any, **__: Any) -> Self:
        kind = (Done if error is None else Failed) if cls is AnyOutcome else cls
        return cast("Self", object.__new__(kind))

    @property
    def ok(self) -> bool:
        """Whether the item succeeded."""
        return self.error is None

    def unwrap(self) -> R:
        """Return the result, or raise the item's error if it failed."""
        if self.error is not None:
            raise self.error
        return cast("R", self.result)

    def __repr__(self) -> str:
        values = (f"{field.name}={getattr(self, field.name)!r}" for field in attrs.fields(AnyOutcome))
        return f"Outcome({', '.join(values)})"

    def __str__(self) -> str:
        return f"{self.id}: {'; '.join(_describe(self))}"

    def _repr_html_(self) -> str | None:
        try:
            rows = [(self.id, text, self.attempts, f"{self.elapsed:.2f}") for text in _describe(self)]
            return table(("id", "result", "attempts", "seconds"), rows)
        except Exception:  # an ID may be any object; the notebook then shows the repr
            return None


@final
@public()
@attrs.frozen(eq=False, repr=False)
class Done(AnyOutcome[R]):
    """The outcome of an item that succeeded. Attributes as in `Outcome`; `error` is None."""

    if TYPE_CHECKING:

        @property
        def ok(self) -> Literal[True]: ...

        result: R

        error: Any  # None; pyright does not narrow by `ok`, and would reject `outcome.error.message`


@final
@public()
@attrs.frozen(eq=False, repr=False)
class Failed(AnyOutcome[Never]):
    """The outcome of an item that failed. Attributes as in `Outcome`; `unwrap()` raises `error`."""

    if TYPE_CHECKING:

        @property
        def ok(self) -> Literal[False]: ...

        result: Never

        error: MoondreamError

        def unwrap(self) -> NoReturn: ...


if TYPE_CHECKING:
    Outcome: TypeAlias = Done[R] | Failed
else:
    Outcome = AnyOutcome
    Outcome.__name__ = Outcome.__qualname__ = "Outcome"


def _describe(outcome: AnyOutcome[Any]) -> list[str]:
    """Return the result in a few words, of several skills one text each, and the error if the item failed."""
    result: Any = outcome.result
    if isinstance(result, dict):
        results = cast("dict[str, Any]", result)
        texts = [f"{skill}: {each}" for skill, each in results.items()]
    else:
        texts = [] if result is None else [str(result)]
    error = outcome.error
    return texts if error is None else [*texts, f"{type(error).__name__}: {error}"]


def make_outcome(
    index: int, id: Any, result: Any, error: MoondreamError | None, attempts: int, elapsed: float
) -> Outcome[Any]:
    """Return `Done`, or `Failed` if there is an error."""
    return cast("Outcome[Any]", AnyOutcome[Any](index, id, result, error, attempts, elapsed))
