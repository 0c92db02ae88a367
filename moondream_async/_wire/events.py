"""Stream events -> pieces -> result: reducers for every event shape of moondream-api.md 1.4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import attrs

from ..types import Meta, Result, SegmentResult, SegmentUpdate
from . import responses
from .responses import InvalidResponse

R = TypeVar("R", bound=Result)
Object = dict[str, Any]

_OF_A_PIECE = frozenset({"chunk", "text", "completed", "token_index"})
"""Fields of an event that belong to its piece of text, not to the result."""


def parse(data: str) -> Object | None:
    """Read the data of one server-sent event; None if it is empty and so carries nothing.

    Raises:
        Unusable: It is not a JSON object.
    """
    if not data:
        return None
    if data.strip() == "[DONE]":  # OpenAI's end mark; Moondream's skills do not send it, proxies may
        return {"completed": True}
    event = responses.decode(data)
    if not isinstance(event, dict):
        raise InvalidResponse("an event is not a JSON object")
    return cast("Object", event)


class TextReducer(Generic[R]):
    """Collects the text events of a query or caption stream.

    Args:
        field: The wire field of the whole text: `answer` or `caption`.
        read: Reads the collected fields into the typed result.
        image_size: Of the upright original, for the result to remember.
    """

    def __init__(self, field: str, read: Callable[[Any, Meta], R], image_size: tuple[int, int] | None = None) -> None:
        self._image_size = image_size
        self._field = field
        self._read = read
        self._pieces: list[str] = []
        self._fields: Object = {}
        self.completed = False

    @property
    def text(self) -> str:
        """The text so far."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    @property
    def partial(self) -> str:
        """What an interrupted stream leaves behind."""
        return self.text

    def feed(self, event: Object) -> str | None:
        """Take one event; return the new text, or None if it brought none."""
        piece = event.get("chunk")
        if piece is None:
            piece = event.get("text") or ""
        if not isinstance(piece, str):
            raise InvalidResponse("a chunk is not text")
        if not event.keys() <= _OF_A_PIECE:
            for name, value in event.items():
                if name not in _OF_A_PIECE and value is not None:
                    self._fields[name] = value
        if event.get("completed") or isinstance(event.get(self._field), str):
            self.completed = True
            piece += self._missing_end(piece)
        if not piece:
            return None
        self._pieces.append(piece)
        return piece

    def result(self, meta: Meta) -> R:
        """The typed result; the final event's whole text, where it came, is the text."""
        result = self._read({self._field: self.text, **self._fields}, meta)
        return attrs.evolve(result, image_size=self._image_size)

    def _missing_end(self, piece: str) -> str:
        whole = self._fields.get(self._field)
        so_far = self.text + piece
        if isinstance(whole, str) and len(whole) > len(so_far) and whole.startswith(so_far):
            return whole[len(so_far) :]
        return ""


class SegmentReducer:
    """Collects the events of a segment stream: box, pieces of the coarse path, refined path.

    Args:
        image_size: Of the upright original, for the result to remember.
    """

    def __init__(self, image_size: tuple[int, int] | None = None) -> None:
        self._image_size = image_size
        self._pieces: list[str] = []
        self._fields: Object = {}
        self.completed = False

    @property
    def text(self) -> str:
        """The path so far: coarse until the last event, refined after it."""
        path = self._fields.get("path")
        return path if isinstance(path, str) else "".join(self._pieces)

    @property
    def partial(self) -> SegmentResult:
        """What an interrupted stream leaves behind."""
        return self.result(Meta(status=200))

    def feed(self, event: Object) -> SegmentUpdate | None:
        """Take one event; return the update, or None if it brought nothing to show."""
        completed = bool(event.get("completed")) or event.get("type") == "final"
        found = event.get("bbox")
        box = None if found is None else responses.box(found)
        chunk = event.get("chunk")
        if chunk is not None and not isinstance(chunk, str):
            raise InvalidResponse("a chunk is not text")
        for name, value in event.items():
            if name not in ("type", "chunk", "completed", "token_index") and value is not None:
                self._fields[name] = value
        if chunk:
            self._pieces.append(chunk)
        if completed:
            self.completed = True
            return SegmentUpdate(bbox=box, path=self.text, completed=True)
        if box is None and not chunk:
            return None
        return SegmentUpdate(bbox=box, chunk=chunk or None)

    def result(self, meta: Meta) -> SegmentResult:
        """The typed result: the refined path and box, or what has come so far."""
        result = responses.segment({**self._fields, "path": self.text}, meta)
        return attrs.evolve(result, image_size=self._image_size)
