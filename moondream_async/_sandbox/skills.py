"""The five skills on a `Scene`: every word and number is computed from the pixels."""

from __future__ import annotations

import re
from typing import Any

import attrs

from . import json_answers
from .pixels import ALIASES, COLORS, Region, Scene

_COARSE_TOLERANCE, _FINE_TOLERANCE = 4.0, 1.1  # maximum error of an outline in grid cells
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


@attrs.frozen
class Segmentation:
    """A region's box and outline; the coarse and refined SVG paths are relative to the box."""

    box: dict[str, float] | None
    coarse: str
    refined: str


def caption(scene: Scene, length: str) -> str:
    """Describe the image: size, background, colors, regions."""
    regions = scene.regions
    if not regions:
        return f"A plain {scene.background} image, {scene.width} by {scene.height} pixels."
    if length == "short":
        return f"{_list_regions(scene, regions[:3])} on a {scene.background} background.".capitalize()
    text = (
        f"An image of {scene.width} by {scene.height} pixels with a {scene.background} background. "
        f"It shows {_count(len(regions), 'region')}: {_list_regions(scene, regions[:6], positions=True)}."
    )
    if length == "long":
        shares = ", ".join(f"{name} {share:.0%}" for name, share in scene.colors[:5])
        text += f" By area the colors are {shares}."
        text += f" The largest region covers {regions[0].share:.1%} of the image."
    return text


def find_regions(scene: Scene, words: str, refs: list[list[float]] | None = None) -> list[Region]:
    """Return the regions that match the words and the spatial references, largest first."""
    colors = _colors_in(words)
    regions = [r for r in scene.regions if not colors or r.color in colors]
    if refs:
        regions = [r for r in regions if any(_touches(r, ref) for ref in refs)]
    return regions


def answer(scene: Scene, question: str, refs: list[list[float]] | None = None) -> tuple[str, list[Region]]:
    """Return the answer to a question, and the regions that it is about."""
    question, schema = json_answers.split_question(question)
    question = question.lower()
    regions = find_regions(scene, question, refs)
    if schema is not None:
        return json_answers.answer(schema, scene, regions), regions
    colors = _colors_in(question)
    noun = f"{' or '.join(colors)} region" if colors else "region"
    if "how many" in question or "count" in question:
        return f"{_count(len(regions), noun)}.".capitalize(), regions
    if re.match(r"\s*(is|are|does|do|can)\b", question) and scene.background in colors and not regions:
        return f"Yes, the background is {scene.background}.", regions
    if re.match(r"\s*(is|are|does|do|can)\b", question) and colors:
        return f"{'Yes' if regions else 'No'}, there {_verb(len(regions))} {_count(len(regions), noun)}.", regions
    if "where" in question:
        listed = "; ".join(f"{_describe(scene, r)} {_position(r)}" for r in regions[:6])
        return (f"{listed}.".capitalize() if listed else f"There is no {noun}."), regions
    if "colo" in question and (not refs or regions):
        names = [r.color for r in regions] if refs else [name for name, share in scene.colors if share > 0.005]
        return f"{', '.join(dict.fromkeys(names))}.".capitalize(), regions
    if re.search(r"how (big|large)|\bsize\b|resolution", question):
        return f"{scene.width} by {scene.height} pixels.", regions
    if refs:
        return (
            f"{_list_regions(scene, regions[:3])}.".capitalize() if regions else f"{scene.background} background."
        ), regions
    return caption(scene, "normal"), regions


def answer_text_only(question: str) -> str:
    """Return the answer to a question without an image."""
    words = len(question.split())
    return f"No image came with the question of {_count(words, 'word')}; this sandbox can only look at pixels."


def reasoning(scene: Scene, regions: list[Region]) -> dict[str, Any]:
    """Return the `reasoning` field, with each region grounded at its center."""
    text = f"The border is mostly {scene.background}, so that is the background."
    grounding: list[dict[str, Any]] = []
    for region in regions[:6]:
        text += " I see "
        name = _describe(scene, region)
        grounding.append({"start_idx": len(text), "end_idx": len(text) + len(name), "points": [list(region.center)]})
        text += f"{name}."
    return {"text": text, "grounding": grounding}


def segment(regions: list[Region]) -> Segmentation:
    """Return the outline of the first (largest) region; empty paths if there are no regions."""
    if not regions:
        return Segmentation(None, "", "")
    region = regions[0]
    return Segmentation(region.box, _path(region, _COARSE_TOLERANCE), _path(region, _FINE_TOLERANCE))


def _path(region: Region, tolerance: float) -> str:
    left, top, right, bottom = region.bounds
    parts: list[str] = []
    for loop in region.outline(tolerance):
        points = [f"{_format((x - left) / (right - left))} {_format((y - top) / (bottom - top))}" for x, y in loop]
        parts.append("M " + " L ".join(points) + " Z")
    return " ".join(parts)


def _format(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") or "0"


def _colors_in(words: str) -> list[str]:
    tokens: list[str] = re.findall(r"[a-z]+", words.lower())
    return list(dict.fromkeys(ALIASES.get(w, w) for w in tokens if w in COLORS or w in ALIASES))


def _touches(region: Region, ref: list[float]) -> bool:
    if len(ref) == 2:
        return region.contains(ref[0], ref[1])
    box, (x, y) = region.box, region.center
    center_inside = ref[0] <= x <= ref[2] and ref[1] <= y <= ref[3]
    disjoint = box["x_max"] < ref[0] or box["x_min"] > ref[2] or box["y_max"] < ref[1] or box["y_min"] > ref[3]
    return center_inside or not disjoint


def _list_regions(scene: Scene, regions: list[Region], *, positions: bool = False) -> str:
    names = [_describe(scene, r) + (f" {_position(r)}" if positions else "") for r in regions]
    return ", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]


def _describe(scene: Scene, region: Region) -> str:
    article = "an" if region.color[0] in "aeiou" else "a"
    return f"{article} {region.color} {region.shape(scene.width, scene.height)}"


def _position(region: Region) -> str:
    x, y = region.center
    across = "left" if x < 0.4 else "right" if x > 0.6 else ""
    down = "top" if y < 0.4 else "bottom" if y > 0.6 else ""
    return f"at the {down} {across}".replace("  ", " ").rstrip() if across or down else "in the middle"


def _count(number: int, noun: str) -> str:
    word = _NUMBERS[number] if number < len(_NUMBERS) else str(number)
    return f"{word} {noun}" if number == 1 else f"{word} {noun}s"


def _verb(number: int) -> str:
    return "is" if number == 1 else "are"
