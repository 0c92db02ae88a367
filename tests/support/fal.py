"""Fixtures for fal: a sandbox with a key, and a client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from moondream_async._concurrency.polling import PollSchedule
from moondream_async.fal import AsyncFalClient, AsyncRequestHandle
from moondream_async.sandbox import Sandbox

KEY = "the-id:the-secret"


@pytest.fixture(autouse=True)
def no_fal_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FAL_KEY", "FAL_KEY_ID", "FAL_KEY_SECRET", "FAL_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll and retry after short delays, so that tests are fast."""
    module = "moondream_async._fal.request_handle"
    monkeypatch.setattr(AsyncRequestHandle, "_poll_schedule", PollSchedule(first=0.02, maximum=5.0))
    monkeypatch.setattr(f"{module}._STREAM_RETRY_DELAY", 0.02)
    monkeypatch.setattr(f"{module}._INVALID_STATUS_DELAYS", (0.02, 0.03, 0.04, 0.05))
    monkeypatch.setattr(f"{module}._RESULT_DELAYS", (0.02, 0.03, 0.04))


@pytest.fixture(scope="session")
def fal_sandbox() -> Iterator[Sandbox]:
    with Sandbox(api_key=KEY) as sandbox:
        yield sandbox


@pytest.fixture
async def fal(fal_sandbox: Sandbox) -> AsyncIterator[AsyncFalClient]:
    async with AsyncFalClient(KEY, base_url=fal_sandbox.fal_url) as client:
        yield client
