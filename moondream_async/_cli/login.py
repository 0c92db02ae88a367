"""The command `login`."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from .._hidden import HiddenStr
from .._printable import one_line
from .._sync.client import Client
from ..config import DEFAULT_BASE_URL, KEYS_URL, Secret, Timeouts, check_model, normalise_base_url
from ..errors import APIConnectionError, AuthenticationError, ConfigurationError, MoondreamError
from . import saved_login
from .arguments import Arguments
from .connection import LOGIN_SOURCE
from .console import show, show_note
from .saved_login import SavedLogin

_SOURCE = "your input"
_NOT_SAVED = "Nothing was saved; to save without a check, add --no-check."
_OVERRIDES = {
    "MOONDREAM_API_KEY": ", so the saved server is not used either",
    "MOONDREAM_BASE_URL": "",
    "MOONDREAM_ENDPOINT": "",
}
_TIMEOUTS = Timeouts(connect=3, total=8)


def run(arguments: Arguments) -> None:
    """Save a login, after checking it; or remove it.

    Raises:
        ConfigurationError: The key, server or model is not usable, or the file cannot be written.
        MoondreamError: The server refuses the key, or cannot be reached; nothing is saved.
    """
    if arguments.remove:
        removed = saved_login.remove()
        show(f"Removed {saved_login.path()}" if removed else "No login is saved.")
        return
    base_url = normalise_base_url(arguments.base_url) if arguments.base_url else DEFAULT_BASE_URL
    secret = Secret.resolve(Secret(_read_key(base_url) or "", _SOURCE))
    if secret is None and base_url == DEFAULT_BASE_URL:
        raise ConfigurationError(f"A key is needed for Moondream Cloud; create one at {KEYS_URL}.")
    key = None if secret is None else secret.reveal()
    login = SavedLogin(key, base_url, check_model(arguments.model))
    if not arguments.no_check:
        _check(login)
    saved_login.write(login)
    show(f"Saved in {saved_login.path()}: {describe(login)}")
    for name, consequence in _OVERRIDES.items():
        if os.getenv(name):
            show_note(f"{name} is set, and wins over the saved login{consequence}.")


def describe(login: SavedLogin) -> str:
    """Describe a login in one line, with at most the last four characters of its key."""
    key = "no key" if login.api_key is None else Secret(login.api_key, LOGIN_SOURCE).describe()
    model = "" if login.model is None else f", model {one_line(login.model)}"
    return f"{key.removesuffix(f' from {LOGIN_SOURCE}')}, server {one_line(login.base_url)}{model}"


def _read_key(base_url: str) -> str | None:
    """Ask for the key, or read it from standard input if that is not a terminal."""
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - it is None when it was closed
        raise ConfigurationError("Cannot read the key: standard input is closed.")
    if not sys.stdin.isatty():
        return HiddenStr(sys.stdin.readline())
    is_cloud = base_url == DEFAULT_BASE_URL
    if is_cloud:
        show_note(f"Keys: {KEYS_URL}")
    text = "API key (not shown)" if is_cloud else "API key (not shown; empty for none)"
    try:
        return HiddenStr(click.prompt(text, default="", show_default=False, hide_input=True, err=True))
    except click.Abort:
        raise KeyboardInterrupt from None


def _check(login: SavedLogin) -> None:
    try:
        key: Any = Secret(login.api_key or "", _SOURCE)  # not None: the key of the environment is another one
        with Client(key, base_url=login.base_url, timeout=_TIMEOUTS, retry=1) as client:
            client.models()
    except AuthenticationError:
        if login.api_key is None:
            raise ConfigurationError(f"{login.base_url} requires a key, and you entered none. {_NOT_SAVED}") from None
        raise
    except APIConnectionError as exc:
        raise ConfigurationError(f"{exc}. {_NOT_SAVED}") from None
    except MoondreamError as exc:
        show_note(f"The key could not be checked: {exc}")
