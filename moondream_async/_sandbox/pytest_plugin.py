"""The fixture `moondream_sandbox`, registered with pytest wherever this package is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .server import Sandbox


@pytest.fixture(scope="session")
def moondream_sandbox() -> Iterator[Sandbox]:
    """A running sandbox in good health for the whole session; faults can be asked for by request header."""
    from .server import Sandbox

    with Sandbox() as sandbox:
        yield sandbox
