"""Items and skills of `map` (pure)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import attrs

from .._images.source_names import MAX_PATH_LENGTH, is_data_uri
from .._wire.skills import SKILLS
from ..errors import ConfigurationError, MoondreamError

if TYPE_CHECKING:
    from .._images.prepare import ImageInput

MapItem: TypeAlias = "ImageInput | tuple[Any, ImageInput] | tuple[Any, ImageInput, Mapping[str, Any]]"
"""An item of `map`: an image, `(id, image)`, or `(id, image, arguments)`. An item's arguments are merged over those of
the run."""

FullItem: TypeAlias = "tuple[Any, ImageInput, Mapping[str, Any]]"
"""An item with arguments of its own: `(id, image, arguments)`."""

SeveralSkills: TypeAlias = list[str] | tuple[str, ...] | Mapping[str, Mapping[str, Any]]
"""Several skills. Without `str`, which would let any string pass as a skill's name."""

Skills: TypeAlias = str | Sequence[str] | Mapping[str, Mapping[str, Any]]
"""One skill, several, or several with arguments of their own: `{"caption": {}, "detect": {"object": "face"}}`."""


@attrs.frozen(eq=False)
class Item:
    """The parts of an item."""

    index: int
    id: Any
    image: Any = attrs.field(repr=False)
    arguments: Mapping[str, Any]
    problem: MoondreamError | None = None  # set if the item cannot be processed


def read_item(index: int, item: Any) -> Item:
    """Split an item into its parts.

    Raises:
        ConfigurationError: The item is a tuple of the wrong shape.
    """
    if isinstance(item, Item):
        return attrs.evolve(item, index=index)
    if not isinstance(item, tuple):
        return Item(index, _default_id(index, item), item, {})
    parts = cast("tuple[Any, ...]", item)
    if len(parts) == 2:
        return Item(index, parts[0], parts[1], {})
    if len(parts) == 3 and isinstance(parts[2], Mapping):
        return Item(index, parts[0], parts[1], cast("Mapping[str, Any]", parts[2]))
    raise ConfigurationError(
        f"Item {index} must be an image, (id, image) or (id, image, arguments), not a tuple of {len(parts)}."
    )


def read_skills(skills: object) -> dict[str, Mapping[str, Any]]:
    """Return the skills, each with its own arguments.

    Raises:
        ConfigurationError: A skill is unknown, or no skill is named.
    """
    if isinstance(skills, str):
        arguments: dict[str, Mapping[str, Any]] = {skills: {}}
    elif isinstance(skills, Mapping):
        items = cast("Mapping[str, Mapping[str, Any] | None]", skills).items()
        arguments = {name: own or {} for name, own in items}
    elif isinstance(skills, Sequence):
        arguments = {str(name): {} for name in cast("Sequence[Any]", skills)}
    else:
        arguments = {}
    for name in arguments:
        if name not in SKILLS:
            raise ConfigurationError(f"{name!r} is not a skill; choose from {', '.join(SKILLS)}.")
    if not arguments:
        raise ConfigurationError("skill must name one skill or several, such as 'caption' or ['caption', 'detect'].")
    return arguments


def _default_id(index: int, image: object) -> Any:
    if isinstance(image, os.PathLike):
        return os.fspath(cast("os.PathLike[str]", image))
    if isinstance(image, str) and len(image) <= MAX_PATH_LENGTH and not is_data_uri(image):
        return image
    return index
