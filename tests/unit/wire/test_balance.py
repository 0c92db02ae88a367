"""Which of several servers gets the next call; and 64 simulated Stations behind one client."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable

import attrs
import pytest

from moondream_async._wire.balance import Balancer, ServerState


def balancer(*servers: ServerState) -> Balancer:
    return Balancer(servers, random.Random(1))


def test_fewest_in_flight():
    servers = [ServerState() for _ in range(3)]
    chosen = []
    for now in range(6):
        index, _ = balancer(*servers).choose(now)
        assert index is not None
        servers[index].started(now)
        chosen.append(index)
    assert sorted(chosen) == [0, 0, 1, 1, 2, 2]
    servers[1].ended()
    assert balancer(*servers).choose(9.0) == (1, 0.0)


def test_failure_rests_and_is_probed_with_one_call():
    ill, well = ServerState(), ServerState()
    choose = balancer(ill, well).choose
    ill.started(10.0)
    ill.ended()
    ill.failed(10.0, started=10.0)
    assert not ill.is_healthy
    for _ in range(5):
        assert choose(10.1) == (1, 0.0)
        well.started(10.1)
    assert choose(10.3) == (0, 0.0)  # the probe
    ill.started(10.3)
    assert choose(10.3) == (1, 0.0)  # and no other call until it ends
    ill.ended()
    ill.failed(10.4, started=10.3)
    assert ill.wait(10.4) == pytest.approx(0.5)  # twice as long
    ill.started(11.0)
    ill.succeeded()
    ill.ended()
    assert ill.is_healthy
    assert choose(11.0) == (0, 0.0)


def test_rest_is_bounded():
    server = ServerState()
    for now in range(0, 1000, 10):
        server.failed(float(now), started=float(now))
    assert 0 < server.wait(990.0) <= 5


def test_calls_that_fail_together_count_once():
    server = ServerState()
    for _ in range(100):
        server.failed(10.0, started=5.0)
    assert server.failures == 100
    assert server.wait(10.0) <= 0.5


def test_if_none_is_healthy_none_rests():
    """The retries of each call decide when to give up."""
    servers = [ServerState(), ServerState()]
    for server in servers:
        server.failed(10.0, started=10.0)
    index, wait = balancer(*servers).choose(10.0)
    assert index is not None
    assert wait == 0


def test_full_queue_limits_the_calls_at_a_time():
    full, other = ServerState(), ServerState()
    for _ in range(12):
        full.started(1.0)
    full.ended()  # the refused one
    full.queue_was_full(1.0, delay=9.0)
    assert full.wait(1.0) == math.inf
    full.ended()
    assert full.wait(1.0) == 0
    assert balancer(full, other).choose(1.0) == (1, 0.0)


def test_queue_that_others_fill():
    full, other = ServerState(), ServerState()
    full.started(1.0)
    full.ended()
    full.queue_was_full(1.0, delay=0.5)
    assert balancer(full, other).choose(1.1) == (1, 0.0)
    assert full.wait(1.6) == 0


def test_refused_server_waits_as_it_asked():
    refusing, other = ServerState(), ServerState()
    refusing.started(1.0)
    refusing.ended()
    refusing.refused(1.0, started=1.0, delay=3.0)
    assert refusing.wait(2.0) == pytest.approx(2.0)
    assert balancer(refusing, other).choose(2.0) == (1, 0.0)
    other.started(2.0)
    other.refused(2.0, started=2.0, delay=1.0)
    index, wait = balancer(refusing, other).choose(2.0)
    assert index is None
    assert wait == pytest.approx(1.0, abs=0.1)


def test_has_other():
    first, second = ServerState(), ServerState()
    both = balancer(first, second)
    assert both.has_other(0, 1.0)
    second.failed(1.0, started=1.0)
    assert not both.has_other(0, 1.0)
    assert both.has_other(1, 1.0)


@attrs.define
class Station:
    """A simulated Station: one worker, a queue of 10, and a speed."""

    seconds: float
    queued: int = 0
    free_at: float = 0.0
    done: int = 0
    alive: Callable[[float], bool] = attrs.field(default=lambda _: True)


@attrs.define
class Outcome:
    done: int = 0
    refused: int = 0
    failed: int = 0
    lost: int = 0


def simulate(stations: list[Station], *, in_flight: int, seconds: float) -> Outcome:
    """Keep calls in flight over all stations, as a client does; return their outcome."""
    states = [ServerState() for _ in stations]
    chooser = Balancer(states, random.Random(1))
    outcome, waiting, ends, serial, now = Outcome(), in_flight, list[tuple[float, int, int, float, bool]](), 0, 0.0
    while now < seconds:
        while waiting:
            index, _ = chooser.choose(now)
            if index is None:
                break
            waiting -= 1
            serial += 1
            station, state = stations[index], states[index]
            state.started(now)
            if not station.alive(now):
                heapq.heappush(ends, (now + 0.002, serial, index, now, False))
            elif station.queued >= 11:
                state.ended()
                state.queue_was_full(now, delay=0.5)
                outcome.refused += 1
                waiting += 1
            else:
                station.queued += 1
                station.free_at = max(station.free_at, now) + station.seconds
                heapq.heappush(ends, (station.free_at, serial, index, now, True))
        if not ends:
            now += 0.01
            continue
        now, _, index, started, was_alive = heapq.heappop(ends)
        station, state = stations[index], states[index]
        if was_alive:
            station.queued -= 1
        state.ended()
        if was_alive and station.alive(now):
            state.succeeded()
            station.done += 1
            outcome.done += 1
        else:
            state.failed(now, started=started)
            outcome.failed += 1
        waiting += 1  # the next call, or the same one again
    outcome.lost = in_flight - waiting - len(ends)
    return outcome


@pytest.mark.parametrize("in_flight", [64, 128, 256, 1000])
def test_64_stations_of_different_speed(in_flight: int):
    dice = random.Random(7)
    stations = [Station(dice.uniform(0.1, 2.0)) for _ in range(64)]
    outcome = simulate(stations, in_flight=in_flight, seconds=120.0)
    possible = sum(120.0 / station.seconds for station in stations)
    assert outcome.done >= 0.95 * possible
    assert outcome.refused <= 0.02 * outcome.done
    assert outcome.failed == outcome.lost == 0


def test_stations_that_die_and_come_back():
    """Those that are well do nearly all they can, and those that come back are used again."""
    dice = random.Random(7)
    stations = [Station(dice.uniform(0.1, 1.0)) for _ in range(16)]
    for station in stations[:4]:
        station.alive = lambda now: not 30.0 <= now < 60.0
    outcome = simulate(stations, in_flight=160, seconds=120.0)
    possible = sum((90.0 if index < 4 else 120.0) / station.seconds for index, station in enumerate(stations))
    assert outcome.done >= 0.9 * possible
    assert outcome.lost == 0
    assert outcome.failed <= 0.05 * outcome.done
    assert all(station.done for station in stations[:4])
