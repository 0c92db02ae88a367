"""Mark what users import, so that reprs, tracebacks, pickles and docs name the module it is imported from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T", bound=Callable[..., object])


def public(front_door: str = "") -> Callable[[T], T]:
    """Set the module of a public class or function to its front door.

    Args:
        front_door: A public module of the package, such as `"vision"`. Default: the package itself.
    """
    module = f"moondream_async.{front_door}" if front_door else "moondream_async"

    def mark(value: T) -> T:
        value.__module__ = module
        return value

    return mark
