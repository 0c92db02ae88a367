"""What is done with each item of `map`: one skill or several, its image encoded once."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol, TypeAlias, cast

from .. import _multi_label
from .._images.source_names import with_item
from .._log import log
from .._wire import requests
from ..errors import ConfigurationError, MoondreamError
from .budget import Budget
from .items import Item, read_item, read_skills
from .map import numbered

Items: TypeAlias = Iterable[Any] | AsyncIterable[Any]

REQUIRED = {"query": "question", "detect": "object", "point": "object", "segment": "object"}
"""What a skill cannot do without, besides the image."""

_NOT_GIVEN = ("self", "image", "stream")


class HasSkills(Protocol):
    """An `AsyncClient`; which imports this module, and so cannot be named here."""

    async def encode_image(self, image: Any) -> Any:
        """Prepare an image once."""
        ...


class SkillRunner:
    """Calls the skills of one client.

    Args:
        client: Makes the calls.
        skills: As `map` takes them.
        arguments: For every item, each for the skills that know it.

    Raises:
        ConfigurationError: A skill or an argument is unknown.
    """

    def __init__(self, client: HasSkills, skills: object, arguments: Mapping[str, Any]) -> None:
        self._client = client
        self._skills = read_skills(skills)
        self.several = len(self._skills) > 1 or not isinstance(skills, str)
        self._known = {name: _parameters(client, name) for name in self._skills}
        self._arguments = arguments
        for name, own in self._skills.items():
            self._check(own, {name: self._known[name]})
        self._check(arguments, self._known)
        for name in self._skills:
            self._try(client, name)
        self.budget: Budget | None = None

    @property
    def calls(self) -> dict[str, dict[str, Any]]:
        """What each skill is given for an item that brings no arguments of its own."""
        return self.arguments_of(Item(0, None, None, {}))

    def checked(self, items: Items) -> Items:
        """Return the items, checked as far as they can be before the first call.

        Raises:
            ConfigurationError: A skill lacks an argument, and no item brings it; of an iterator, the first item is
                looked at when it is taken.
        """
        calls = self.calls
        missing = [
            (name, REQUIRED[name]) for name in calls.keys() & REQUIRED if calls[name].get(REQUIRED[name]) is None
        ]
        if not missing:
            return items
        if not isinstance(items, (list, tuple)):
            return self._first_checked(items)
        if not any(_brings_arguments(item) for item in cast("Sequence[Any]", items)):
            raise _lacking(*missing[0])
        return items

    async def _first_checked(self, items: Items) -> AsyncGenerator[Any]:
        async with aclosing(numbered(items)) as taken:
            async for index, raw in taken:
                if index == 0:
                    item = read_item(index, raw)
                    for name in self._skills:
                        self._given(name, item)
                yield raw

    @property
    def task(self) -> list[Any]:
        """What is asked about every item: tells runs apart."""
        return [self._skills, self._arguments]

    def arguments_of(self, item: Item) -> dict[str, dict[str, Any]]:
        """What each skill is given for an item, its image apart."""
        return {
            name: {argument: value for argument, value in self._all_given(name, item).items() if argument in known}
            for name, known in self._known.items()
        }

    async def __call__(
        self, item: Item, done: Mapping[str, Any] | None = None
    ) -> tuple[Any, int, MoondreamError | None]:
        """The result (of several skills, a dict of those there are), the requests sent, and the error if one failed.

        Args:
            item: What to do.
            done: Results by skill that there are already.
        """
        results: dict[str, Any] = dict(done or {})
        attempts, error = await self._ask_all(item, results)
        if self.budget is not None:
            new = (result for name, result in results.items() if name not in (done or {}))
            self.budget.spend(result.metrics for result in new if result.metrics is not None)
        if self.several:
            return results or None, attempts, error  # what was paid for is kept, even beside an error
        return next(iter(results.values()), None), attempts, error

    async def _ask_all(self, item: Item, results: dict[str, Any]) -> tuple[int, MoondreamError | None]:
        """Call the skills that have no result yet; return the requests sent, and the error if one failed."""
        attempts = 0
        if item.problem is not None:
            return 0, item.problem
        try:
            self._check(item.arguments, self._known)
            image = await self._shared(item.image)
            for name in self._skills:
                if name in results:
                    continue
                call = getattr(self._client, name)
                results[name] = await call(item.image if name == "segment" else image, **self._given(name, item))
                attempts += results[name].meta.attempts
        except MoondreamError as exc:
            return attempts + exc.attempts, with_item(exc, item.id)
        except Exception as exc:  # a fault of ours, or of what the user passed: one item's all the same
            log.exception("An item failed unexpectedly.")
            return attempts, MoondreamError(f"Unexpected {type(exc).__name__}: {exc}")
        return attempts, None

    async def _shared(self, image: Any) -> Any:
        """The image, encoded if several skills send the same (`segment` sends it at full resolution)."""
        return await self._client.encode_image(image) if len(self._skills.keys() - {"segment"}) > 1 else image

    def _given(self, skill: str, item: Item) -> dict[str, Any]:
        known, given = self._known[skill], self._all_given(skill, item)
        required = REQUIRED.get(skill)
        if required is not None and given.get(required) is None:
            raise _lacking(skill, required)
        return {name: value for name, value in given.items() if name in known}

    def _try(self, client: HasSkills, skill: str) -> None:
        """Refuse what no item could be done with, before any is."""
        given = self._all_given(skill, Item(0, None, None, {}))
        parameters = inspect.signature(getattr(client, skill)).parameters
        values = {name: given.get(name, parameters[name].default) for name in self._known[skill]}
        asked = {**values, "stream": False} if "stream" in parameters else values
        if any(value is inspect.Parameter.empty for value in asked.values()) or values.get("question", "") is None:
            return  # the items bring it
        wanted = _multi_label.parse_labels(asked.get("object")) if skill in ("detect", "point") else None
        for label in wanted or [""]:
            more = {"object": label} if wanted else {}
            getattr(requests, skill)(image=b"data:", model=None, **{**asked, **more})

    def _all_given(self, skill: str, item: Item) -> dict[str, Any]:
        return {**self._arguments, **self._skills[skill], **item.arguments}

    def _check(self, arguments: Mapping[str, Any], known: Mapping[str, Mapping[str, bool]]) -> None:
        for name in arguments:
            if not any(name in parameters for parameters in known.values()):
                raise ConfigurationError(f"{' and '.join(known)} takes no {name}=.")


def _lacking(skill: str, argument: str) -> ConfigurationError:
    return ConfigurationError(
        f"{skill} needs {argument}=..., for all items or with each: (id, image, {{{argument!r}: ...}})."
    )


def _brings_arguments(item: object) -> bool:
    return isinstance(item, Item) or (isinstance(item, tuple) and len(cast("tuple[Any, ...]", item)) == 3)


def _parameters(client: HasSkills, skill: str) -> dict[str, bool]:
    """A skill's parameters but the image, and whether each has to be given."""
    parameters = inspect.signature(getattr(client, skill)).parameters
    return {
        name: parameter.default is inspect.Parameter.empty
        for name, parameter in parameters.items()
        if name not in _NOT_GIVEN
    }
