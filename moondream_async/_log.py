"""The package's logger; MOONDREAM_LOG=info or debug prints its messages on stderr."""

from __future__ import annotations

import logging
import os

log = logging.getLogger("moondream_async")

_HANDLER = "MOONDREAM_LOG"
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO}


def print_log(level: int) -> None:
    """Print the messages of at least this level on stderr, once however often this is called."""
    if not any(handler.name == _HANDLER for handler in log.handlers):
        handler = logging.StreamHandler()
        handler.name = _HANDLER
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", "%H:%M:%S"))
        log.addHandler(handler)
    log.setLevel(level)


def _read_environment() -> None:
    value = os.getenv("MOONDREAM_LOG", "").strip().lower()
    if value in _LEVELS:
        print_log(_LEVELS[value])
    elif value:
        log.warning("MOONDREAM_LOG must be info or debug, not %r; nothing more is logged.", value)


_read_environment()
