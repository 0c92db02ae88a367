"""Fixtures of tests that need no process of their own."""

from __future__ import annotations

import pytest

from moondream_async._images import fast


@pytest.fixture(params=["Pillow", "fast"])
def each_resizer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Prepare images without and with the resizer of the extra `fast`."""
    name: str = request.param
    if name == "Pillow":
        monkeypatch.setattr(fast, "is_available", lambda: False)
    elif not fast.is_available():
        pytest.skip("the extra fast is not installed")
    return name
