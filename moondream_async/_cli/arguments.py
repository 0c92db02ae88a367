"""The values of a command's options, and the link from a command to the function that runs it."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import click

from .console import set_quiet


class Arguments(SimpleNamespace):
    """The options of a command by name, and `words`: the command line that was typed."""


def calls(function: str, **fixed: Any) -> Callable[..., Any]:
    """Return a callback that imports a function of this package when its command runs, and calls it.

    Args:
        function: The module and the function, such as `"skills:skill"`. It takes `Arguments`, and returns the exit code
            or None for 0.
        fixed: Arguments that are not options.
    """
    module, name = function.split(":")

    def callback(**options: Any) -> Any:
        words: list[str] = click.get_current_context().obj
        run = getattr(importlib.import_module(f"{__package__}.{module}"), name)
        values = {
            name: list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else value
            for name, value in options.items()
        }
        if values.get("format") == "json":
            values["json"] = True
        set_quiet(bool(values.get("quiet")))
        if values.get("verbose"):
            from .._log import print_log

            print_log(logging.INFO if values["verbose"] == 1 else logging.DEBUG)
        return run(Arguments(**values, **fixed, words=words))

    return callback
