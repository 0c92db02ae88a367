"""Short tracebacks: users see their own line and the error, not the frames of this package.

The errors say what to do; the frames below a public method help only in this package's development. Methods that users
call set `__tracebackhide__ = True`, which IPython and pytest honor.
"""

from __future__ import annotations

import os
from typing import TypeVar

E = TypeVar("E", bound=BaseException)

FULL_TRACEBACK = "MOONDREAM_FULL_TRACEBACK"
"""The environment variable that keeps all frames."""


def shorten(exc: E) -> E:
    """Return the exception without the frames it has passed so far."""
    return exc if os.getenv(FULL_TRACEBACK) else exc.with_traceback(None)
