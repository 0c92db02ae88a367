"""Dask on a local cluster with two workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from moondream_async import AsyncClient
from moondream_async.distributed import SkillMapper
from tests.engines.conftest import CountingSandbox

distributed = pytest.importorskip("distributed", reason="needs the extra `engines`")
dataframe = pytest.importorskip("dask.dataframe")
pandas = pytest.importorskip("pandas")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def cluster() -> Iterator[Any]:
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture
def mapper(sandbox: CountingSandbox) -> SkillMapper:
    return SkillMapper("detect", object="red", image="path", client=AsyncClient(base_url=sandbox.base_url))


def test_partitions(cluster: Any, mapper: SkillMapper, rows: list[dict[str, object]]):
    frame = dataframe.from_pandas(pandas.DataFrame(rows), npartitions=4)
    meta = frame._meta.assign(**dict.fromkeys(mapper.columns, pandas.Series(dtype=object)))
    found = frame.map_partitions(mapper.run, meta=meta).compute()
    assert sorted(found["id"]) == list(range(200))
    assert found["error"].notna().sum() == 20
    assert all(len(objects) == 1 for objects in found["objects"].dropna())


def test_async_function(cluster: Any, mapper: SkillMapper, rows: list[dict[str, object]], sandbox: CountingSandbox):
    found = cluster.gather(cluster.map(mapper.map_row, rows))
    assert [row["id"] for row in found] == list(range(200))
    assert sum(row["error"] is not None for row in found) == 20
    assert sandbox.requests == 180
