"""The command `completion`."""

from __future__ import annotations

from typing import Any

from click.shell_completion import BashComplete, FishComplete, ZshComplete

from .arguments import Arguments
from .console import show
from .names import COMPLETION, PROGRAM

_SHELLS: dict[str, Any] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


def run(arguments: Arguments) -> None:
    """Print the script of a shell."""
    from .main_group import main_group

    shell = _SHELLS[arguments.shell](main_group, {}, PROGRAM, COMPLETION)
    show(shell.source_template % shell.source_vars())
