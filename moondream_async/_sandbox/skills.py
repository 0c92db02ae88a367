"""The five skills over a `Scene`: every word and number is read off the pixels."""

from __future__ import annotations

import re
from typing import Any

import attrs

from .pixels import ALIASES, COLORS, Region, Scene

_COARSE, _FINE = 4.0, 1.1  # grid cells that an outline may be off, before and after refinement
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@attrs.frozen
class Segmentation:
    """An outline relative to its box, coarse and refined."""

    box: dict[str, float] | None
    coarse: str
    refined: str


def caption(scene: Scene, length: str) -> str:
    """A readable description: size, background, colours, regions."""
    regions = scene.regions
    if not regions:
        return f"A plain {scene.background} image, {scene.width} by {scene.height} pixels."
    if length == "short":
        return f"{_listing(scene, regions[:3])} on a {scene.background} background.".capitalize()
    text = (
        f"An image of {scene.width} by {scene.height} pixels with a {scene.background} background. "
        f"It shows {_count(len(regions), 'region')}: {_listing(scene, regions[:6], places=True)}."
    )
    if length == "long":
        shares = ", ".join(f"{name} {share:.0%}" for name, share in scene.colors[:5])
        text += f" By area the colours are {shares}."
        text += f" The largest region covers {regions[0].share:.1%} of the image."
    return text


def find(scene: Scene, words: str, refs: list[list[float]] | None = None) -> list[Region]:
    """The regions that the words (and the spatial references) mean, largest first."""
    colors = _colors_in(words)
    found = [r for r in scene.regions if not colors or r.color in colors]
    if refs:
        found = [r for r in found if any(_touches(r, ref) for ref in refs)]
    return found


def answer(scene: Scene, question: str, refs: list[list[float]] | None = None) -> tuple[str, list[Region]]:
    """An answer to the question, and the regions it speaks of."""
    asked = question.lower()
    found = find(scene, asked, refs)
    colors = _colors_in(asked)
    thing = f"{' or '.join(colors)} region" if colors else "region"
    if "how many" in asked or "count" in asked:
        return f"{_count(len(found), thing)}.".capitalize(), found
    if re.match(r"\s*(is|are|does|do|can)\b", asked) and scene.background in colors and not found:
        return f"Yes, the background is {scene.background}.", found
    if re.match(r"\s*(is|are|does|do|can)\b", asked) and colors:
        return f"{'Yes' if found else 'No'}, there {_is(len(found))} {_count(len(found), thing)}.", found
    if "where" in asked:
        places = "; ".join(f"{_name(scene, r)} {_place(r)}" for r in found[:6])
        return (f"{places}.".capitalize() if places else f"There is no {thing}."), found
    if "colo" in asked and (not refs or found):
        names = [r.color for r in found] if refs else [name for name, share in scene.colors if share > 0.005]
        return f"{', '.join(dict.fromkeys(names))}.".capitalize(), found
    if re.search(r"how (big|large)|\bsize\b|resolution", asked):
        return f"{scene.width} by {scene.height} pixels.", found
    if refs:
        return (f"{_listing(scene, found[:3])}.".capitalize() if found else f"{scene.background} background."), found
    return caption(scene, "normal"), found


def answer_text_only(question: str) -> str:
    """The answer when there is no image to look at."""
    words = len(question.split())
    return f"No image came with the question of {_count(words, 'word')}; this sandbox can only look at pixels."


def reasoning(scene: Scene, regions: list[Region]) -> dict[str, Any]:
    """How the answer was found, in the wire's form, each region grounded at its centre."""
    text = f"The border is mostly {scene.background}, so that is the background."
    grounding: list[dict[str, Any]] = []
    for region in regions[:6]:
        text += " I see "
        name = _name(scene, region)
        grounding.append({"start_idx": len(text), "end_idx": len(text) + len(name), "points": [list(region.center)]})
        text += f"{name}."
    return {"text": text, "grounding": grounding}


def segment(regions: list[Region]) -> Segmentation:
    """The outline of the largest of the regions; an empty path when there is none."""
    if not regions:
        return Segmentation(None, "", "")
    region = regions[0]
    return Segmentation(region.box, _path(region, _COARSE), _path(region, _FINE))


def _path(region: Region, tolerance: float) -> str:
    left, top, right, bottom = region.bounds
    parts: list[str] = []
    for loop in region.outline(tolerance):
        points = [f"{_short((x - left) / (right - left))} {_short((y - top) / (bottom - top))}" for x, y in loop]
        parts.append("M " + " L ".join(points) + " Z")
    return " ".join(parts)


def _short(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") or "0"


def _colors_in(words: str) -> list[str]:
    found: list[str] = re.findall(r"[a-z]+", words.lower())
    return list(dict.fromkeys(ALIASES.get(w, w) for w in found if w in COLORS or w in ALIASES))


def _touches(region: Region, ref: list[float]) -> bool:
    if len(ref) == 2:
        return region.contains(ref[0], ref[1])
    box, (x, y) = region.box, region.center
    center_inside = ref[0] <= x <= ref[2] and ref[1] <= y <= ref[3]
    apart = box["x_max"] < ref[0] or box["x_min"] > ref[2] or box["y_max"] < ref[1] or box["y_min"] > ref[3]
    return center_inside or not apart


def _listing(scene: Scene, regions: list[Region], *, places: bool = False) -> str:
    names = [_name(scene, r) + (f" {_place(r)}" if places else "") for r in regions]
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]


def _name(scene: Scene, region: Region) -> str:
    article = "an" if region.color[0] in "aeiou" else "a"
    return f"{article} {region.color} {region.shape(scene.width, scene.height)}"


def _place(region: Region) -> str:
    x, y = region.center
    across = "left" if x < 0.4 else "right" if x > 0.6 else ""
    down = "top" if y < 0.4 else "bottom" if y > 0.6 else ""
    return f"at the {down} {across}".replace("  ", " ").rstrip() if across or down else "in the middle"


def _count(number: int, noun: str) -> str:
    word = _NUMBERS[number] if number < len(_NUMBERS) else str(number)
    return f"{word} {noun}" if number == 1 else f"{word} {noun}s"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"
