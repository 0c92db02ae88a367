"""The key, server and model that `moondream-async login` saves, in a file that only the user can read.

Only the command reads it; the library does not. It is used as a whole: a saved key is sent to the saved server only,
and a key of the environment never is.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import attrs
import click

from .._bulk.atomic_files import replace_file
from .._hidden import HiddenStr
from ..config import DEFAULT_BASE_URL
from ..errors import ConfigurationError

_FOLDER, _FILE = "moondream-async", "login.json"
_FIELDS = ("api_key", "base_url", "model")


@attrs.frozen
class SavedLogin:
    """What `login` saved.

    Attributes:
        api_key: The key; None for a server without keys.
        base_url: The server.
        model: The model; None for the server's default.
    """

    api_key: str | None = attrs.field(default=None, repr=False)
    base_url: str = DEFAULT_BASE_URL
    model: str | None = None


def path() -> Path:
    """Return the path of the file in the user's configuration directory."""
    return Path(click.get_app_dir(_FOLDER)) / _FILE


def read() -> SavedLogin | None:
    """Return the saved login; None if there is none.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    try:
        data: Any = json.loads(path().read_text("utf-8"))
        values: dict[str, Any] = {name: data[name] for name in _FIELDS if data.get(name) is not None}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise _unreadable(exc.strerror or str(exc)) from None
    except (ValueError, TypeError, AttributeError):
        raise _unreadable("it is not what `login` writes") from None
    if not all(isinstance(value, str) for value in values.values()):
        raise _unreadable("it is not what `login` writes")
    if "api_key" in values:
        values["api_key"] = HiddenStr(values["api_key"])
    return SavedLogin(**values)


def _unreadable(problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"The login in {str(path())!r} cannot be read: {problem}. Run `moondream-async login` again."
    )


def write(login: SavedLogin) -> None:
    """Save a login, readable for the user only.

    Raises:
        ConfigurationError: It cannot be written.
    """
    text = json.dumps(attrs.asdict(login), indent=2) + "\n"
    try:
        path().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with replace_file(path(), mode=0o600) as temporary:
            temporary.write_text(text, "utf-8")
    except OSError as exc:
        raise ConfigurationError(f"The login cannot be saved in {str(path())!r}: {exc.strerror or exc}.") from None


def remove() -> bool:
    """Remove the saved login; return whether there was one.

    Raises:
        ConfigurationError: It cannot be removed.
    """
    try:
        path().unlink()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as exc:
        raise ConfigurationError(f"{str(path())!r} cannot be removed: {exc.strerror or exc}.") from None
    return True


def is_private() -> bool:
    """Return whether only the user can read the file. Windows protects it by its folder."""
    return os.name != "posix" or not stat.S_IMODE(path().stat().st_mode) & 0o077
