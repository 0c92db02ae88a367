"""Call a skill for each tile of an image, and merge the answers."""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import anyio
import anyio.to_thread
import attrs

from .._concurrency.gather import gather
from .._concurrency.loop_local import LoopLocal
from .._images.encoded import EncodedImage
from .._multi_label import merge_labels, merge_metadata
from .._wire.skills import DETECT, Skill
from ..errors import APIError, ConfigurationError, ImageError, MoondreamError, TilesError
from ..tiles import Tiles
from ..types import BoundingBox, Result, TileReport
from .cutting import CutImage
from .layout import Region
from .merging import merge_boxes, merge_points

R = TypeVar("R", bound=Result)

Ask: TypeAlias = Callable[[EncodedImage, str], Awaitable[Any]]
"""Calls the skill for an encoded image and a label."""
Cut: TypeAlias = Callable[[Any, Tiles], Awaitable[CutImage]]
"""Cuts an image into tiles."""

_MAX_IMAGES = 8  # cut at a time, in each event loop, as their encoded tiles are in memory
_MAX_MERGED_HERE = 1000  # boxes or points that are merged in the event loop, which takes some milliseconds
_SPLIT = 2  # columns and rows into which a tile with too many objects is cut
_FATAL_STATUSES = (401, 402, 403)  # other tiles would fail, too

_images: LoopLocal[anyio.CapacityLimiter] = LoopLocal(lambda: anyio.CapacityLimiter(_MAX_IMAGES))


@attrs.frozen(eq=False)
class _Found:
    """What was found in an image or a tile: boxes or points 0..1 of it, and the answers that they come from."""

    items: Sequence[Any]
    is_truncated: bool
    answers: Sequence[Result]
    problems: Sequence[MoondreamError] = ()


async def call_in_tiles(
    skill: Skill[R], image: Any, labels: Sequence[str], tiles: Tiles, ask: Ask, cut: Cut, *, has_labels: bool
) -> R:
    """Return the merged result of a skill for all tiles of an image.

    Args:
        skill: `detect` or `point`.
        image: Any image that the skills accept.
        labels: What to look for.
        tiles: The user's options.
        ask: Calls the skill.
        cut: Cuts an image.
        has_labels: Whether the user passed a list of labels.

    Raises:
        TilesError: Some tiles failed, and the options are strict.
        MoondreamError: All tiles failed, or one in a way that concerns all.
    """
    async with _images.get():
        started = time.monotonic()
        cut_image = await cut(image, tiles)
        call = _TiledCall(skill, tiles, ask, cut, cut_image)
        results = dict(zip(labels, await gather(call.find, labels), strict=True))
    elapsed = time.monotonic() - started
    merged: Any = merge_labels(skill, results) if has_labels else results[labels[0]]
    problems = call.failed
    report = TileReport(cut_image.columns, cut_image.rows, call.answers, tuple(problems))
    result: R = attrs.evolve(merged, tiles=report, meta=attrs.evolve(merged.meta, elapsed=elapsed))
    object.__setattr__(result, "_is_truncated", any(each.truncated for each in results.values()))
    if problems and tiles.strict:
        raise _tiles_error(result, problems, call.answers)
    return result


