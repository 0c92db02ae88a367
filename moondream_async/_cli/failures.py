"""Show what failed in a run: by kind on stderr, and each item in a file."""

from __future__ import annotations

import json
from pathlib import Path

from .._bulk.atomic_files import replace_file
from .._bulk.reading import read_records
from .._bulk.run import Run, failure_groups
from ..errors import ResultsFileError
from .console import one_line, show_note

_MAX_SHOWN = 10  # kinds of failures
_FIELDS = ["id", "error"]


def print_failures(run: Run) -> None:
    """Print an example of each kind of failure, and how many there are."""
    groups = failure_groups(run)
    for group in groups[:_MAX_SHOWN]:
        more = f" (and {group.count - 1:,} more like this)" if group.count > 1 else ""
        show_note(f"failed: {one_line(group.id)}: {one_line(group.error)}{more}")
    rest = sum(group.count for group in groups[_MAX_SHOWN:])
    if rest:
        show_note(f"... and {rest:,} of other kinds")


def write_failed_items(results: str) -> None:
    """Write the failed items of a results file, with their errors, to a file next to it, and print its name."""
    target = Path(results).with_name(f"{Path(results).stem}.failed.jsonl")
    try:
        if target.exists() and not _is_ours(target):
            raise FileExistsError(0, "it holds something else")
        with replace_file(target) as temporary, temporary.open("w", encoding="utf-8") as file:
            for record in read_records(results):
                if not record["ok"]:
                    file.write(json.dumps(dict(zip(_FIELDS, (record["id"], record["error"]), strict=True))) + "\n")
    except (OSError, ResultsFileError) as exc:
        problem = exc.strerror if isinstance(exc, OSError) else exc
        show_note(f"The failed items cannot be listed in {one_line(target)}: {problem}")
        return
    show_note(f"failed items: {one_line(target)}")


def _is_ours(path: Path) -> bool:
    with path.open("rb") as file:
        line = file.readline(1_000_000)
    try:
        return not line.strip() or list(json.loads(line)) == _FIELDS
    except (ValueError, TypeError):
        return False
