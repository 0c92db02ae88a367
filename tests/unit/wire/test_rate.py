"""The adaptive rate: simulated runs against simulated servers, on a simulated clock."""

from __future__ import annotations

import heapq
from collections import deque
from typing import Protocol

import pytest

from moondream_async._wire.rate import AdaptiveRate


class Bucket:
    """A server that allows `rate` requests per second, with a token bucket."""

    def __init__(self, rate: float, capacity: float | None = None) -> None:
        self.rate, self.capacity, self.updated = rate, capacity or rate, 0.0
        self.tokens = self.capacity

    def allows(self, now: float) -> bool:
        self.tokens = min(self.capacity, self.tokens + (now - self.updated) * self.rate)
        self.updated = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Server(Protocol):
    def allows(self, now: float) -> bool: ...


class Storm:
    """A server that refuses everything for some time, and otherwise behaves like another."""

    def __init__(self, seconds: float, server: Server, *, start: float = 0.0) -> None:
        self.start, self.end, self.server = start, start + seconds, server

    def allows(self, now: float) -> bool:
        return not self.start <= now < self.end and self.server.allows(now)


def gather(calls: int, server: Server, *, latency: float, retry_after: float, slots: int = 256) -> tuple[float, int]:
    """Make many concurrent calls, each until it is served; return the seconds, and the maximum attempts of a call.

    A refused call waits, then queues behind all others, as in `HttpClient`.
    """
    adaptive = AdaptiveRate()
    attempts = [0] * calls
    waiting, ready = deque(range(calls)), deque[int]()
    events: list[tuple[float, int, str, float]] = [(0.0, -1, "wake", 0.0)]
    free, served, now, woken = slots, 0, 0.0, 0.0
    while served < calls:
        now, call, what, started = heapq.heappop(events)
        if what == "served":
            served, free = served + 1, free + 1
            adaptive.succeeded()
        elif what == "refused":
            free += 1
            adaptive.refused(now, started=started, delay=retry_after)
            heapq.heappush(events, (now + retry_after, call, "again", 0.0))
        elif what == "again":
            waiting.append(call)
        while free and waiting:
            free -= 1
            ready.append(waiting.popleft())
        while ready and adaptive.wait(now) == 0:
            adaptive.start(now)
            call = ready.popleft()
            attempts[call] += 1
            answered = (
                (now + latency, call, "served", now) if server.allows(now) else (now + 0.002, call, "refused", now)
            )
            heapq.heappush(events, answered)
        if ready and not now < woken <= now + adaptive.wait(now):  # one wake-up at a time
            woken = now + adaptive.wait(now)
            heapq.heappush(events, (woken, -1, "wake", 0.0))
    return now, max(attempts)


def run(
    adaptive: AdaptiveRate,
    server: Server,
    *,
    workers: int,
    seconds: float,
    latency: float = 0.3,
    retry_after: float = 1.0,
    until_free: bool = False,
) -> tuple[int, int]:
    """Let workers call as fast as the rate allows; return successes and refusals."""
    served = refused = 0
    queue: list[tuple[float, int, str, float]] = [(0.0, n, "ready", 0.0) for n in range(workers)]
    heapq.heapify(queue)
    while queue:
        now, worker, what, started = heapq.heappop(queue)
        if now > seconds or (until_free and adaptive.free):
            break
        if what == "served":
            served += 1
            adaptive.succeeded()
        elif what == "refused":
            refused += 1
            adaptive.refused(now, started=started, delay=retry_after)
        wait = adaptive.wait(now)
        if wait > 0:
            heapq.heappush(queue, (now + wait, worker, "ready", 0.0))
            continue
        adaptive.start(now)
        if server.allows(now):
            heapq.heappush(queue, (now + latency, worker, "served", now))
        else:
            heapq.heappush(queue, (now + 0.02, worker, "refused", now))
    return served, refused


def test_free_until_the_first_refusal() -> None:
    adaptive = AdaptiveRate()
    for _ in range(1000):
        assert adaptive.wait(5.0) == 0
        adaptive.start(5.0)
    assert adaptive.free


def test_an_explicit_limit_spreads_starts_evenly() -> None:
    adaptive = AdaptiveRate(2.0)
    starts: list[float] = []
    now = 100.0
    for _ in range(5):
        now += adaptive.wait(now)
        adaptive.start(now)
        starts.append(now)
    assert starts == [100.0, 100.5, 101.0, 101.5, 102.0]


