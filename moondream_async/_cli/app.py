"""The commands in their groups, and their help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from .console import bold
from .names import PROGRAM

_WIDTH = 100  # characters of a summary
_ANYWHERE = ("--base-url", "--model", "--sandbox", "--quiet", "--verbose", "--version", "--help")


class _Formatter(click.HelpFormatter):
    def write_heading(self, heading: str) -> None:
        super().write_heading(bold(heading))

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(prog, args, bold("Usage:") + " " if prefix is None else prefix)


class _Context(click.Context):
    formatter_class = _Formatter


class Command(click.Command):
    """A command with examples at the end of its help.

    Args:
        examples: Command lines, without the program's name.
        exit_codes: What the exit codes mean, if not just 0, 1 and 2.
        options: As in `click.Command`.
    """

    context_class = _Context

    def __init__(self, *args: Any, examples: Sequence[str], exit_codes: str = "", **options: Any) -> None:
        super().__init__(*args, **options)
        self.examples, self.exit_codes = examples, exit_codes

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, and then those that work before the command, too."""
        own: list[tuple[str, str]] = []
        anywhere: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            row = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if row is not None:
                (anywhere if parameter.opts[-1] in _ANYWHERE else own).append(row)
        for title, rows in (("Options", own), ("Anywhere", anywhere)):
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples and exit codes."""
        _write_examples(self.examples, formatter)
        if self.exit_codes:
            with formatter.section("Exit codes"):
                formatter.write_text(self.exit_codes)


class Group(click.Group):
    """A group of commands, which may be preceded by the options of its commands.

    `moondream-async --model m caption a.jpg` is read as `moondream-async caption --model m a.jpg`.

    Args:
        sections: The commands by the heading of their section in the help.
        examples: Command lines, without the program's name.
        exit_codes: As in `Command`.
        options: As in `click.Group`.
    """

    context_class = _Context

    def __init__(
        self,
        name: str,
        *,
        sections: dict[str, Sequence[click.Command]],
        examples: Sequence[str],
        exit_codes: str = "",
        **options: Any,
    ) -> None:
        commands = {str(command.name): command for section in sections.values() for command in section}
        super().__init__(name, commands=commands, **options)
        self.sections, self.examples, self.exit_codes = sections, examples, exit_codes

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands in the order of the sections."""
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Move the options before the command behind its name, so that the command reads and checks them."""
        parser = self.make_parser(ctx)
        parser.ignore_unknown_options = ctx.resilient_parsing
        options, rest, _ = parser.parse_args(list(args))
        if rest and not options.get("help"):
            before = [word for word in args[: len(args) - len(rest)] if word != "--"]
            args = [rest[0], *before, *rest[1:]]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands by section."""
        width = max(map(len, self.commands))
        for title, commands in self.sections.items():
            with formatter.section(title):
                rows = [(str(command.name).ljust(width), command.get_short_help_str(_WIDTH)) for command in commands]
                formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the epilog, the examples and the exit codes."""
        super().format_epilog(ctx, formatter)
        Command.format_epilog(self, ctx, formatter)  # type: ignore[arg-type]


def _write_examples(examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    with formatter.section("Examples"):
        for example in examples:
            formatter.write(f"{'':>{formatter.current_indent}}{PROGRAM} {example}\n")
