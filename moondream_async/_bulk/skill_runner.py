"""Call the skills of `map` and `run` for each item: one or several, with the image encoded once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias, cast

from .. import _multi_label
from .._api import ApiClient
from .._images.image_source import remember
from .._images.source_names import with_item
from .._log import log
from .._wire.skills import SKILLS, Skill, to_json
from ..errors import ConfigurationError, MoondreamError
from ..models import check_skill
from .budget import Budget
from .items import Item, read_item, read_skills
from .map import numbered
from .records import metrics_of

Items: TypeAlias = Iterable[Any] | AsyncIterable[Any]


class SkillRunner:
    """Calls the skills of one client.

    Args:
        api: Sends the requests.
        skills: As `map` takes them.
        arguments: For all items and skills; a skill gets those that it knows.

    Attributes:
        several: Whether results are dicts by skill.
        budget: The limit on the cost of all calls; None for no limit.

    Raises:
        ConfigurationError: A skill or an argument is unknown, an argument is invalid, or the model lacks a skill.
    """

    def __init__(self, api: ApiClient, skills: object, arguments: Mapping[str, Any]) -> None:
        self._api = api
        self._own = read_skills(skills)
        self._skills = [SKILLS[name] for name in self._own]
        self.several = len(self._skills) > 1 or not isinstance(skills, str)
        self._arguments = arguments
        self.budget: Budget | None = None
        for skill in self._skills:
            _check_names(self._own[skill.name], [skill])
        _check_names(arguments, self._skills)
        for skill in self._skills:
            _check_values(skill, self._all_arguments(skill, {}))
            check_skill(skill.name, api.model)

    @property
    def calls(self) -> dict[str, dict[str, Any]]:
        """The arguments of each skill for an item without arguments of its own."""
        return self.arguments_of(Item(0, None, None, {}))

    @property
    def task(self) -> list[Any]:
        """The skills and arguments for all items; they tell runs apart."""
        return [self._own, self._arguments]

    def checked(self, items: Items) -> Items:
        """Return the items, checked as far as possible before the first call.

        Raises:
            ConfigurationError: A skill lacks a required argument, and no item brings it. If the items are an
                iterator, only its first item is checked, when it is taken.
        """
        lacking = [skill for skill in self._skills if _lacks_required(skill, self._all_arguments(skill, {}))]
        if not lacking:
            return items
        if not isinstance(items, (list, tuple)):
            return self._check_first(items)
        if not any(_brings_arguments(item) for item in cast("Sequence[Any]", items)):
            raise _missing(lacking[0])
        return items

    def arguments_of(self, item: Item) -> dict[str, dict[str, Any]]:
        """Return the arguments of each skill for an item, without its image."""
        return {skill.name: _known(skill, self._all_arguments(skill, item.arguments)) for skill in self._skills}

    async def __call__(
        self, item: Item, done: Mapping[str, Any] | None = None
    ) -> tuple[Any, int, MoondreamError | None]:
        """Call the skills for an item.

        Args:
            item: The item.
            done: Results by skill that are known already.

        Returns:
            The result (a dict by skill if there are several), the number of requests, and the error if one failed.
        """
        results: dict[str, Any] = dict(done or {})
        attempts, error = await self._call_all(item, results)
        if self.budget is not None:
            new = ((name, result) for name, result in results.items() if name not in (done or {}))
            self.budget.spend(metrics_of(dict(new)))
        if self.several:
            return results or None, attempts, error  # results that were paid for are kept, even with an error
        return next(iter(results.values()), None), attempts, error

    async def _check_first(self, items: Items) -> AsyncGenerator[Any]:
        """Yield the items; check that the first has all required arguments."""
        async with aclosing(numbered(items)) as taken:
            async for index, raw in taken:
                if index == 0:
                    item = read_item(index, raw)
                    for skill in self._skills:
                        self._arguments_for(skill, item)
                yield raw

    async def _call_all(self, item: Item, results: dict[str, Any]) -> tuple[int, MoondreamError | None]:
        """Call the skills that have no result yet; return the number of requests, and the error if one failed."""
        attempts = 0
        if item.problem is not None:
            return 0, item.problem
        try:
            _check_names(item.arguments, self._skills)
            shared = await self._encode_shared(item.image)
            for skill in self._skills:
                if skill.name in results:
                    continue
                arguments = self._arguments_for(skill, item)
                takes_original = skill.full_resolution or arguments.get("tiles") is not None
                image = item.image if takes_original else shared
                result = await self._api.request(skill, image, arguments)
                results[skill.name] = remember(result, self._api.source_of(item.image))
                attempts += result.meta.attempts
        except MoondreamError as exc:
            return attempts + exc.attempts, with_item(exc, item.id)
        except Exception as exc:  # a bug here, or in the user's object: it fails one item, not the run
            log.exception("An item failed unexpectedly.")
            return attempts, MoondreamError(f"Unexpected {type(exc).__name__}: {exc}")
        return attempts, None

    async def _encode_shared(self, image: Any) -> Any:
        """Return the image, encoded if several skills send the same; `segment` sends it at full resolution."""
        shared = [skill for skill in self._skills if not skill.full_resolution]
        return await self._api.encode_image(image) if len(shared) > 1 else image

    def _arguments_for(self, skill: Skill[Any], item: Item) -> dict[str, Any]:
        """Return the arguments of a call.

        Raises:
            ConfigurationError: The required one is missing.
        """
        arguments = self._all_arguments(skill, item.arguments)
        if _lacks_required(skill, arguments):
            raise _missing(skill)
        return {**skill.defaults, **{name: arguments[name] for name in skill.parameters if name in arguments}}

    def _all_arguments(self, skill: Skill[Any], own: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments for all items, those of the skill, and an item's own; the last ones win."""
        return {**self._arguments, **self._own[skill.name], **own}


def _known(skill: Skill[Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the arguments that the skill takes."""
    return {name: value for name, value in arguments.items() if name in skill.parameters}


def _lacks_required(skill: Skill[Any], arguments: Mapping[str, Any]) -> bool:
    return skill.required is not None and arguments.get(skill.required) is None


def _missing(skill: Skill[Any]) -> ConfigurationError:
    argument = skill.required
    return ConfigurationError(
        f"{skill.name} needs {argument}=..., for all items or with each: (id, image, {{{argument!r}: ...}})."
    )


def _brings_arguments(item: object) -> bool:
    return isinstance(item, Item) or (isinstance(item, tuple) and len(cast("tuple[Any, ...]", item)) == 3)


def _check_names(arguments: Mapping[str, Any], skills: Sequence[Skill[Any]]) -> None:
    for name in arguments:
        if not any(name in skill.parameters for skill in skills):
            raise ConfigurationError(f"{' and '.join(skill.name for skill in skills)} takes no {name}=.")


def _check_values(skill: Skill[Any], arguments: Mapping[str, Any]) -> None:
    """Raise for values that no call could be made with."""
    known = _known(skill, arguments)
    labels: Sequence[Any] | None = _multi_label.parse_labels(known.get("object")) if skill.takes_labels else None
    for label in [known.get("object")] if labels is None else labels:
        to_json(skill.check({**known, "object": label} if "object" in known else known, complete=False))
