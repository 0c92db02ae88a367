"""The figures and the text of progress."""

from __future__ import annotations

from typing import Any

import pytest

from moondream_async import RunSummary
from moondream_async._progress.text import details, line
from moondream_async.bulk import Progress

FIGURES: dict[str, Any] = {
    "total": 50_000,
    "succeeded": 30_959,
    "failed": 41,
    "cost": 9.1,
    "input_tokens": 1_000,
    "output_tokens": 500,
    "elapsed": 15_500.0,
}
LIMITED = Progress(**FIGURES, limit=2.0, limited_by="server limit")


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (LIMITED, "2.0/s (server limit) - $9.10 of ~$14.68 - 41 failed - 2:38 h left"),
        (Progress(**FIGURES), "2.0/s - $9.10 of ~$14.68 - 41 failed - 2:38 h left"),
        (Progress(), ""),
        (Progress(succeeded=4, elapsed=2.0, input_tokens=1_500), "2.0/s - 1,500 tokens"),
        (Progress(succeeded=4, elapsed=2.0, input_tokens=9, cost=0.5), "2.0/s - $0.50"),
        (Progress(total=8, succeeded=4, elapsed=4.0, skipped=2), "1.0/s - 2 s left"),
        (
            Progress(total=8, succeeded=2, skipped=4, elapsed=4.0, cost=1.0, input_tokens=1),
            "0.5/s - $1.00 of ~$2.00 - 4 s left",
        ),
    ],
)
def test_details(progress: Progress, text: str) -> None:
    assert details(progress) == text


def test_the_text_is_the_same_for_the_bar_and_str() -> None:
    text = "62% 31,000/50,000 - 2.0/s (server limit) - $9.10 of ~$14.68 - 41 failed - 2:38 h left"
    assert str(LIMITED) == text


def test_narrow_details_leave_out_the_limit() -> None:
    assert details(LIMITED, narrow=True) == details(Progress(**FIGURES))


@pytest.mark.parametrize(
    ("done", "total", "details", "unit", "text"),
    [
        (3, 4, "2.0/s", "", "75% 3/4 - 2.0/s"),
        (1_200, None, "2.0/s", "", "1,200 - 2.0/s"),
        (0, 0, "", "", "0/0"),
        (1.25, 20.0, "uploading", "MB", "6% 1.2/20 MB - uploading"),
    ],
)
def test_line(done: float, total: float | None, details: str, unit: str, text: str) -> None:
    assert line(done, total, details, unit=unit) == text


def test_progress_has_the_figures_of_a_summary() -> None:
    assert isinstance(LIMITED, RunSummary)
    assert (LIMITED.done, LIMITED.remaining) == (31_000, 19_000)
    assert LIMITED.expected_cost == pytest.approx(9.1 * 50_000 / 31_000)
    assert Progress(total=None, succeeded=1, cost=1.0).expected_cost is None
    assert Progress(total=5, cost=0.0).expected_cost is None
