"""Which frames of a video are taken, and from which packets of H.264 decoding can start."""

from __future__ import annotations

import pytest

from moondream_async._video.clock import Clock
from moondream_async._video.schedule import Schedule
from moondream_async._video.skipping import _has_idr


@pytest.mark.parametrize(
    ("fps", "start", "times", "taken"),
    [
        (None, 0, [0, 0.1, 0.2], [0, 0.1, 0.2]),
        (None, 0.15, [0, 0.1, 0.2], [0.2]),
        (1, 0, [0, 0.4, 0.9, 1.3, 1.9, 2.1], [0, 1.3, 2.1]),
        (2, 1, [0.9, 1, 1.4, 1.5, 3.2, 3.4, 3.5], [1, 1.5, 3.2, 3.5]),
        (30, 0, [0, 1 / 30, 0.0666666, 0.1], [0, 1 / 30, 0.0666666, 0.1]),
        (10, 0, [0.1 - 2e-6, 0.1 - 5e-7, 0.2], [0.1 - 2e-6, 0.1 - 5e-7, 0.2]),
    ],
)
def test_frames_that_are_taken(fps: float | None, start: float, times: list[float], taken: list[float]) -> None:
    schedule = Schedule(fps, start)
    seen = []
    for time in times:
        is_early = schedule.is_early(time)
        if schedule.takes(time):
            assert not is_early
            seen.append(time)
        else:
            assert is_early
    assert seen == taken


def test_frames_before_the_next_one_to_take() -> None:
    schedule = Schedule(1, 0)
    assert schedule.takes(0.02)
    assert schedule.skips_to(1.0)
    assert not schedule.skips_to(1.04)
    assert schedule.is_early(0.96)
    assert not schedule.is_early(1.0)


def test_time_of_a_later_frame() -> None:
    clock = Clock(25, 2, 1000)
    assert clock.peek(3) is None
    clock.convert(2.5)
    assert clock.peek(4) == 2
    clock.convert(2.4)  # out of order
    assert clock.peek(4) is None


@pytest.mark.parametrize("restart", [None, 500.0, 0.1])
def test_a_clock_that_is_not_steady(restart: float | None) -> None:
    clock = Clock(25, 0, 100)
    for time in (0, 0.04, 9, restart):
        clock.convert(time)
    assert clock.peek(600) is None


def units(*kinds: int, length_size: int = 4) -> bytes:
    return b"".join(
        (len(unit := bytes([0x60 | kind]) + bytes(kind)).to_bytes(length_size, "big") + unit) for kind in kinds
    )


@pytest.mark.parametrize("length_size", [1, 2, 4])
def test_pictures_of_h264_that_refer_to_no_other(length_size: int) -> None:
    assert _has_idr(units(9, 7, 8, 6, 5, 5, length_size=length_size), length_size)
    assert not _has_idr(units(9, 6, 1, length_size=length_size), length_size)


@pytest.mark.parametrize(
    "data", [b"", b"\0\0\0", b"\0\0\0\0", b"\0\0\0\0" * 3, b"\xff\xff\xff\xff\x61", b"\0\0\0\1\x61\0"]
)
def test_damaged_packets(data: bytes) -> None:
    assert not _has_idr(data, 4)
