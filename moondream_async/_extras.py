"""Optional dependencies, by the extra that installs them."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import ConfigurationError

_MODULES = {
    "parquet": ("pyarrow", "pyarrow.parquet"),
    "vision": ("fontTools", "freetype", "numpy"),
}


def load_extra(extra: str, purpose: str) -> list[Any]:
    """Import the modules of an extra, in the order of `_MODULES`.

    Args:
        extra: Name of the extra.
        purpose: What needs it, for the error message.

    Raises:
        ConfigurationError: A module is not installed.
    """
    try:
        return [importlib.import_module(module) for module in _MODULES[extra]]
    except ImportError:
        raise ConfigurationError(
            f"{purpose} needs the extra {extra!r}: pip install 'moondream-async[{extra}]'."
        ) from None


def check_extra(extra: str, purpose: str) -> None:
    """Check that an extra is installed, before a request is sent whose result would need it.

    Args:
        extra: Name of the extra.
        purpose: What needs it, for the error message.

    Raises:
        ConfigurationError: A module is not installed.
    """
    try:
        load_extra(extra, purpose)
    except ConfigurationError as exc:
        raise ConfigurationError(f"{exc} Nothing was sent.") from None
