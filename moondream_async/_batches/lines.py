"""Build the lines of batches from items."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, TypeAlias, cast

import anyio.lowlevel
import attrs

from .._api import ApiClient
from .._bulk import records
from .._bulk.budget import Budget
from .._bulk.estimates import usage
from .._bulk.item_ids import identify
from .._bulk.items import Item
from .._bulk.map import AsyncMap, numbered
from .._bulk.stopping import StopPolicy
from .._concurrency.gather import gather
from .._images.encoded import EncodedImage
from .._images.source_names import with_item
from .._wire.checks import is_sequence
from ..errors import ConfigurationError, MoondreamError
from . import wire
from .job.folder import SubmittedItems
from .job.manifest import Entry

_CONCURRENCY = 8  # images being prepared, or prepared and not yet written
_CHECKPOINT_INTERVAL = 50  # skipped items after which other tasks may run
_ROOM = wire.MAX_LINE_SIZE - 64 * 1024  # bytes of a line for its images

BuiltLine: TypeAlias = tuple[Entry, bytes]
"""An item's entry and its line. The line is empty if the item was rejected."""


@attrs.frozen(eq=False)
class PositionedItem(Item):
    """An item with its position in the job. Its `index` counts only the items that need a new line."""

    position: int = 0


class LineBuilder:
    """Builds one line per item. It keeps no state, and does no I/O except for loading images.

    Args:
        api: Prepares images. They are made smaller if they would not fit in a line.
        skill: The skill to run on every item.
        arguments: The skill's arguments for every item.

    Raises:
        ConfigurationError: Batches do not support the skill or an argument.
    """

    def __init__(self, api: ApiClient, skill: object, arguments: Mapping[str, Any]) -> None:
        self.skill = wire.check_skill(skill)
        self.arguments = wire.arguments(self.skill, arguments, complete=False)
        wire.line(self.skill, self.arguments, [b""], "")  # raises for values that JSON cannot hold
        _check_key(Entry(0, "", self.skill, self.arguments))
        self._api = api

    def entry(self, item: Item, position: int, size: tuple[int, int] | None = None) -> Entry:
        """Return the entry that describes the item's line."""
        return Entry(position, item.id, self.skill, {**self.arguments, **item.arguments}, size)

    def checked(self, item: Item) -> Item:
        """Return the item, or one that will be rejected if its id or arguments cannot be serialized."""
        try:
            _check_key(self.entry(item, item.index))
        except ConfigurationError as exc:
            return Item(item.index, f"#{item.index}", None, {}, exc)
        return item

    async def build(self, item: PositionedItem) -> tuple[BuiltLine, MoondreamError | None]:
        """Build an item's line, or return the error that explains why it cannot be built."""
        try:
            if item.problem is not None:
                raise item.problem
            fields = wire.arguments(self.skill, {**self.arguments, **item.arguments})
            images = await self._encode(item.image)
            line = wire.line(self.skill, fields, [_base64(image) for image in images], item.id)
        except MoondreamError as exc:
            return (self.entry(item, item.position), b""), with_item(exc, item.id)
        size = images[0].original_size if len(images) == 1 else None
        return (self.entry(item, item.position, size), line), None

    async def _encode(self, image: Any) -> list[EncodedImage]:
        if is_sequence(image) and self.skill != "query":
            raise ConfigurationError(f"{self.skill} takes one image; only query takes several.")
        images = image if is_sequence(image) else [image]
        if not images:
            raise ConfigurationError("The list of images is empty.")
        limit = _ROOM // len(images) // 4 * 3
        options = self._api.settings.image_options
        options = options.evolve(max_bytes=max(1, min(limit, options.max_bytes)))
        return await gather(lambda image: self._api.encode_image(image, options), images)


