"""The server that a command calls: the one given, or a sandbox of its own."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from ..errors import ConfigurationError
from .arguments import Arguments


@contextmanager
def base_url_of(arguments: Arguments) -> Generator[str | None]:
    """Yield the server URL while the command runs; None means that the environment decides.

    Raises:
        ConfigurationError: Both a URL and a sandbox were requested.
    """
    if not arguments.sandbox:
        yield arguments.base_url
        return
    if arguments.base_url:
        raise ConfigurationError("--sandbox and --base-url cannot be used together.")
    from ..sandbox import Sandbox

    with Sandbox() as sandbox:
        yield sandbox.base_url
