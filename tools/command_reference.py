"""The page of all commands and options, from the command's parser."""

from __future__ import annotations

from collections.abc import Iterator

import click

from moondream_async._cli.app import Group
from moondream_async._cli.main_group import main_group
from moondream_async._cli.names import PROGRAM

_INTRODUCTION = """# The command

All commands and options, as `--help` prints them. [The guide](../guides/command.md) explains them by examples.
Needs the extra `cli`: `pip install 'moondream-async[cli]'`.
"""
_SHARED = ("--base-url", "--model", "--sandbox", "--quiet", "--verbose", "--version", "--help")


def command_reference() -> str:
    """Return the page as Markdown."""
    context = click.Context(main_group, info_name=PROGRAM)
    parts = [_INTRODUCTION, "## Options of all commands\n", *_options(main_group, context)]
    for title, commands in main_group.sections.items():
        parts.append(f"## {title}\n")
        for command in commands:
            parts += _command(command, context)
    return "\n".join(parts)


def _command(command: click.Command, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=command.name, parent=parent)
    yield f"### `{context.command_path.removeprefix(PROGRAM + ' ')}`\n"
    yield f"```text\n{' '.join([context.command_path, *command.collect_usage_pieces(context)])}\n```\n"
    yield _text(command.help or "") + "\n"
    yield from _options(command, context)
    if not isinstance(command, Group):
        yield from _examples(command)
    codes = getattr(command, "exit_codes", "")
    if codes:
        yield f"Exit codes: {codes}\n"
    if isinstance(command, Group):
        for sub in command.commands.values():
            yield from _command(sub, context)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    is_main = command is main_group
    rows = [
        parameter.get_help_record(context)
        for parameter in command.get_params(context)
        if isinstance(parameter, click.Option) and (is_main or parameter.opts[-1] not in _SHARED)
    ]
    if any(rows):
        yield "| Option | |\n|---|---|"
        yield from (f"| `{names}` | {_cell(text)} |" for names, text in filter(None, rows))
        yield ""


def _examples(command: click.Command) -> Iterator[str]:
    lines = "\n".join(f"{PROGRAM} {example}" for example in getattr(command, "examples", ()))
    if lines:
        yield f"```bash\n{lines}\n```\n"


def _text(text: str) -> str:
    return text.replace("\b", "").replace("{", "`{").replace("}", "}`").replace("<", "&lt;").strip()


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


if __name__ == "__main__":
    print(command_reference())
