"""Answer calls from the cache, and keep their answers."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import anyio
import anyio.to_thread
import attrs

from .._log import log
from .._wire import responses
from .._wire.skills import Skill
from ..types import Meta, Result
from .keys import call_key, identify
from .store import Cache

if TYPE_CHECKING:
    from .._images.options import ImageOptions

R = TypeVar("R", bound=Result)

KeepAnswer: TypeAlias = Callable[[Result], Awaitable[None]]
"""Keeps a complete answer."""

_Value: TypeAlias = dict[str, Any]


@attrs.frozen(eq=False)
class Lookup(Generic[R]):
    """What the cache has for a call.

    Attributes:
        image: The image, in a form that can be read again; None if the call has none.
        answer: The answer; None if there is none.
    """

    image: Any
    _skill: Skill[R]
    _cache: Cache
    _key: bytes
    _value: _Value | None
    _started: float

    @property
    def answer(self) -> R | None:
        """The answer; None if there is none."""
        if self._value is None:
            return None
        size = self._value["image_size"]
        result = self._skill.parse(self._value["result"], self._meta())
        object.__setattr__(result, "image_size", None if size is None else tuple(size))
        return result

    def events(self) -> CachedEvents:
        """Return the answer, which must be there, as a stream."""
        assert self._value is not None
        return CachedEvents(self._value["result"], self._meta())

    async def keep(self, result: Result) -> None:
        """Keep an answer. It is not an error if that fails."""
        if result.finish_reason == "error" or getattr(result, "parse_error", None):
            return
        value = json.dumps({"result": result.to_dict(), "image_size": result.image_size})
        with anyio.CancelScope(shield=True):  # it was paid for
            await anyio.to_thread.run_sync(self._cache.put, self._key, value)

    def _meta(self) -> Meta:
        return Meta(200, 0, time.monotonic() - self._started, cached=True)


@attrs.frozen(eq=False)
class CacheReader(Generic[R]):
    """Looks a call up; blocking, for a worker thread. An instance is called with the image."""

    cache: Cache
    skill: Skill[R]
    arguments: Mapping[str, Any]
    server: str
    model: str | None
    options: ImageOptions
    started: float = attrs.field(factory=time.monotonic)

    def __call__(self, image: object) -> Lookup[R]:
        """Return what the cache has.

        Raises:
            ConfigurationError: The file cannot be used.
            ImageError: The image cannot be read.
        """
        digest, again = (None, None) if image is None else identify(image)
        is_prepared = digest is not None and hasattr(again, "uri")
        key = call_key(
            self.skill,
            self.arguments,
            server=self.server,
            model=self.model,
            image=digest,
            options=None if is_prepared or digest is None else self.options,
        )
        return Lookup(again, self.skill, self.cache, key, self._read(key), self.started)

    def _read(self, key: bytes) -> _Value | None:
        text = self.cache.get(key)
        if text is None:
            return None
        try:
            value: _Value = json.loads(text)
            self.skill.parse(value["result"], Meta(200))
            size = value["image_size"]
            return value if size is None or len(size) == 2 else None
        except responses.PARSE_ERRORS as exc:
            log.warning("An answer in the cache %s is damaged: %s.", self.cache.path, exc)
            return None


class CachedEvents:
    """The stream of an answer from the cache: a single event. It stands for an `EventStream`."""

    attempts = 0

    def __init__(self, fields: Mapping[str, Any], meta: Meta) -> None:
        self.meta = meta
        self._event: dict[str, Any] | None = {**fields, "completed": True}

    async def next(self) -> dict[str, Any] | None:
        """Return the event; None after it."""
        event, self._event = self._event, None
        return event

    def redact(self, partial: object) -> object:
        """Return a partial result unchanged."""
        return partial

    async def finish(self) -> None:
        """Do nothing: there is no connection."""

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""

    async def end(self, error: Exception | None, summary: Result | None = None) -> None:
        """Do nothing: nobody counts these calls."""
