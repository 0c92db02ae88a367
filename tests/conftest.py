"""Fixtures that every room's tests use."""

from __future__ import annotations

import os
import sys

import pytest

from moondream_async import EncodedImage
from tests.support import pictures

# Where bytecode is not kept, each worker, and each interpreter that a test starts, compiles every module anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests see no key, server or proxy of the machine they run on."""
    for name in ("MOONDREAM_API_KEY", "MOONDREAM_BASE_URL", "MOONDREAM_ENDPOINT", "MOONDREAM_MODEL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def scene() -> bytes:
    """A PNG: white, 640 x 480, a red square, a blue circle, a green triangle."""
    return pictures.scene()


@pytest.fixture(scope="session")
def tiny() -> EncodedImage:
    """A valid 1 x 1 image, for calls whose image does not matter."""
    return pictures.tiny()
