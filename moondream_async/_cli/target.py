"""Which server a command talks to: the one named, or a sandbox of its own."""

from __future__ import annotations

import argparse
from collections.abc import Generator
from contextlib import contextmanager

from ..errors import ConfigurationError


@contextmanager
def base_url_of(arguments: argparse.Namespace) -> Generator[str | None]:
    """The server's URL, for as long as the command lasts; None leaves it to the environment.

    Raises:
        ConfigurationError: Both a URL and a sandbox are asked for.
    """
    if not arguments.sandbox:
        yield arguments.base_url
        return
    if arguments.base_url:
        raise ConfigurationError("--sandbox and --base-url exclude each other.")
    from ..sandbox import Sandbox

    with Sandbox() as sandbox:
        yield sandbox.base_url
