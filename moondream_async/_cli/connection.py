"""The server, key and model that a command uses: those of its options, the environment, or the saved login."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import attrs

from .._printable import one_line
from .._wire.retry import describe_attempt
from ..config import DEFAULT_BASE_URL, RetryPolicy, Secret, normalise_base_url
from ..errors import ConfigurationError
from ..hooks import Hooks, RetryInfo
from . import saved_login
from .arguments import Arguments
from .console import show_note

LOGIN_SOURCE = "`moondream-async login`"
_SILENCE = 2.0  # seconds without output after which waits are shown


@attrs.frozen
class Target:
    """What a command calls.

    Attributes:
        base_url: The server; None for Moondream Cloud.
        model: The model; None for the server's default.
        saved_key: The key of the saved login, if that is used; else None, and the library reads the environment.
        uses_login: Whether the saved login is used.
    """

    base_url: str | None
    model: str | None
    saved_key: Secret | None = None
    uses_login: bool = False

    @property
    def server(self) -> str:
        """The server's URL, ending in `/v1`."""
        return normalise_base_url(self.base_url) if self.base_url else DEFAULT_BASE_URL


def find_target(arguments: Arguments) -> Target:
    """Combine options, environment and saved login, in this order.

    The saved login is used as a whole: not with a key of the environment, and not with another server.

    Raises:
        ConfigurationError: The URL is not usable, or the saved login cannot be read.
    """
    base_url = arguments.base_url or os.getenv("MOONDREAM_BASE_URL") or os.getenv("MOONDREAM_ENDPOINT") or None
    model = arguments.model or os.getenv("MOONDREAM_MODEL") or None
    if os.getenv("MOONDREAM_API_KEY"):
        return Target(base_url, model)
    login = saved_login.read()
    if login is None or (base_url and normalise_base_url(base_url) != normalise_base_url(login.base_url)):
        return Target(base_url, model)
    key = None if login.api_key is None else Secret(login.api_key, LOGIN_SOURCE)
    return Target(login.base_url, model or login.model, key, uses_login=True)


@contextmanager
def connection(arguments: Arguments, **options: Any) -> Generator[dict[str, Any]]:
    """Yield the arguments of a client. With `--sandbox`, a sandbox runs as long as the context is open.

    Args:
        arguments: The command's options.
        options: More arguments of the client.

    Raises:
        ConfigurationError: Both a URL and a sandbox were requested, or as in `find_target`.
    """
    options = {"hooks": Hooks(retry=show_wait), **options}
    if not arguments.sandbox:
        target = find_target(arguments)
        yield {"api_key": target.saved_key, "base_url": target.base_url, "model": target.model, **options}
        return
    if arguments.base_url:
        raise ConfigurationError("--sandbox and --base-url cannot be used together.")
    from ..sandbox import Sandbox

    with Sandbox() as sandbox:
        yield {"base_url": sandbox.base_url, "model": arguments.model, **options}


def show_wait(wait: RetryInfo) -> None:
    """Show that a call waits for its next attempt, if it has taken long or will."""
    if time.time() - wait.call.started + wait.delay >= _SILENCE:
        show_note(describe_wait(wait))


def describe_wait(wait: RetryInfo) -> str:
    """Say how long a call waits, for which attempt, and why."""
    next_attempt = describe_attempt(wait.attempt + 1, RetryPolicy().attempts, wait.error)
    return f"waiting {wait.delay:.1f} s before {next_attempt}: {one_line(wait.error)}"
