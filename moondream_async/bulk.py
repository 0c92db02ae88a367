"""Process many images with `map` or a resumable `run`; no result is lost, and none is paid for twice.

```python
from moondream_async import Client
from moondream_async.bulk import export, read_results

with Client() as client:
    print(client.run("caption", ["a.jpg", "b.jpg"], "results.jsonl"))  # run it again to resume
for outcome in read_results("results.jsonl"):
    print(outcome.id, outcome.result.caption if outcome.ok else outcome.error)
export("results.jsonl", "results.csv")
```
"""

from ._bulk.export import export
from ._bulk.frames import to_pandas, to_polars
from ._bulk.outcomes import Done, Failed, Outcome
from ._bulk.reading import ResultsReader, read_records, read_results
from ._bulk.run import Run
from ._progress.figures import Progress, RunSummary

__all__ = [
    "Done",
    "Failed",
    "Outcome",
    "Progress",
    "ResultsReader",
    "Run",
    "RunSummary",
    "export",
    "read_records",
    "read_results",
    "to_pandas",
    "to_polars",
]
