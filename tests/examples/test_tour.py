"""The notebook runs, and its outputs and its page are up to date."""

from __future__ import annotations

from tools import tour


def test_the_notebook_and_its_page() -> None:
    tour.check()
