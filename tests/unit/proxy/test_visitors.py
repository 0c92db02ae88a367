"""Limits for each visitor."""

from __future__ import annotations

import pytest

from moondream_async._proxy import visitors as visitors_module
from moondream_async._proxy.refusals import Refusal
from moondream_async._proxy.visitors import Visitors


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_rate():
    clock = Clock()
    visitors = Visitors(2.0, None, clock)
    for _ in range(4):  # twice the rate may come at once
        visitors.spend("ann")
    with pytest.raises(Refusal) as refused:
        visitors.spend("ann")
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": "1"})
    visitors.spend("bob")
    clock.now += 0.5
    visitors.spend("ann")
    with pytest.raises(Refusal):
        visitors.spend("ann")


def test_slow_rate():
    clock = Clock()
    visitors = Visitors(0.1, None, clock)
    visitors.spend("ann")
    with pytest.raises(Refusal) as refused:
        visitors.spend("ann")
    assert refused.value.headers == {"Retry-After": "10"}


def test_concurrency():
    visitors = Visitors(None, 2)
    with visitors.admit("ann"), visitors.admit("ann"):
        with pytest.raises(Refusal) as refused, visitors.admit("ann"):
            pass
        assert refused.value.status == 429
        with visitors.admit("bob"):
            pass
    with visitors.admit("ann"), visitors.admit("ann"):
        pass


def test_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(visitors_module, "_MAX_VISITORS", 3)
    visitors = Visitors(1.0, 1)
    with visitors.admit("ann"):
        for name in "abcdefgh":
            visitors.spend(name)
        with pytest.raises(Refusal), visitors.admit("ann"):  # still open
            pass
        assert len(visitors._visitors) <= 4
