"""What is done with each item of `map`: one skill or several, its image encoded once."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Protocol

from .. import labels
from ..errors import ConfigurationError, MoondreamError
from ..net.counters import log
from ..wire import requests
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
        for name in self._skills:
            self._try(client, name)

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
        attempts = 0
        if item.problem is not None:
            return None, 0, item.problem
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
            # Of several skills, what was paid for is kept.
            return (results or None) if self.several else None, attempts + exc.attempts, exc
        except Exception as exc:  # a fault of ours, or of what the user passed: one item's all the same
            log.exception("An item failed unexpectedly.")
            error = MoondreamError(f"Unexpected {type(exc).__name__}: {exc}")
            return (results or None) if self.several else None, attempts, error
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

    def _try(self, client: HasSkills, skill: str) -> None:
        """Refuse what no item could be done with, before any is."""
        given = self._all_given(skill, Item(0, None, None, {}))
        parameters = inspect.signature(getattr(client, skill)).parameters
        values = {name: given.get(name, parameters[name].default) for name in self._known[skill]}
        asked = {**values, "stream": False} if "stream" in parameters else values
        if any(value is inspect.Parameter.empty for value in asked.values()) or values.get("question", "") is None:
            return  # the items bring it
        wanted = labels.several(asked.get("object")) if skill in ("detect", "point") else None
        for label in wanted or [""]:
            more = {"object": label} if wanted else {}
            getattr(requests, skill)(image=b"data:", model=None, **{**asked, **more})

    def _all_given(self, skill: str, item: Item) -> dict[str, Any]:
        return {**self._arguments, **self._skills[skill], **item.arguments}

    def _check(self, arguments: Mapping[str, Any], known: Mapping[str, Mapping[str, bool]]) -> None:
        for name in arguments:
            if not any(name in parameters for parameters in known.values()):
                raise ConfigurationError(f"{' and '.join(known)} takes no {name}=.")


def _parameters(client: HasSkills, skill: str) -> dict[str, bool]:
    """A skill's parameters but the image, and whether each has to be given."""
    parameters = inspect.signature(getattr(client, skill)).parameters
    return {
        name: parameter.default is inspect.Parameter.empty
        for name, parameter in parameters.items()
        if name not in _NOT_GIVEN
    }
