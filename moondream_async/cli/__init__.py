"""The command `moondream-async`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from ..errors import MoondreamError
from .arguments import parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code.

    0: done. 1: the call failed, with the reason on stderr. 2: wrong usage. 3: some items of a run failed. 130: Ctrl-C.
    """
    arguments = parser().parse_args(argv)
    arguments.words = sys.argv[1:] if argv is None else argv
    code = 0
    try:
        code = arguments.run(arguments) or 0
        sys.stdout.flush()
    except MoondreamError as exc:
        print(f"moondream-async: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has gone: not an error, and nothing more can be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
