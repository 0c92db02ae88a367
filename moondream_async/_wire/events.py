"""Reduce stream events to pieces and a result, for every event format of moondream-api.md 1.4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import attrs

from ..types import Meta, Result, SegmentResult, SegmentUpdate
from . import responses
from .responses import InvalidResponse

T = TypeVar("T")
Piece = TypeVar("Piece")
R = TypeVar("R", bound=Result)
Object = dict[str, Any]

_TEXT_EVENT_FIELDS = frozenset({"chunk", "text", "completed", "token_index"})
"""Fields of a text event that belong to its piece of text, not to the result."""

_SEGMENT_EVENT_FIELDS = frozenset({"type", "chunk", "completed", "token_index"})
"""Fields of a segment event that do not belong to the result."""


def parse(data: str) -> Object | None:
    """Read the data of a server-sent event; return None if it is empty.

    Raises:
        InvalidResponse: It is not a JSON object.
    """
    if not data:
        return None
    if data.strip() == "[DONE]":  # OpenAI's end marker; Moondream's skills do not send it, but proxies may
        return {"completed": True}
    event = responses.decode(data)
    if not isinstance(event, dict):
        raise InvalidResponse("an event is not a JSON object")
    return cast("Object", event)


class Reducer(Generic[Piece, T]):
    """Collects the events of a stream.

    Args:
        image_size: Size of the upright original, in pixels, for the result.

    Attributes:
        completed: Whether the stream is complete.
    """

    def __init__(self, image_size: tuple[int, int] | None = None) -> None:
        self._image_size = image_size
        self._pieces: list[str] = []
        self._fields: Object = {}
        self.completed = False

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self._pieces)

    @property
    def partial(self) -> object:
        """The partial result of an interrupted stream."""
        return self.text

    @property
    def may_end(self) -> bool:
        """Whether the stream may end although it is not complete."""
        return False

    @property
    def summary(self) -> Result | None:
        """Request id, finish reason and metrics so far; None if only the last event has them."""
        return None

    def feed(self, event: Object) -> Piece | None:
        """Add an event; return its piece, or None if it has none."""
        raise NotImplementedError

    def result(self, meta: Meta) -> T:
        """Return the typed result of all events so far."""
        raise NotImplementedError


class TextReducer(Reducer[str, R]):
    """Collects the text events of a query or caption stream.

    Args:
        field: The wire field of the complete text: `answer` or `caption`.
        read: Builds the typed result from the collected fields.
        image_size: As in `Reducer`.
    """

    def __init__(self, field: str, read: Callable[[Any, Meta], R], image_size: tuple[int, int] | None = None) -> None:
        super().__init__(image_size)
        self._field = field
        self._read = read

    @property
    def text(self) -> str:
        """The text so far."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def feed(self, event: Object) -> str | None:
        """Add an event; return its new text, or None if it has none."""
        piece = event.get("chunk")
        if piece is None:
            piece = event.get("text") or ""
        if not isinstance(piece, str):
            raise InvalidResponse("a chunk is not text")
        if not event.keys() <= _TEXT_EVENT_FIELDS:
            for name, value in event.items():
                if name not in _TEXT_EVENT_FIELDS and value is not None:
                    self._fields[name] = value
        if event.get("completed") or isinstance(event.get(self._field), str):
            self.completed = True
            piece += self._missing_suffix(piece)
        if not piece:
            return None
        self._pieces.append(piece)
        return piece

    def result(self, meta: Meta) -> R:
        """Return the typed result. The complete text of the final event, if any, replaces the pieces."""
        result = self._read({self._field: self.text, **self._fields}, meta)
        return attrs.evolve(result, image_size=self._image_size)

    def _missing_suffix(self, piece: str) -> str:
        """Return the end of the complete text that no piece contained."""
        complete = self._fields.get(self._field)
        received = self.text + piece
        if isinstance(complete, str) and len(complete) > len(received) and complete.startswith(received):
            return complete[len(received) :]
        return ""


class SegmentReducer(Reducer[SegmentUpdate, SegmentResult]):
    """Collects the events of a segment stream: the box, pieces of the coarse path, the refined path."""

    @property
    def text(self) -> str:
        """The path so far: coarse until the final event, refined after it."""
        path = self._fields.get("path")
        return path if isinstance(path, str) else "".join(self._pieces)

    @property
    def partial(self) -> SegmentResult:
        """The partial result of an interrupted stream."""
        return self.result(Meta(status=200))

    def feed(self, event: Object) -> SegmentUpdate | None:
        """Add an event; return the update, or None if it contains nothing new."""
        completed = bool(event.get("completed")) or event.get("type") == "final"
        bbox = event.get("bbox")
        box = None if bbox is None else responses.box(bbox)
        chunk = event.get("chunk")
        if chunk is not None and not isinstance(chunk, str):
            raise InvalidResponse("a chunk is not text")
        for name, value in event.items():
            if name not in _SEGMENT_EVENT_FIELDS and value is not None:
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
        """Return the typed result: the refined path and box, or the coarse ones received so far."""
        result = responses.segment({**self._fields, "path": self.text}, meta)
        return attrs.evolve(result, image_size=self._image_size)
