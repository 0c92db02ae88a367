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

from ..errors import MoondreamError
from .console import show
from .parser import parser


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
    arguments = parser().parse_args(argv)
    arguments.words = sys.argv[1:] if argv is None else argv
    code = 0
    output: Any = sys.stdout
    if isinstance(output, io.TextIOWrapper):  # file names may not be valid text
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
        # The reader of the pipe (`| head`) has exited. This is not an error, but nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())
    except OSError as exc:  # stdout cannot be written, for example because the disk is full
        show(f"moondream-async: {exc.strerror or exc}", file=sys.stderr)
        return 1
    return code
