"""The `moondream-async` command."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .._extras import import_extra
from ..errors import MoondreamError
from .console import show, show_error
from .names import COMPLETION, PROGRAM

_WORDS = {"help": "--help", "version": "--version"}


def _flush() -> None:
    output: Any = sys.stdout
    if output is not None:  # None if stdout was closed
        output.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    0: success. 1: the call failed; stderr says why. 2: usage error. 3: some items of a run failed. 130: Ctrl-C.
    """
    with _standard_streams():
        return _main(argv)


@contextmanager
def _standard_streams() -> Generator[None]:
    """Replace closed standard streams with the null device, so that their text goes nowhere else."""
    _occupy_low_descriptors()
    output: Any = sys.stdout
    errors: Any = sys.stderr
    with Path(os.devnull).open("w", encoding="utf-8") as null:
        sys.stdout, sys.stderr = output or null, errors or null
        try:
            yield
        finally:
            sys.stdout, sys.stderr = output, errors


def _occupy_low_descriptors() -> None:
    """Occupy descriptors 0 to 2 if they are closed: uvloop aborts when it closes a socket with such a number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _main(argv: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    output: Any = sys.stdout
    if isinstance(output, io.TextIOWrapper):  # file names may not be valid text
        output.reconfigure(errors="backslashreplace")
    try:
        code = _invoke(words)
        _flush()
    except MoondreamError as exc:
        show_error(exc)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of the pipe (`| head`) has exited. This is not an error, but nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
        return 0
    except OSError as exc:  # stdout cannot be written, for example because the disk is full
        show_error(str(exc.strerror or exc))
        return 1
    return code


def _invoke(words: list[str]) -> int:
    """Run the command that the words name and return its exit code; a usage error exits with code 2."""
    if words and words[0] in _WORDS:  # `help run` is `run --help`
        words = [*words[1:], _WORDS[words[0]]]
    import_extra("click", "cli", "The command")
    import click

    from .main_group import main_group

    if instruction := os.environ.get(COMPLETION):
        from click.shell_completion import shell_complete

        return shell_complete(main_group, {}, PROGRAM, COMPLETION, instruction)
    try:
        with main_group.make_context(PROGRAM, words or ["--help"], obj=words) as context:
            code: int | None = main_group.invoke(context)
            return code or 0
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.exceptions.NoArgsIsHelpError as exc:
        show(exc.format_message(), file=sys.stderr)
        sys.exit(exc.exit_code)
    except click.ClickException as exc:
        usage = getattr(exc, "ctx", None)
        if usage is not None:
            show(f"{usage.get_usage()}\nTry '{usage.command_path} --help' for help.\n", file=sys.stderr)
        show(f"Error: {exc.format_message()}", file=sys.stderr)
        sys.exit(exc.exit_code)
