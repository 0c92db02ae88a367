"""Mark public names, so that reprs, tracebacks, pickles and docs show the module from which users import them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T", bound=Callable[..., object])


def public(module_name: str = "") -> Callable[[T], T]:
    """Set `__module__` of a public class or function to its public module.

    Args:
        module_name: A public module of the package, such as `"vision"`. Default: the package itself.
    """
    module = f"moondream_async.{module_name}" if module_name else "moondream_async"

    def mark(value: T) -> T:
        value.__module__ = module
        return value

    return mark
