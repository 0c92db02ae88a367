"""What is done with each item of `map`: one skill or several, its image encoded once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Protocol

from ..errors import ConfigurationError, MoondreamError
from .items import Item, read_skills

_NOT_GIVEN = ("self", "image", "stream")


class HasSkills(Protocol):
    """An `AsyncClient`; which imports this module, and so cannot be named here."""

    async def encode_image(self, image: Any) -> Any:
        """Prepare an image once."""
        ...


class SkillWork:
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

    async def __call__(self, item: Item) -> tuple[Any, int, MoondreamError | None]:
        """The result (of several skills, a dict of those there are), the requests sent, and the error if one failed."""
        results: dict[str, Any] = {}
        attempts = 0
        try:
            self._check(item.arguments, self._known)
            image = await self._shared(item.image)
            for name in self._skills:
                call = getattr(self._client, name)
                results[name] = await call(item.image if name == "segment" else image, **self._given(name, item))
                attempts += results[name].meta.attempts
        except MoondreamError as exc:
            # Of several skills, what was paid for is kept.
            return (results or None) if self.several else None, attempts + exc.attempts, exc
        return results if self.several else next(iter(results.values())), attempts, None

    async def _shared(self, image: Any) -> Any:
        """The image, encoded if several skills send the same (`segment` sends it at full resolution)."""
        return await self._client.encode_image(image) if len(self._skills.keys() - {"segment"}) > 1 else image

    def _given(self, skill: str, item: Item) -> dict[str, Any]:
        known, given = self._known[skill], self._all_given(skill, item)
        missing = [name for name, required in known.items() if required and name not in given]
        if missing:
            raise ConfigurationError(f"{skill} needs {missing[0]}=...")
        return {name: value for name, value in given.items() if name in known}

    def _all_given(self, skill: str, item: Item) -> dict[str, Any]:
        return {**self._arguments, **self._skills[skill], **item.arguments}

    def _check(self, arguments: Mapping[str, Any], known: Mapping[str, Mapping[str, bool]]) -> None:
        for name in arguments:
            if not any(name in parameters for parameters in known.values()):
                raise ConfigurationError(f"{' and '.join(known)} of map() takes no {name}=.")


def _parameters(client: HasSkills, skill: str) -> dict[str, bool]:
    """A skill's parameters but the image, and whether each has to be given."""
    parameters = inspect.signature(getattr(client, skill)).parameters
    return {
        name: parameter.default is inspect.Parameter.empty
        for name, parameter in parameters.items()
        if name not in _NOT_GIVEN
    }
