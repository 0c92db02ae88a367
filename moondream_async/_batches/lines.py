"""Items -> lines of a batch: the images prepared by the image room, off the loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol, cast

import anyio.lowlevel
import attrs

from .._bulk import records
from .._bulk.item_ids import named
from .._bulk.items import Item
from .._bulk.map import numbered
from .._concurrency.gather import gather
from .._images.encoded import EncodedImage
from .._images.options import ImageOptions
from .._images.source_names import with_item
from ..errors import ConfigurationError, MoondreamError
from . import wire
from .job.folder import SubmittedItems
from .job.manifest import Entry

_A_TURN = 50  # items that the job has already, after which others have their turn
_ROOM = wire.LARGEST_LINE - 64 * 1024  # bytes of a line for its images


class Encodes(Protocol):
    """An `AsyncClient`, as far as lines need it."""

    async def encode_image(self, image: Any, image_options: ImageOptions | None = None) -> EncodedImage:
        """Prepare an image."""
        ...


@attrs.frozen(eq=False)
class Placed(Item):
    """An item with its place among all that were given; `index` counts those that are worked on."""

    place: int = 0


class LineBuilder:
    """Makes the line of each item.

    Args:
        client: Prepares images.
        skill: What is asked of every item.
        arguments: The skill's own.
        options: How images are prepared; smaller, if a line could not hold them.

    Raises:
        ConfigurationError: Batches do not know the skill, or an argument.
    """

    def __init__(self, client: Encodes, skill: object, arguments: Mapping[str, Any], options: ImageOptions) -> None:
        self.skill = wire.check_skill(skill)
        self.arguments = wire.arguments(self.skill, arguments, complete=False)
        wire.line(self.skill, self.arguments, [b""], "")  # refuses what JSON cannot hold
        _check_key(Entry(0, "", self.skill, self.arguments))
        self._client = client
        self._options = options

    async def check_first(self, items: Iterable[Any] | AsyncIterable[Any]) -> Iterable[Any] | AsyncIterable[Any]:
        """Check that there are items, and that the first one has what the skill needs.

        Returns:
            All of the items.

        Raises:
            ConfigurationError: There are none, or it lacks an argument.
        """
        if isinstance(items, (list, tuple)):
            given = cast("Sequence[Any]", items)
            await self._check(given[:1])
            return given
        if wire.missing(self.skill, self.arguments) is None:
            return items
        each = numbered(items)
        try:
            found = await anext(each, None)
            await self._check([] if found is None else [found[1]])
        except BaseException:
            await each.aclose()
            raise
        return _chained(found, each)

    async def _check(self, first: Sequence[Any]) -> None:
        if not first:
            raise ConfigurationError("There are no items.")
        name = wire.missing(self.skill, self.entry(await named(0, first[0]), 0).arguments)
        if name is not None:
            raise ConfigurationError(f"{self.skill} needs {name}=...")

    async def fresh(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        known: SubmittedItems,
        came_round: Callable[[bytes], int | None],
    ) -> AsyncGenerator[Item]:
        """The items that have no lines yet, with their ids.

        Args:
            items: All.
            known: Those that have.
            came_round: Is told of each; says which place it had, if it was refused before.

        """
        async with aclosing(numbered(items)) as all_items:
            async for place, raw in all_items:
                item = self._writable(await named(place, raw))
                entry = self.entry(item, place)
                kept = came_round(entry.key)
                if known.take(entry.key):
                    if not place % _A_TURN:  # of a list, nothing else here waits
                        await anyio.lowlevel.checkpoint()
                    continue
                fields = {field.name: getattr(item, field.name) for field in attrs.fields(Item)}
                yield Placed(**fields, place=known.place(place) if kept is None else kept)

    def entry(self, item: Item, place: int, size: tuple[int, int] | None = None) -> Entry:
        """What a line of the item is of."""
        return Entry(place, item.id, self.skill, {**self.arguments, **item.arguments}, size)

    def _writable(self, item: Item) -> Item:
        """Return the item, or one that will be refused if its id and arguments cannot be written down."""
        try:
            _check_key(self.entry(item, item.index))
        except ConfigurationError as exc:
            return Item(item.index, f"#{item.index}", None, {}, exc)
        return item

    async def __call__(self, item: Item) -> tuple[tuple[Entry, bytes], int, MoondreamError | None]:
        """The item's entry and line; the line is empty, and the error says why, if there can be none."""
        place = cast("Placed", item).place
        try:
            if item.problem is not None:
                raise item.problem
            fields = wire.arguments(self.skill, {**self.arguments, **item.arguments})
            images = await self._images(item.image)
            line = wire.line(self.skill, fields, [_base64(image) for image in images], item.id)
        except MoondreamError as exc:
            return (self.entry(item, place), b""), 0, with_item(exc, item.id)
        size = images[0].original_size if len(images) == 1 else None
        return (self.entry(item, place, size), line), 0, None

    async def _images(self, given: Any) -> list[EncodedImage]:
        several = isinstance(given, (list, tuple))
        images: Sequence[Any] = cast("Sequence[Any]", given) if several else [given]
        if several and self.skill != "query":
            raise ConfigurationError(f"{self.skill} takes one image; only query takes several.")
        if not images:
            raise ConfigurationError("There is no image.")
        limit = _ROOM // len(images) // 4 * 3
        options = self._options.evolve(max_bytes=max(1, min(limit, self._options.max_bytes)))
        return await gather(lambda image: self._client.encode_image(image, options), images)


def _check_key(entry: Entry) -> None:
    try:
        _ = entry.key
    except records.UNWRITABLE as exc:
        problem = str(exc)
    else:
        return
    raise ConfigurationError(f"The id and arguments cannot be used: {problem}.")


async def _chained(first: tuple[int, Any] | None, rest: AsyncGenerator[tuple[int, Any]]) -> AsyncGenerator[Any]:
    async with aclosing(rest):
        if first is not None:
            yield first[1]
        async for _, raw in rest:
            yield raw


def _base64(image: EncodedImage) -> bytes:
    return image.uri.partition(b",")[2]
