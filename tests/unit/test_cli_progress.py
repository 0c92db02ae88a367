"""The text of progress."""

from __future__ import annotations

import pytest

from moondream_async import RunSummary
from moondream_async._cli.progress import details

SUMMARY = RunSummary(
    total=50_000, succeeded=30_959, failed=41, cost=9.1, input_tokens=1_000, output_tokens=500, elapsed=15_500.0
)


@pytest.mark.parametrize(
    ("summary", "limited_by", "text"),
    [
        (SUMMARY, "server limit", "2.0/s (server limit) - $9.10 of ~$14.68 - 41 failed - 2:38 h left"),
        (SUMMARY, "", "2.0/s - $9.10 of ~$14.68 - 41 failed - 2:38 h left"),
        (RunSummary(), "", ""),
        (RunSummary(succeeded=4, elapsed=2.0, input_tokens=1_500), "", "2.0/s - 1,500 tokens"),
        (RunSummary(succeeded=4, elapsed=2.0, input_tokens=9, cost=0.5), "", "2.0/s - $0.50"),
        (RunSummary(total=8, succeeded=4, elapsed=4.0, skipped=2), "", "1.0/s - 2 s left"),
        (
            RunSummary(total=8, succeeded=2, skipped=4, elapsed=4.0, cost=1.0, input_tokens=1),
            "",
            "0.5/s - $1.00 of ~$2.00 - 4 s left",
        ),
    ],
)
def test_details(summary: RunSummary, limited_by: str, text: str) -> None:
    assert details(summary, limited_by=limited_by) == text
