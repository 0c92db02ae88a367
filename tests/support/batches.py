"""Fixtures for batches: images, and clients with a sandbox."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from moondream_async import AsyncBatches, AsyncClient, RetryPolicy
from moondream_async._concurrency.polling import PollSchedule
from tests.support.sandboxes import PooledSandbox

KEY = "a-key-of-the-sandbox"
QUICK = RetryPolicy(attempts=4, backoff=0.01)


@pytest.fixture(autouse=True)
def batch_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(AsyncBatches, "_poll_schedule", PollSchedule(first=0.02, maximum=30.0))


@pytest.fixture
def photos(tmp_path: Path, scene: bytes) -> list[Path]:
    """Return the paths of five images."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.png").write_bytes(scene)
    return sorted(folder.iterdir())


@pytest.fixture
async def at_sandbox() -> AsyncIterator[Callable[..., AsyncClient]]:
    """Return a function that creates a client of a new sandbox with faults; the sandbox is `client.sandbox`."""
    to_close: list[Any] = []

    def make(*, retry: RetryPolicy = QUICK, http_client: Any = None, **faults: Any) -> AsyncClient:
        sandbox = PooledSandbox(api_key=KEY, **{"work": 0, "queue": 0, **faults}).start()
        client = AsyncClient(KEY, base_url=sandbox.base_url, retry=retry, http_client=http_client)
        client.sandbox = sandbox  # type: ignore[attr-defined]
        to_close.extend([client, sandbox])
        return client

    yield make
    for each in to_close:
        if isinstance(each, AsyncClient):
            await each.aclose()
        else:
            each.stop()


def jobs_of(client: Any) -> dict[str, Any]:
    return client.sandbox._app.state.batches.jobs


def uploads_of(client: Any) -> dict[str, Any]:
    return client.sandbox._app.state.batches._uploads


async def everything(client: Any, job: Any) -> list[Any]:
    return sorted([outcome async for outcome in client.batches.results(job)], key=lambda outcome: outcome.index)


def ready(path: Path, scene: bytes, count: int, **fields: Any) -> Path:
    image = base64.b64encode(scene).decode()
    lines = [{"id": f"line-{n}", "skill": "caption", "image": image, **fields} for n in range(count)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path