@attrs.frozen(eq=False)
class ItemSource:
    """Lines that are built from items.

    Attributes:
        items: All items of the job.
        builder: Builds the line of each.
        max_failures: How many items may fail; None for any number.
        budget: The limit on what all lines may cost; None for no limit.
    """

    items: Iterable[Any] | AsyncIterable[Any]
    builder: LineBuilder
    max_failures: int | None = None
    budget: Budget | None = None

    def lines(self, submitted: SubmittedItems, previous_position: Callable[[bytes], int | None]) -> AsyncMap[BuiltLine]:
        """Build the lines of all new items, several at once.

        Args:
            submitted: The items that already have lines.
            previous_position: Return the position of an item that was rejected before, by its key.

        Returns:
            An outcome per new item: its line, or its error. `cost_limit_reached` says whether the budget excluded
            items.
        """
        expected = usage({self.builder.skill: self.builder.arguments})
        if self.budget is not None:
            self.budget.spend([expected], items=submitted.keys.total())

        async def build(item: Item) -> tuple[BuiltLine, int, MoondreamError | None]:
            line, error = await self.builder.build(cast("PositionedItem", item))
            if self.budget is not None and error is None:
                self.budget.spend([expected])
            return line, 0, error

        return AsyncMap(
            self.new_items(submitted, previous_position),
            build,
            concurrency=_CONCURRENCY,
            ordered=False,
            policy=StopPolicy(self.max_failures, stop_on_auth_error=False),
            budget=self.budget,
        )

    async def new_items(
        self, submitted: SubmittedItems, previous_position: Callable[[bytes], int | None]
    ) -> AsyncGenerator[PositionedItem]:
        """Yield the items that have no line yet, with their ids. The arguments are those of `lines`."""
        async with aclosing(numbered(self.items)) as items:
            async for index, raw in items:
                item = self.builder.checked(await identify(index, raw))
                key = self.builder.entry(item, index).key
                previous = previous_position(key)
                if submitted.take(key):
                    if not index % _CHECKPOINT_INTERVAL:  # with a list, nothing else here yields to the event loop
                        await anyio.lowlevel.checkpoint()
                    continue
                fields = {field.name: getattr(item, field.name) for field in attrs.fields(Item)}
                yield PositionedItem(**fields, position=submitted.assign(index) if previous is None else previous)


async def check_first_item(
    items: Iterable[Any] | AsyncIterable[Any], builder: LineBuilder
) -> Iterable[Any] | AsyncIterable[Any]:
    """Check that there are items, and that the first one has the argument that the skill requires.

    An iterator is read only if the arguments of the whole job lack the required one.

    Returns:
        All items, the first one included.

    Raises:
        ConfigurationError: There are no items, or the first one lacks the argument.
    """
    if is_sequence(items):
        await _check_first(items[:1], builder)
        return items
    if wire.missing(builder.skill, builder.arguments) is None:
        return items
    rest = numbered(items)
    try:
        first = await anext(rest, None)
        await _check_first([] if first is None else [first[1]], builder)
    except BaseException:
        await rest.aclose()
        raise
    return _chained(first, rest)


async def _check_first(first: Sequence[Any], builder: LineBuilder) -> None:
    if not first:
        raise ConfigurationError("There are no items.")
    name = wire.missing(builder.skill, builder.entry(await identify(0, first[0]), 0).arguments)
    if name is not None:
        raise ConfigurationError(f"{builder.skill} needs {name}=...")


def _check_key(entry: Entry) -> None:
    try:
        _ = entry.key
    except records.UNWRITABLE as exc:
        raise ConfigurationError(f"The id and arguments cannot be used: {exc}.") from None


async def _chained(first: tuple[int, Any] | None, rest: AsyncGenerator[tuple[int, Any]]) -> AsyncGenerator[Any]:
    async with aclosing(rest):
        if first is not None:
            yield first[1]
        async for _, raw in rest:
            yield raw


def _base64(image: EncodedImage) -> bytes:
    return image.uri.partition(b",")[2]
