"""Hugging Face `datasets`: async map, and its cache."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from moondream_async import AsyncClient
from moondream_async.distributed import SkillMapper
from tests.engines.conftest import CountingSandbox

os.environ.setdefault("HF_HUB_OFFLINE", "1")
datasets = pytest.importorskip("datasets", reason="needs the extra `engines`")

pytestmark = pytest.mark.filterwarnings("ignore")


def mapper(sandbox: CountingSandbox) -> SkillMapper:
    return SkillMapper("caption", image="path", client=AsyncClient(base_url=sandbox.base_url))


def stored(rows: list[dict[str, object]], folder: Path) -> Any:
    """A dataset on disk; those in memory are not cached."""
    datasets.Dataset.from_list(rows).save_to_disk(folder)
    return datasets.load_from_disk(folder)


def test_async_rows(sandbox: CountingSandbox, rows: list[dict[str, object]], tmp_path: Path):
    found = stored(rows, tmp_path / "in").map(mapper(sandbox).map_row)
    assert found["id"][:] == list(range(200))
    assert sum(error is not None for error in found["error"]) == 20
    assert "red" in found["caption"][1]


def test_batches(sandbox: CountingSandbox, rows: list[dict[str, object]], tmp_path: Path):
    found = stored(rows, tmp_path / "in").map(mapper(sandbox).run, batched=True, batch_size=50)
    assert found["id"][:] == list(range(200))
    assert sum(error is not None for error in found["error"]) == 20


def test_second_run_comes_from_the_cache(sandbox: CountingSandbox, rows: list[dict[str, object]], tmp_path: Path):
    """The mapper and its client pickle the same each time."""
    dataset = stored(rows, tmp_path / "in")
    first = dataset.map(mapper(sandbox).map_row)
    requests = sandbox.requests
    second = dataset.map(mapper(sandbox).map_row)
    assert sandbox.requests == requests
    assert second["caption"][:] == first["caption"][:]


def test_images_of_datasets(sandbox: CountingSandbox, rows: list[dict[str, object]], tmp_path: Path):
    some = [row for row in rows if row["id"] % 10][:5]
    for decode in (True, False):
        dataset = datasets.Dataset.from_list(some).cast_column("path", datasets.Image(decode=decode))
        found = dataset.map(mapper(sandbox).map_row, remove_columns=["path"])
        assert found["error"][:] == [None] * 5
