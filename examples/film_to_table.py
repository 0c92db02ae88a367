"""Describe one frame per second of a video with the Batch API, and write a table; failed frames have rows, too.

    python examples/film_to_table.py film.mp4     # if it is interrupted, run the same command again to resume

Needs MOONDREAM_API_KEY, or MOONDREAM_BASE_URL of a server that needs no key; and the extra `video`.
"""

import sys

from moondream_async import Client
from moondream_async.bulk import export
from moondream_async.video import frames


def main(film: str) -> None:
    items = ((f"{frame.timestamp:.1f} s", frame.image) for frame in frames(film, fps=1))
    with Client() as client:
        job = client.batches.create(items, "caption", length="short", folder=f"{film}.batch")
        client.batches.wait(job, progress=lambda now: print(now.status, now.progress.completed, now.progress.total))
        summary = client.batches.save(job, f"{film}.jsonl")
    rows = export(f"{film}.jsonl", f"{film}.csv")
    print(f"{rows} rows in {film}.csv, {summary.failed} of them failed")


main(sys.argv[1])
