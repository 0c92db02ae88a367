"""Answers to questions with a JSON schema, as `ask_json` asks them: values that fit, computed from pixels."""

from __future__ import annotations

import json
from typing import Any

from .._wire.responses import is_list, is_object
from .pixels import Region, Scene

_MARK = "JSON schema:"
_MAX_DEPTH = 8  # of nested values; deeper ones are null
_MAX_ITEMS = 6


def split_question(question: str) -> tuple[str, Any]:
    """Return the question without its JSON schema, and the schema; None if there is none."""
    text, mark, rest = question.partition(_MARK)
    if not mark:
        return question, None
    try:
        schema, _ = json.JSONDecoder().raw_decode(rest.lstrip())
    except ValueError:
        return question, None
    return (text, schema) if is_object(schema) else (question, None)


def answer(schema: Any, scene: Scene, regions: list[Region]) -> str:
    """Return JSON that fits a schema.

    Names say what a value is about: a text whose name contains `color` or `shape` is that of the largest region, or
    with `background`, of the background; other texts describe the largest region. Numbers count regions, booleans say
    whether there are any, and lists have an item for each.

    Args:
        schema: The JSON schema.
        scene: The image.
        regions: The regions that the question is about.
    """
    return json.dumps(_Builder(schema, scene).build(schema, "", regions, 0), ensure_ascii=False)


class _Builder:
    def __init__(self, root: Any, scene: Scene) -> None:
        self._root, self._scene = root, scene

    def build(self, schema: Any, name: str, regions: list[Region], depth: int) -> Any:
        """Return a value that fits a schema and is about these regions."""
        if not is_object(schema) or depth > _MAX_DEPTH:
            return None
        if "$ref" in schema:
            return self.build(self._resolve(str(schema["$ref"])), name, regions, depth + 1)
        for choice in ("anyOf", "oneOf"):
            if is_list(schema.get(choice)) and schema[choice]:
                return self.build(schema[choice][0], name, regions, depth + 1)
        if "const" in schema:
            return schema["const"]
        if is_list(schema.get("enum")) and schema["enum"]:
            return self._choose(schema["enum"], regions)
        kind = schema.get("type")
        if kind == "object":
            fields: Any = schema.get("properties") or {}
            return {key: self.build(field, key, regions, depth + 1) for key, field in fields.items()}
        if kind == "array":
            return self._list(schema, name, regions, depth)
        return self._plain(schema, kind, name, regions)

    def _list(self, schema: Any, name: str, regions: list[Region], depth: int) -> list[Any]:
        if is_list(schema.get("prefixItems")):
            return [self.build(item, name, regions, depth + 1) for item in schema["prefixItems"]]
        count = max(min(len(regions), _MAX_ITEMS), int(schema.get("minItems") or 0))
        return [self.build(schema.get("items"), name, regions[n : n + 1], depth + 1) for n in range(count)]

    def _plain(self, schema: Any, kind: Any, name: str, regions: list[Region]) -> Any:
        if kind == "boolean":
            return bool(regions)
        if kind in ("integer", "number"):
            return min(max(len(regions), schema.get("minimum", 0)), schema.get("maximum", len(regions)))
        return self._text(name.lower(), regions) if kind == "string" else None

    def _text(self, name: str, regions: list[Region]) -> str:
        background = self._scene.background
        if "background" in name or not regions:
            return background
        shape = regions[0].shape(self._scene.width, self._scene.height)
        if "color" in name or "colour" in name:  # words: ok
            return regions[0].color
        return shape if "shape" in name else f"{regions[0].color} {shape}"

    def _choose(self, options: list[Any], regions: list[Region]) -> Any:
        """Return the option that names the color of the largest region or the background; else the first."""
        names = [region.color for region in regions[:1]] + [self._scene.background]
        return next((option for name in names for option in options if option == name), options[0])

    def _resolve(self, reference: str) -> Any:
        """Return the definition that a reference such as `#/$defs/Part` names."""
        value = self._root
        for part in reference.removeprefix("#/").split("/"):
            value = value.get(part) if is_object(value) else None
        return value
