"""Skills in the workers of Ray, Dask, datasets, Spark and others; no engine is imported.

```python
import ray

from moondream_async.distributed import SkillMapper

dataset = ray.data.read_parquet("photos.parquet").map_batches(
    SkillMapper,
    fn_constructor_args=("detect",),
    fn_constructor_kwargs={"object": "car", "image": "path", "keep": ["path"]},
    batch_size=64,
    concurrency=1,
)
dataset.write_parquet("cars")
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._distributed.columns import arrow_schema as schema
    from ._distributed.mapper import SkillMapper
    from ._distributed.resuming import Output

__all__ = ["Output", "SkillMapper", "schema"]


def __getattr__(name: str) -> Any:
    if name == "schema":
        from ._distributed.columns import arrow_schema

        return arrow_schema
    if name == "SkillMapper":
        from ._distributed.mapper import SkillMapper

        return SkillMapper
    if name == "Output":
        from ._distributed.resuming import Output

        return Output
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
