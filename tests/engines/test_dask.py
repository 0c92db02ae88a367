"""Dask on a local cluster with two workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moondream_async import AsyncClient
from moondream_async.distributed import SkillMapper
from tests.engines.conftest import CountingSandbox

distributed = pytest.importorskip("distributed", reason="needs the extra `engines`")
dataframe = pytest.importorskip("dask.dataframe")
pandas = pytest.importorskip("pandas")
pyarrow = pytest.importorskip("pyarrow")

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


@pytest.mark.parametrize("skill", ["caption", "detect"])
def test_parquet(cluster: Any, sandbox: CountingSandbox, rows: list[dict[str, object]], tmp_path: Path, skill: str):
    """As the guide says, and with another run into the same folder."""
    options: dict[str, Any] = {"object": "red"} if skill == "detect" else {}
    client = AsyncClient(base_url=sandbox.base_url)
    mapper = SkillMapper(skill, image="path", keep=["id"], client=client, **options)
    output = mapper.output(tmp_path / "out", id="id")
    schema = pyarrow.schema([("id", pyarrow.int64()), *mapper.schema])
    meta = pandas.DataFrame(columns=["id", *mapper.columns], dtype=object)
    for number, some in enumerate((rows[:50], rows[:80])):
        remaining = output.remaining(some)
        frame = dataframe.from_pandas(pandas.DataFrame(remaining), npartitions=3)
        written = frame.map_partitions(mapper.run, meta=meta)
        written.to_parquet(str(tmp_path / "out" / f"run-{number}"), schema=schema, write_index=False)
    assert output.finished() == set(range(80))
    assert sandbox.requests == 72


def test_async_function(cluster: Any, mapper: SkillMapper, rows: list[dict[str, object]], sandbox: CountingSandbox):
    found = cluster.gather(cluster.map(mapper.map_row, rows))
    assert [row["id"] for row in found] == list(range(200))
    assert sum(row["error"] is not None for row in found) == 20
    assert sandbox.requests == 180
