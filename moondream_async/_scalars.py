"""NumPy scalars as Python's own numbers."""

from __future__ import annotations

from typing import Any


def to_python(value: Any) -> Any:
    """Return a scalar of NumPy (or of PyTorch, or a 0-d array) as Python's int, float or bool; all else as it is."""
    if getattr(value, "shape", None) == () and callable(item := getattr(value, "item", None)):
        return item()
    return value
