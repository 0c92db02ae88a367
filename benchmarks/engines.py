"""Measure what an engine adds to each item, and how preparing photos scales with its workers.

All call the same server, which responds at once. Ray's and Dask's workers are processes on this machine, and share its
cores with the server. Engines that are not installed are skipped.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from moondream_async import AsyncClient
from moondream_async.distributed import SkillMapper

from . import harness, pictures
from .harness import Budget, Column, Figure

TINY, PHOTOS = "tiny images", "12 MP photos"
IN_PROCESS = "map, in one process"
COLUMNS = (Column("per second", 1, ratio=True), Column("us an item"), Column("start s", 1))

Measure = Callable[[str, list[str], int], tuple[float, float]]
"""Captions the images at the paths with a number of workers. Returns items per second, and seconds to start."""


def run(*, quick: bool) -> list[Figure]:
    """Run all engines."""
    with tempfile.TemporaryDirectory() as folder, harness.server() as url:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, range(os.cpu_count() or 1))  # as workers on other cores
        tiny, photo = Path(folder, "tiny.png"), Path(folder, "photo.jpg")
        Image.new("RGB", (32, 32), "red").save(tiny)
        photo.write_bytes(pictures.photo((4000, 3000)))
        figures: list[Figure] = []
        for name, (module, measure, workers) in ENGINES.items():
            if module and importlib.util.find_spec(module) is None:
                continue
            items = 500 if quick else 4000
            figures.append(_figure(TINY, name, *measure(f"{url}/v1", [str(tiny)] * items, workers)))
            photos = _links(photo, 32 if quick else 128)
            figures.append(_figure(PHOTOS, name, *measure(f"{url}/v1", photos, workers)))
    return sorted(figures, key=lambda figure: figure.case != TINY)


def report(figures: list[Figure]) -> str:
    """Return the figures as a table."""
    return harness.table(figures, IN_PROCESS, COLUMNS)


def budgets(figures: list[Figure]) -> dict[str, Budget]:
    """Return no budgets: the engines are others'."""
    return {}


def _figure(case: str, name: str, rate: float, start: float) -> Figure:
    return Figure(case, name, {"per second": rate, "us an item": 1e6 / rate, "start s": start})


def _links(photo: Path, count: int) -> list[str]:
    """Return names for a photo: concurrent calls with the same name would share the work of preparing it."""
    names = [photo.with_name(f"photo-{number}.jpg") for number in range(count)]
    for name in names:
        if not name.exists():
            name.hardlink_to(photo)
    return list(map(str, names))


def _mapper(url: str) -> SkillMapper:
    return SkillMapper("caption", image="path", client=AsyncClient(harness.KEY, base_url=url), keep=[])


def _in_process(url: str, paths: list[str], workers: int) -> tuple[float, float]:
    async def work() -> tuple[float, float]:
        async with AsyncClient(harness.KEY, base_url=url) as client:
            started = time.perf_counter()
            async for outcome in client.map("caption", paths):
                outcome.unwrap()
            return len(paths) / (time.perf_counter() - started), 0

    return asyncio.run(work())


def _one_batch(url: str, paths: list[str], workers: int) -> tuple[float, float]:
    mapper = _mapper(url)
    mapper.run({"path": paths[:1]})
    started = time.perf_counter()
    mapper.run({"path": paths})
    return len(paths) / (time.perf_counter() - started), 0


def _datasets(url: str, paths: list[str], workers: int) -> tuple[float, float]:
    import datasets

    datasets.disable_progress_bars()
    datasets.disable_caching()
    rows = datasets.Dataset.from_dict({"path": paths})
    mapper = _mapper(url)
    started = time.perf_counter()
    rows.map(mapper.map_row)
    return len(paths) / (time.perf_counter() - started), 0


def _dask(url: str, paths: list[str], workers: int) -> tuple[float, float]:
    import distributed

    before = time.perf_counter()
    options: Any = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        mapper = SkillMapper("caption", image="path", client=AsyncClient(base_url=url), keep=[])
        size = max(1, len(paths) // (8 * workers))
        batches = [{"path": paths[start : start + size]} for start in range(0, len(paths), size)]
        client.gather(client.map(mapper.run, [{"path": paths[:1]}] * workers * 4, pure=False))  # modules are loaded
        started = time.perf_counter()
        client.gather(client.map(mapper.run, batches, pure=False))
        return len(paths) / (time.perf_counter() - started), started - before


def _ray(url: str, paths: list[str], workers: int) -> tuple[float, float]:
    import ray

    before = time.perf_counter()
    ray.init(
        num_cpus=workers + 2,
        include_dashboard=False,
        logging_level="error",
        runtime_env={"env_vars": {"MOONDREAM_BASE_URL": url, "PYTHONPATH": str(Path.cwd())}},
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    try:
        size = max(1, len(paths) // (8 * workers))
        dataset = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=8 * workers)
        mapped = dataset.map_batches(
            SkillMapper,
            fn_constructor_args=("caption",),
            fn_constructor_kwargs={"image": "path", "keep": []},
            batch_size=size,
            concurrency=workers,
        )
        batches = iter(mapped.iter_batches(batch_size=size, prefetch_batches=0))
        next(batches)  # the workers have started
        started = time.perf_counter()
        items = sum(len(batch["error"]) for batch in batches)
        return items / (time.perf_counter() - started), started - before
    finally:
        ray.shutdown()


ENGINES: dict[str, tuple[str, Measure, int]] = {
    IN_PROCESS: ("", _in_process, 1),
    "SkillMapper, one batch": ("", _one_batch, 1),
    "datasets, async map": ("datasets", _datasets, 1),
    "Dask, 1 worker": ("distributed", _dask, 1),
    "Dask, 2 workers": ("distributed", _dask, 2),
    "Ray Data, 1 worker": ("ray", _ray, 1),
    "Ray Data, 2 workers": ("ray", _ray, 2),
}
