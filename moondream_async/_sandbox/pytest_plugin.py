"""The fixture `moondream_sandbox`; pytest finds it as a plugin of this package."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .server import Sandbox


@pytest.fixture(scope="session")
def moondream_sandbox() -> Iterator[Sandbox]:
    """Run one sandbox for the whole session, without faults; inject them by request header."""
    from .server import Sandbox

    with Sandbox() as sandbox:
        yield sandbox
