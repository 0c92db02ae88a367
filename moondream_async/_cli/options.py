"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
from click import Choice, FloatRange, IntRange, Option, Parameter
from click.shell_completion import CompletionItem

from .._version import __version__

if TYPE_CHECKING:
    from ..prices import Prices

SKILLS = ("query", "caption", "detect", "point", "segment")
LENGTHS = ("short", "normal", "long")


class FileName(click.types.StringParamType):
    """A file name, which shells complete; unlike `click.Path`, it is not looked up."""

    name = "filename"

    def shell_complete(self, ctx: click.Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
        """Ask the shell for its completions of file names."""
        return [CompletionItem(incomplete, type="file")]


FILE = FileName()


class SkillOrFile(FileName):
    """The words of `run`: shells complete the first with the names of the skills, too."""

    def shell_complete(self, ctx: click.Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the completions."""
        is_first = not ctx.params.get(param.name or "")
        skills = [CompletionItem(name) for name in SKILLS if is_first and name.startswith(incomplete)]
        return [*skills, *super().shell_complete(ctx, param, incomplete)]


def _print_version(context: click.Context, _parameter: Parameter, is_set: bool) -> None:
    if is_set and not context.resilient_parsing:
        click.echo(f"moondream-async {__version__}")
        context.exit()


def _parse_prices(_context: click.Context, _parameter: Parameter, text: str | None) -> Prices | None:
    from ..errors import ConfigurationError
    from ..prices import Prices

    if text is None:
        return None
    try:
        first, second = text.split(",")
        return Prices(float(first), float(second))
    except (ValueError, ConfigurationError):
        raise click.BadParameter(f"{text!r} must be two prices, such as 0.30,2.50") from None


def _check_tiles(_context: click.Context, _parameter: Parameter, text: str | None) -> str | None:
    from ..errors import ConfigurationError
    from ..tiles import Tiles

    if text is None:
        return None
    try:
        Tiles.of(text)
    except ConfigurationError:
        raise click.BadParameter(f"{text!r} must be auto, or columns and rows such as 4x3") from None
    return text


def flag(*names: str, help: str, **options: Any) -> Option:
    """Return an option without a value."""
    return Option(names, is_flag=True, help=help, **options)


def output(formats: Sequence[str] = ("table", "json")) -> list[Parameter]:
    """Return the options for the form of the output."""
    return [
        Option(
            ["--format"],
            type=Choice(formats),
            metavar="FORMAT",
            help=f"Output: {', '.join(formats[:-1])} or {formats[-1]}; default table, for people.",
        ),
        flag("--json", help="The same as --format json."),
    ]


COMMON: list[Parameter] = [
    flag("-q", "--quiet", help="Print only results and errors."),
    Option(["-v", "--verbose"], count=True, help="Log retries and waits; -vv logs every request."),
    flag("-V", "--version", expose_value=False, is_eager=True, callback=_print_version, help="Print the version."),
]


def _only_one(_: click.Context, option: Parameter, values: tuple[str, ...]) -> str | None:
    if len(values) > 1:
        raise click.UsageError(f"{option.opts[0]} was given {len(values)} times; a command calls one server.")
    return values[0] if values else None


SERVER: list[Parameter] = [
    Option(
        ["--base-url"],
        multiple=True,
        callback=_only_one,
        metavar="URL",
        help="The server; Station is http://localhost:2020/v1.",
    ),
    Option(["--model"], metavar="MODEL", help="Model; default the server's."),
    flag("--sandbox", help="Use a local stand-in server, without a model."),
]
ANYWHERE: list[Parameter] = [
    *SERVER,
    Option(["--format"], metavar="FORMAT", help="Output format, such as table or json."),
    flag("--json", help="The same as --format json."),
    *COMMON,
]
SAMPLING: list[Parameter] = [
    Option(
        ["--temperature"], type=FloatRange(min=0), metavar="T", help="Randomness; 0 always takes the likeliest token."
    ),
    Option(["--top-p"], type=FloatRange(0, 1), metavar="P", help="Sample from the likeliest tokens with this total."),
    Option(["--max-tokens"], type=IntRange(min=1), metavar="N", help="Maximum length of the answer."),
    Option(["--max-objects"], type=IntRange(min=1), metavar="N", help="Maximum number of boxes or points."),
]
REASONING = Option(["--reasoning/--no-reasoning"], default=None, help="Turn reasoning on or off (query).")
LENGTH = Option(["--length"], type=Choice(LENGTHS), metavar="LENGTH", help="For caption: short, normal or long.")
QUESTION = Option(["--question"], metavar="TEXT", help="For query.")
OBJECTS = Option(
    ["--object"], multiple=True, metavar="TEXT", help="For detect, point, segment; repeat for several labels."
)
TILES = Option(
    ["--tiles"],
    metavar="GRID",
    callback=_check_tiles,
    help="Cut large images into tiles, to find small objects (detect, point): auto, or such as 4x3.",
)
SKILL_ARGUMENTS: list[Parameter] = [QUESTION, OBJECTS, LENGTH, REASONING, *SAMPLING]
PRICES = Option(["--prices"], metavar="IN,OUT", callback=_parse_prices, help="US dollars per million tokens.")
BUDGET: list[Parameter] = [
    Option(
        ["--max-cost"],
        type=FloatRange(min=0, min_open=True),
        metavar="USD",
        help="Start no item that could exceed this cost.",
    ),
    PRICES,
]
FPS = Option(["--fps"], type=float, metavar="N", help="Of videos: process N frames per second (extra video).")
