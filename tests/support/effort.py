"""The effort of tests: low by default, high if `MOONDREAM_TEST_THOROUGH` is set, as in CI."""

from __future__ import annotations

import os


def scaled(quick: int, thorough: int) -> int:
    """Return the number of examples, kills or sizes to try."""
    return thorough if os.environ.get("MOONDREAM_TEST_THOROUGH") else quick