def test_an_explicit_limit_never_bursts_after_a_pause() -> None:
    adaptive = AdaptiveRate(2.0)
    adaptive.start(0.0)
    now, starts = 50.0, []
    for _ in range(4):
        now += adaptive.wait(now)
        adaptive.start(now)
        starts.append(now - 50.0)
    assert starts == [0.0, 0.5, 1.0, 1.5]


def test_after_a_refusal_all_requests_wait() -> None:
    adaptive = AdaptiveRate()
    adaptive.start(10.0)
    adaptive.refused(10.1, started=10.0, delay=3.0)
    assert adaptive.wait(10.2) == pytest.approx(2.9)
    assert adaptive.wait(13.2) == 0


def test_an_explicit_limit_is_kept_after_a_refusal() -> None:
    adaptive = AdaptiveRate(4.0)
    adaptive.start(0.0)
    adaptive.refused(0.1, started=0.0, delay=2.0)
    assert adaptive.rate == 4.0
    assert adaptive.wait(0.2) == pytest.approx(1.9)


def test_late_refusals_of_one_burst_do_not_cut_the_rate_again() -> None:
    adaptive = AdaptiveRate()
    for _ in range(10):
        adaptive.start(0.0)
    for _ in range(8):
        adaptive.refused(0.1, started=0.0, delay=1.0)
    assert adaptive.rate == pytest.approx(2.0)
    adaptive.start(1.2)
    adaptive.refused(1.25, started=0.0, delay=0.0)
    assert adaptive.rate == pytest.approx(2.0)


@pytest.mark.parametrize("tier", [2.0, 10.0, 50.0])
def test_it_finds_the_tier_and_keeps_it(tier: float) -> None:
    served, refused = run(AdaptiveRate(), Bucket(tier), workers=32, seconds=600)
    assert served >= 0.97 * tier * 600
    assert refused <= 32 + 0.015 * served  # the first burst, and a few when it tries a higher rate


def test_a_higher_limit_is_found() -> None:
    adaptive, server = AdaptiveRate(), Bucket(2.0)
    run(adaptive, server, workers=32, seconds=60)
    assert adaptive.rate == pytest.approx(2.0, rel=0.1)
    higher = Bucket(10.0)
    served, _ = run(adaptive, higher, workers=32, seconds=900)
    assert adaptive.rate == pytest.approx(10.0, rel=0.1)
    assert served >= 0.5 * 10.0 * 900


def test_a_server_without_a_limit_removes_the_rate() -> None:
    adaptive = AdaptiveRate()
    for _ in range(4):
        adaptive.start(0.0)
    adaptive.refused(0.1, started=0.0, delay=1.0)
    run(adaptive, Bucket(1e9), workers=64, seconds=900, latency=0.01, until_free=True)
    assert adaptive.free


@pytest.mark.parametrize("retry_after", [0.1, 0.25, 1.0])
@pytest.mark.parametrize("latency", [0.005, 0.1, 0.5])
@pytest.mark.parametrize(
    ("storm", "rate", "times_ideal"),
    [(4.0, 200.0, 3), (4.0, 1e9, 4), (8.0, 20.0, 2), (8.0, 2.0, 1.2)],
)
def test_after_a_storm_the_rate_is_found_in_seconds(
    storm: float, rate: float, times_ideal: float, latency: float, retry_after: float
) -> None:
    seconds, max_attempts = gather(1000, Storm(storm, Bucket(rate)), latency=latency, retry_after=retry_after)
    assert seconds <= times_ideal * (storm + 1000 / rate)
    assert max_attempts <= 4


@pytest.mark.parametrize("burst", [1.0, 5.0])
def test_after_a_storm_the_rate_of_a_server_without_bursts_is_found(burst: float) -> None:
    seconds, _ = gather(1000, Storm(8.0, Bucket(20.0, burst)), latency=0.1, retry_after=0.25)
    assert seconds <= 2 * (8 + 1000 / 20)


def test_the_rate_is_remembered_during_a_storm() -> None:
    server = Storm(20.0, Bucket(10.0), start=120.0)
    adaptive = AdaptiveRate()
    served, refused = run(adaptive, server, workers=32, seconds=240)
    assert adaptive.rate == pytest.approx(10.0, rel=0.1)
    assert served >= 0.93 * 10.0 * 220
    assert refused <= 32 + 20 + 0.02 * served
