"""Show what failed in a run: by kind on stderr, and each item in a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .._bulk.atomic_files import replace_file
from .._bulk.reading import read_records
from .._bulk.run import Run, failure_groups
from .._printable import one_line
from .._progress.figures import RunSummary
from ..errors import APIConnectionError, AuthenticationError, MoondreamError, ResultsFileError
from .console import show, show_note
from .rewording import reword

_MAX_SHOWN = 10  # kinds of failures
_FIELDS = ["id", "error"]


def print_failures(run: Run, *, stopped_by: MoondreamError | None) -> None:
    """Print an example of each kind of failure, and how many there are; except for the one that stopped the run."""
    groups = [group for group in failure_groups(run) if not _is_same(group.error, stopped_by)]
    for group in groups[:_MAX_SHOWN]:
        more = f" (and {group.count - 1:,} more like this)" if group.count > 1 else ""
        show(f"failed: {one_line(group.id)}: {one_line(reword(group.error))}{more}", file=sys.stderr)
    rest = sum(group.count for group in groups[_MAX_SHOWN:])
    if rest:
        show(f"... and {rest:,} of other kinds", file=sys.stderr)


def _is_same(error: MoondreamError, other: MoondreamError | None) -> bool:
    return type(error) is type(other) and isinstance(error, (APIConnectionError, AuthenticationError))


def list_failed_items(results: str, summary: RunSummary) -> None:
    """Write the failed items of a results file, with their errors, to a file next to it, and print its name.

    Without failed items, remove that file.
    """
    target = Path(results).with_name(f"{Path(results).stem}.failed.jsonl")
    try:
        if not target.exists() and not summary.failed + summary.failed_before:
            return
        if target.exists() and not _is_ours(target):
            raise FileExistsError(0, "it holds something else")
        count = _write_failed_items(results, target)
    except (OSError, ResultsFileError) as exc:
        problem = exc.strerror if isinstance(exc, OSError) else exc
        show_note(f"The failed items cannot be listed in {one_line(target)}: {problem}")
        return
    if count:
        show_note(f"failed items: {one_line(target)}")


def _write_failed_items(results: str, target: Path) -> int:
    """Write the failed items, or remove the file if there are none; return their number."""
    count = 0
    with replace_file(target) as temporary, temporary.open("w", encoding="utf-8") as file:
        for record in read_records(results):
            if not record["ok"]:
                count += 1
                file.write(json.dumps(dict(zip(_FIELDS, (record["id"], record["error"]), strict=True))) + "\n")
    if not count:
        target.unlink()
    return count


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        line = file.readline(1_000_000)
    try:
        return not line.strip() or list(json.loads(line)) == _FIELDS
    except (ValueError, TypeError):
        return False
