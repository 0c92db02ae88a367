"""Real engines: they are installed with the extra `engines`, which `.ci/run` does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from moondream_async.sandbox import Sandbox
from tests.support import pictures


class CountingSandbox(Sandbox):
    """A sandbox that counts the requests."""

    requests = 0

    def start(self) -> CountingSandbox:
        app = self._app

        async def count(scope, receive, send):  # type: ignore[no-untyped-def]
            self.requests += 1
            await app(scope, receive, send)

        self._app = count  # type: ignore[assignment]
        super().start()
        return self


@pytest.fixture
def sandbox() -> Iterator[CountingSandbox]:
    with CountingSandbox(latency=0.02) as sandbox:
        yield sandbox


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, object]]:
    """Two hundred rows; every tenth image is missing."""
    picture = tmp_path / "scene.png"
    picture.write_bytes(pictures.scene())
    return [{"id": index, "path": str(picture if index % 10 else tmp_path / "none.png")} for index in range(200)]