class _TiledCall:
    """One call of a user for an image in tiles.

    Attributes:
        answers: Number of answers so far.
        failed: The tiles that failed, as boxes 0..1 of the image, each with its error.
    """

    def __init__(self, skill: Skill[Any], tiles: Tiles, ask: Ask, cut: Cut, image: CutImage) -> None:
        self._skill = skill
        self._options = tiles
        self._ask = ask
        self._cut = cut
        self._image = image
        self.answers = 0
        self.failed: list[tuple[BoundingBox, MoondreamError]] = []

    async def find(self, label: str) -> Any:
        """Find a label in all tiles and the whole image; return the merged result."""
        image = self._image
        spare = _Spare(self._options.max_tiles - len(image.tiles))
        pieces: list[tuple[Region | None, EncodedImage]] = [*image.tiles]
        if image.whole is not None:
            pieces.append((None, image.whole))

        async def find_in(piece: tuple[Region | None, EncodedImage]) -> _Found | MoondreamError:
            region, encoded = piece
            depth = self._options.splits if region is not None else 0
            try:
                return await self._find(encoded, label, depth, spare)
            except (ConfigurationError, ImageError):
                raise
            except MoondreamError as exc:
                if isinstance(exc, APIError) and exc.status in _FATAL_STATUSES:
                    raise
                return exc

        found = await gather(find_in, pieces)
        answered = [each for each in found if isinstance(each, _Found)]
        if not answered:
            raise next(each for each in found if isinstance(each, MoondreamError))
        for (region, _), each in zip(pieces, found, strict=True):
            problems = [each] if isinstance(each, MoondreamError) else each.problems
            self.failed += [(_as_box(region, image.size), problem) for problem in problems]
        return await self._merged([(region, each) for (region, _), each in zip(pieces, found, strict=True)])

    async def _merged(self, found: Sequence[tuple[Region | None, _Found | MoondreamError]]) -> Any:
        image = self._image
        answered = [(region, each) for region, each in found if isinstance(each, _Found)]
        whole = next((each.items for region, each in answered if region is None), ())
        in_tiles = [(region, each) for region, each in answered if region is not None]
        items: Sequence[Any] = whole
        if in_tiles:
            items = await _merge(self._skill, image.size, [(region, each.items) for region, each in in_tiles], whole)
        answers = [answer for _, each in answered for answer in each.answers]
        result = _new(self._skill, items, answers, image.original_size)
        truncated = any(each.is_truncated for _, each in in_tiles) if in_tiles else answered[0][1].is_truncated
        object.__setattr__(result, "_is_truncated", truncated)
        return result

    async def _find(self, image: EncodedImage, label: str, depth: int, spare: _Spare) -> _Found:
        """Find a label in a tile; if its answer is truncated, in parts of it, too."""
        answer = await self._ask(image, label)
        self.answers += 1
        items: Sequence[Any] = getattr(answer, self._skill.field)
        if not answer.truncated or not depth or not spare.take(_SPLIT * _SPLIT):
            return _Found(items, answer.truncated, [answer])
        split = Tiles(_SPLIT, _SPLIT, overlap=self._options.overlap, whole=False)
        parts = await self._cut(image, split)

        async def find_in(part: tuple[Region, EncodedImage]) -> _Found | MoondreamError:
            try:
                return await self._find(part[1], label, depth - 1, spare)
            except MoondreamError as exc:
                return exc

        found = await gather(find_in, parts.tiles)
        in_parts = [
            (region, each) for (region, _), each in zip(parts.tiles, found, strict=True) if isinstance(each, _Found)
        ]
        if in_parts:
            boxes = [(region, each.items) for region, each in in_parts]
            items = await _merge(self._skill, parts.size, boxes, items)
        problems = [each for each in found if isinstance(each, MoondreamError)]
        return _Found(
            items,
            bool(problems) or any(each.is_truncated for _, each in in_parts),
            [answer, *(each for _, part in in_parts for each in part.answers)],
            [*problems, *(problem for _, part in in_parts for problem in part.problems)],
        )


@attrs.define(eq=False)
class _Spare:
    """How many more tiles are allowed."""

    tiles: int

    def take(self, count: int) -> bool:
        """Use some, if there are enough."""
        if count > self.tiles:
            return False
        self.tiles -= count
        return True


async def _merge(
    skill: Skill[Any],
    size: tuple[int, int],
    tiles: Sequence[tuple[Region, Sequence[Any]]],
    whole: Sequence[Any],
) -> Sequence[Any]:
    """Merge boxes or points; very many, in a worker thread."""
    merge: Callable[[], Sequence[Any]] = functools.partial(
        merge_boxes if skill is DETECT else merge_points, size, tiles, whole
    )
    if sum(len(items) for _, items in tiles) <= _MAX_MERGED_HERE:
        return merge()
    return await anyio.to_thread.run_sync(merge)


def _new(skill: Skill[Any], items: Sequence[Any], answers: Sequence[Result], size: tuple[int, int]) -> Any:
    metadata: dict[str, Any] = {**merge_metadata(answers), "image_size": size, "finish_reason": "stop"}
    make: Any = type(answers[0])
    return make(**{skill.field: tuple(items)}, **metadata)


def _as_box(region: Region | None, size: tuple[int, int]) -> BoundingBox:
    if region is None:
        return BoundingBox(0.0, 0.0, 1.0, 1.0)
    width, height = size
    return BoundingBox(region.left / width, region.top / height, region.right / width, region.bottom / height)


def _tiles_error(result: Any, failed: Sequence[tuple[BoundingBox, MoondreamError]], answers: int) -> TilesError:
    first = failed[0][1]
    error = TilesError(
        f"{len(failed)} of {len(failed) + answers} calls for tiles failed, the first one so: {first} The merged result "
        "of the others is in .partial; Tiles(strict=False) returns it.",
        partial=result,
        failed=list(failed),
    )
    error.attempts = max(each.attempts for _, each in failed)
    return error
