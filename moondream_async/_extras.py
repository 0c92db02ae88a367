"""Optional dependencies, by the extra that installs them."""

from __future__ import annotations

import importlib

from .errors import ConfigurationError

_MODULES = {"vision": ("fontTools", "freetype", "numpy")}


def check_extra(extra: str, purpose: str) -> None:
    """Check that the packages of an extra are installed, before anything is sent that would need them.

    Args:
        extra: Its name.
        purpose: What needs it, for the error.

    Raises:
        ConfigurationError: One is missing.
    """
    for module in _MODULES[extra]:
        try:
            importlib.import_module(module)
        except ImportError:
            raise ConfigurationError(
                f"{purpose} needs the extra {extra!r}: pip install 'moondream-async[{extra}]'. Nothing was sent."
            ) from None
