"""Ray Data on a local cluster with two workers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moondream_async.distributed import SkillMapper, schema
from tests.engines.conftest import CountingSandbox

ray = pytest.importorskip("ray", reason="needs the extra `engines`")
parquet = pytest.importorskip("pyarrow.parquet")

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers in /proc"),
]


@pytest.fixture
def cluster(sandbox: CountingSandbox) -> Iterator[None]:
    environment = {"MOONDREAM_BASE_URL": sandbox.base_url, "PYTHONPATH": str(Path(__file__).parents[2])}
    # Each worker takes a CPU, and so does reading: these are only numbers.
    ray.init(num_cpus=4, include_dashboard=False, logging_level="error", runtime_env={"env_vars": environment})
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def mapped(rows: list[dict[str, object]], skill: str, *, blocks: int = 20, **options: Any) -> Any:
    return ray.data.from_items(rows, override_num_blocks=blocks).map_batches(
        SkillMapper,
        fn_constructor_args=(skill,),
        fn_constructor_kwargs={"image": "path", **options},
        concurrency=2,
        batch_size=10,
    )


def workers() -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if command.startswith(b"ray::MapWorker"):
                found.append(int(folder.name))
    return found


def test_columns(cluster: None, rows: list[dict[str, object]]):
    found = mapped(rows, "detect", object="red").take_all()
    assert sorted(row["id"] for row in found) == list(range(200))
    for row in found:
        if row["id"] % 10:
            assert len(row["objects"]) == 1
            assert row["error"] is None
            assert row["input_tokens"] > 0
        else:
            assert row["objects"] is None
            assert row["error_type"] == "ImageError"


def test_types_do_not_depend_on_the_rows(cluster: None, rows: list[dict[str, object]], tmp_path: Path):
    """Of a block without an error, too."""
    mapped([row for row in rows if row["id"] % 10], "caption").write_parquet(str(tmp_path / "out"))
    for file in (tmp_path / "out").rglob("*.parquet"):
        written = parquet.read_schema(file)
        assert all(written.field(field.name).type == field.type for field in schema("caption"))


def test_a_worker_is_killed(cluster: None, sandbox: CountingSandbox, rows: list[dict[str, object]], tmp_path: Path):
    """Every item is in the output once; at most the batches of the worker are asked for again."""
    killed: list[int] = []
    out = str(tmp_path / "out")

    def kill_one() -> None:
        for _ in range(3000):
            if sandbox.requests > 60 and (found := workers()):
                os.kill(found[0], signal.SIGKILL)
                killed.append(found[0])
                return
            time.sleep(0.01)

    import threading

    killer = threading.Thread(target=kill_one)
    killer.start()
    mapped(rows, "caption", keep=["id"]).write_parquet(out)
    killer.join()
    assert killed
    ids = parquet.read_table(out, columns=["id"])["id"].to_pylist()
    assert sorted(ids) == list(range(200))
    assert 180 <= sandbox.requests <= 180 + 10 * 8  # Ray gives a worker up to four batches at a time, and one more


def test_resuming(cluster: None, sandbox: CountingSandbox, rows: list[dict[str, object]], tmp_path: Path):
    out = tmp_path / "out"
    output = SkillMapper("caption", image="path").output(out, id="id")
    mapped(rows[:100], "caption", keep=["id"]).write_parquet(str(out))
    before = sandbox.requests
    remaining = output.remaining(rows)
    assert [row["id"] for row in remaining] == list(range(100, 200))
    mapped(remaining, "caption", keep=["id"]).write_parquet(str(out))
    assert sandbox.requests - before == 90
    assert sorted(parquet.read_table(out, columns=["id"])["id"].to_pylist()) == list(range(200))
    assert len(output.remaining(rows, retry_failed=True)) == 20
