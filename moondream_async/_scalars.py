"""Convert and check numbers, Python's and NumPy's."""

from __future__ import annotations

import numbers
from typing import Any

MAX_SIDE = 2**31 - 1
"""Maximum width or height in pixels."""


def to_python(value: Any) -> Any:
    """Return a NumPy or PyTorch scalar, or a 0-d array, as a Python int, float or bool; anything else unchanged."""
    if getattr(value, "shape", None) == () and callable(item := getattr(value, "item", None)):
        return item()
    return value


def is_side(value: object) -> bool:
    """Return whether a value can be the width or height of an image: an integer from 1 to `MAX_SIDE`."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and 0 < int(value) <= MAX_SIDE
