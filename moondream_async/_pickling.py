"""Pickle clients without the key and the connections: each process reads its own key and opens its own connections."""

from __future__ import annotations

import os
import pickle
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Self, TypeVar

import attrs

from ._hidden import is_credential
from .config import Secret
from .errors import ConfigurationError
from .hooks import Hooks

T = TypeVar("T")

_OTHER_PICKLERS = ("cloudpickle", "dill")  # they can pickle functions that `pickle` cannot


@attrs.frozen
class Recipe:
    """How to recreate a client in another process.

    Attributes:
        options: The constructor's arguments, without the key.
        key_name: The name of the argument for the key.
        variable: The environment variable with the key.
        had_key: Whether the client had a key.
    """

    options: dict[str, Any]
    key_name: str
    variable: str
    had_key: bool


def recipe_of(
    options: Mapping[str, Any], secret: Secret | None, *, key_name: str = "api_key", variable: str = "MOONDREAM_API_KEY"
) -> Recipe:
    """Return how to recreate a client.

    Args:
        options: The constructor's arguments, without the key.
        secret: The key. Only a function that returns it is pickled.
        key_name: The name of the argument for the key.
        variable: The environment variable with the key.

    Raises:
        ConfigurationError: An option cannot be pickled, or must not be.
    """
    if options.get("http_client") is not None:
        raise ConfigurationError("A client with http_client= cannot be pickled: make the client in each process.")
    headers: Mapping[str, str] = options.get("headers") or {}
    if names := [name for name in headers if is_credential(name)]:
        raise ConfigurationError(
            f"The header {names[0]!r} holds a credential: set it in each process, not in a pickle."
        )
    _check_hooks(options.get("hooks") or ())
    known = dict(options)
    if secret is not None and secret.provider is not None:
        _check("api_key", secret.provider)
        known[key_name] = secret.provider
    return Recipe(known, key_name, variable, secret is not None)


class Picklable:
    """Base class of the clients. A copy shares the connections, as `with_options` does."""

    def __reduce__(self) -> tuple[Any, ...]:
        return restore, (type(self), self._recipe())

    def __copy__(self) -> Self:
        clone = object.__new__(type(self))
        clone.__dict__.update(self.__dict__)
        return clone

    def __deepcopy__(self, _: object) -> Self:
        return self.__copy__()

    def _recipe(self) -> Recipe:
        raise NotImplementedError


def restore(kind: type[T], recipe: Recipe) -> T:
    """Recreate a client.

    Raises:
        ConfigurationError: This process has no key.
    """
    if recipe.had_key and recipe.key_name not in recipe.options and not os.getenv(recipe.variable):
        raise ConfigurationError(
            f"The client was unpickled in process {os.getpid()} on {platform.node()}, whose environment has no "
            f"{recipe.variable}. Set it there, or pass a function as {recipe.key_name}=: each process calls it."
        )
    return kind(**recipe.options)


def _check_hooks(hooks: Sequence[Hooks]) -> None:
    for each in hooks:
        for field in attrs.fields(Hooks):
            function = getattr(each, field.name)
            if function is not None:
                _check(f"hooks.{field.name}", function)


def _check(name: str, value: object) -> None:
    """Raise for a value that cannot be pickled, which `pickle` itself would not name."""
    if any(module in sys.modules for module in _OTHER_PICKLERS):
        return
    try:
        pickle.dumps(value)
    except Exception as exc:  # pickle raises many kinds
        problem = str(exc)
    else:
        return
    raise ConfigurationError(
        f"{name} cannot be pickled: {problem}. Use a function defined at the top level of a module."
    )
