"""Examples that need more than the extra `dev`: `.ci/run` installs the extra `examples`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import pictures
from tests.support.sandboxes import PooledSandbox
from tools.recipe_pages import ROOT


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[PooledSandbox]:
    with PooledSandbox() as sandbox:
        monkeypatch.setenv("MOONDREAM_BASE_URL", sandbox.base_url)
        monkeypatch.syspath_prepend(ROOT / "examples")
        yield sandbox


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(pictures.scene())
    return path
