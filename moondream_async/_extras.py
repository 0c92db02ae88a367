"""Import optional packages, or say which extra installs them."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from .errors import ConfigurationError

MODULES = {
    "cli": ("click", "rich", "starlette", "uvicorn"),
    "fal": ("cryptography",),
    "fast": ("httptools",),  # without cykooz-resizer, which has no wheels for some platforms
    "heif": ("pillow_heif",),
    "mcp": ("mcp", "click", "rich", "starlette", "uvicorn", "fontTools", "freetype", "numpy"),
    "otel": ("opentelemetry",),
    "parquet": ("pyarrow", "pyarrow.parquet"),
    "proxy": ("starlette", "uvicorn"),
    "sandbox": ("starlette", "uvicorn"),
    "socks": ("socksio",),
    "structured": ("cattrs", "jsonschema"),
    "video": ("av",),
    "vision": ("fontTools", "freetype", "numpy"),
}
"""The modules that each extra of pyproject.toml installs."""

EXTRAS = tuple(MODULES)


def import_extra(module: str, extra: str, purpose: str = "This", *, note: str = "") -> Any:
    """Import a module that an extra installs.

    Args:
        module: Its full name.
        extra: The extra.
        purpose: What needs it: the subject of the error's sentence.
        note: A sentence to add to the error.

    Raises:
        ConfigurationError: The module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        message = f"{purpose} needs the extra {extra!r}: pip install 'moondream-async[{extra}]'. {note}"
        raise ConfigurationError(message.rstrip()) from None


def import_package(name: str, purpose: str = "This") -> Any:
    """Import a package that users install themselves.

    Args:
        name: Its name, for `import` and for `pip`.
        purpose: What needs it: the subject of the error's sentence.

    Raises:
        ConfigurationError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigurationError(f"{purpose} needs {name}: pip install {name}.") from None


def check_extra(extra: str, purpose: str) -> None:
    """Check that the packages of an extra are installed, before sending anything that would need them.

    Args:
        extra: The extra.
        purpose: What needs it: the subject of the error's sentence.

    Raises:
        ConfigurationError: A package is not installed.
    """
    for module in MODULES[extra]:
        import_extra(module, extra, purpose, note="Nothing was sent.")


def is_installed(extra: str) -> bool:
    """Return whether the packages of an extra are there, without importing them."""
    return all(importlib.util.find_spec(module.partition(".")[0]) is not None for module in MODULES[extra])
