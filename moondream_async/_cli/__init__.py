"""The command `moondream-async`."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import MoondreamError
from .console import show
from .parser import parser


def _flush() -> None:
    output: Any = sys.stdout
    if output is not None:  # it can be closed
        output.flush()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code.

    0: done. 1: the call failed, with the reason on stderr. 2: wrong usage. 3: some items of a run failed. 130: Ctrl-C.
    """
    with _standard_streams():
        return _main(argv)


@contextmanager
def _standard_streams() -> Generator[None]:
    """Put something in the place of an output that was closed: its text is not to go to the other one."""
    _occupy_low_descriptors()
    output: Any = sys.stdout
    errors: Any = sys.stderr
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        sys.stdout, sys.stderr = output or nowhere, errors or nowhere
        try:
            yield
        finally:
            sys.stdout, sys.stderr = output, errors


def _occupy_low_descriptors() -> None:
    """Keep sockets from getting the numbers of closed standard streams: uvloop aborts when it closes such a socket."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _main(argv: Sequence[str] | None) -> int:
    arguments = parser().parse_args(argv)
    arguments.words = sys.argv[1:] if argv is None else argv
    code = 0
    output: Any = sys.stdout
    if isinstance(output, io.TextIOWrapper):  # file names need not be text
        output.reconfigure(errors="backslashreplace")
    try:
        code = arguments.run(arguments) or 0
        _flush()
    except MoondreamError as exc:
        show(f"moondream-async: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has gone: not an error, and nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
    except OSError as exc:  # what is printed cannot be written: the disk is full
        show(f"moondream-async: {exc.strerror or exc}", file=sys.stderr)
        return 1
    return code
