"""Segment paths that are hard to fill, in coordinates 0..1 of their box."""

from __future__ import annotations

import math
import random


def _ring(count: int, radius: float = 0.48, waves: int = 0) -> str:
    points = []
    for step in range(count):
        angle = 2 * math.pi * step / count
        r = radius * (1 - 0.25 * math.sin(waves * angle) ** 2)
        points.append(f"{0.5 + r * math.cos(angle):.5f} {0.5 + r * math.sin(angle):.5f}")
    return f"M {' L '.join(points)} Z"


def _scribble(count: int) -> str:
    dice = random.Random(5)
    return "M" + " ".join(f"{dice.random():.3f} {dice.random():.3f}" for _ in range(count)) + "Z"


HARD = {
    "square": "M 0 0 L 1 0 L 1 1 L 0 1 Z",
    "relative": "m.1.1h.8v.8h-.8z",
    "no separators": "M.5.05.95.5.5.95.05.5z",
    "exponents": "M1e-1 1E-1L9e-1 1e-1 9.0e-1 .9 1e-1+9e-1z",
    "arcs": "M 0.5 0.02 A 0.48 0.48 0 0 1 0.98 0.5 A 0.48 0.3 0 0 1 0.5 0.98 A .48 .48 0 0 1 0.02 0.5 A .3 .48 30 0 1 .5 .02 Z",
    "arc flags together": "M.1.5a.4.4 0 01.4-.4a.4.4 0 11-.4.4z",
    "cubic": "M 0.05 0.5 C 0.05 -0.2 0.95 -0.2 0.95 0.5 S 0.05 1.2 0.05 0.5 Z",
    "quadratic": "M 0.05 0.5 Q 0.5 -0.4 0.95 0.5 T 0.05 0.5 Z m.3-.1q.1-.2.3 0t-.3.2z",
    "ring": _ring(64) + " " + _ring(64, 0.25),
    "two rings": _ring(64) + _ring(64, 0.4) + _ring(64, 0.3) + _ring(64, 0.1),
    "two parts": "M 0 0 H .4 V 1 H 0 Z M .6 0 H 1 V 1 H .6 Z",
    "open": "M 0.1 0.1 L 0.9 0.1 L 0.5 0.9",
    "self-crossing": "M 0.5 0.02 L 0.8 0.95 L 0.02 0.36 L 0.98 0.36 L 0.2 0.95 Z",
    "scribble": _scribble(60),
    "overlapping parts": "M 0 0 H .7 V .7 H 0 Z M .3 .3 H 1 V 1 H .3 Z",
    "outside its box": "M -.2 .2 H 1.2 V .8 H -.2 Z",
    "wavy": _ring(400, waves=9),
    "10,000 points": _ring(10_000, waves=40),
    "commas": "M0,0,1,0L1,1,0,1Z",
    "sliver": "M 0 0.5 L 1 0.49 L 1 0.51 Z",
}
