"""Describe one frame per second of a video with the Batch API, and write a table; failed frames have rows, too.

    pip install 'moondream-async[video]'
    python film_to_table.py film.mp4

If it is interrupted, run the same command again to resume.
"""

import argparse
from pathlib import Path

from moondream_async import Client
from moondream_async.bulk import export
from moondream_async.video import frames


def main(film: Path) -> None:
    items = ((f"{frame.timestamp:.1f} s", frame.image) for frame in frames(film, fps=1))
    with Client() as client:
        job = client.batches.create(items, "caption", length="short", folder=f"{film}.batch", progress=True)
        job = client.batches.wait(job, progress=True)
        summary = client.batches.save(job, f"{film}.jsonl")
    rows = export(f"{film}.jsonl", f"{film}.csv")
    print(f"{rows} rows in {film}.csv, {summary.failed} of them failed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("film", type=Path)
    main(**vars(parser.parse_args()))
