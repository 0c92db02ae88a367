"""`ApiClient`: the settings, connections, image preparation and requests that all resources of a client share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import attrs

from ._concurrency.forks import no_fork
from ._images.encoded import EncodedImage
from ._images.image_source import ImageSource, remember
from ._images.options import ImageOptions
from ._multi_label import for_each_label, parse_labels
from ._pickling import Recipe, recipe_of
from ._tracebacks import shorten
from ._wire.checks import check_path, json_bytes
from ._wire.responses import object_of
from ._wire.skills import Skill, with_image
from .config import RetryPolicy, Server, Timeouts
from .errors import ConfigurationError, MoondreamError
from .tiles import Tiles
from .types import Meta, Result

if TYPE_CHECKING:
    from ._cache.calls import CachedEvents, KeepAnswer, Lookup
    from ._cache.store import Cache
    from ._http.client import HttpClient
    from ._http.event_stream import EventStream
    from ._http.moondream import MoondreamRequests
    from ._http.presigned_download import FileReader
    from ._http.request import Request
    from ._http.session import Session
    from ._http.user_client import UserClient
    from ._images.prepare import ImageInput
    from ._tiles.cutting import CutImage
    from .hooks import Hooks, HooksInput, Stats

R = TypeVar("R", bound=Result)
T = TypeVar("T")

_LONG_TIMEOUT = 900.0  # seconds; the official client has the same timeout for a training step


@attrs.frozen(eq=False, kw_only=True)
class Settings:
    """The checked configuration of a client.

    Attributes:
        server: The base URL, the key and the model.
        timeouts: Timeouts of each attempt.
        retry: When failed attempts are retried.
        image_options: How images are prepared.
        headers: Extra headers, names in lower case.
        hooks: The user's observers.
        cache: Answers kept on disk.
    """

    server: Server
    timeouts: Timeouts
    retry: RetryPolicy
    image_options: ImageOptions
    headers: dict[str, str] = attrs.field(repr=False)
    hooks: tuple[Hooks, ...]
    cache: Cache | None = None


class ApiClient:
    """Sends requests with one client's settings; every resource of the client uses it.

    Args:
        settings: The client's settings.
        session: The session, shared with the client's clones.
    """

    def __init__(self, settings: Settings, session: SharedSession) -> None:
        self.settings = settings
        self._session = session
        self._http: HttpClient | None = None
        self._requests: MoondreamRequests | None = None

    @property
    def base_url(self) -> str:
        """The server's base URL, ending in `/v1`."""
        return self.settings.server.base_url

    @property
    def model(self) -> str | None:
        """The model of every call; None for the server's default."""
        return self.settings.server.model

    @property
    def stats(self) -> Stats:
        """Counters of the client and its clones."""
        return self._session.stats

    @property
    def recipe(self) -> Recipe:
        """How to recreate a client with these settings in another process.

        Raises:
            ConfigurationError: An option cannot be pickled.
        """
        now, server = self.settings, self.settings.server
        options = {
            "base_url": list(server.base_urls) if server.others else server.base_url,
            "model": server.model,
            "timeout": now.timeouts,
            "retry": now.retry,
            "image_options": now.image_options,
            "headers": dict(now.headers) or None,
            "hooks": now.hooks or None,
            "cache": now.cache,
            **self._session.options,
        }
        return recipe_of(options, server.key)

    @property
    def rate_limit(self) -> tuple[float | None, str | None]:
        """The current limit in requests per second, and what limits them; each is None if there is none."""
        return self._session.rate_limit

    @property
    def http(self) -> HttpClient:
        """The HTTP client, created at the first call."""
        if self._http is None:
            self._connect()
        return cast("HttpClient", self._http)

    @property
    def requests(self) -> MoondreamRequests:
        """The builder of requests, created at the first call."""
        if self._requests is None:
            self._connect()
        return cast("MoondreamRequests", self._requests)

    def _connect(self) -> None:
        with no_fork():
            from ._http.client import HttpClient, ServerInfo
            from ._http.moondream import INVALID_HINT, MoondreamRequests

        settings = self.settings
        server = ServerInfo(base_url=self.base_url, model=self.model, invalid_hint=INVALID_HINT)
        self._requests = requests = MoondreamRequests(settings.server, settings.headers)
        self._http = HttpClient(
            self._session.get(),
            settings.timeouts,
            settings.retry,
            redactor=requests.redactor(),
            hooks=settings.hooks,
            server=server,
            is_paced=True,
        )

    @property
    def files(self) -> FileReader:
        """A reader of the presigned files that the server refers to; it never sends the key."""
        from ._http.presigned_download import FileReader
        from ._http.presigned_urls import PresignedTarget

        allow_private = self.settings.image_options.allow_private_urls
        return FileReader(self.http, PresignedTarget.of(self.base_url, allow_private=allow_private))

    @property
    def long_running(self) -> ApiClient:
        """A client with timeouts of at least 15 minutes and no deadline, for calls that take minutes."""
        timeouts = self.settings.timeouts
        longer = {name: max(_LONG_TIMEOUT, getattr(timeouts, name)) for name in ("idle", "total")}
        retry = attrs.evolve(self.settings.retry, deadline=None)
        return self.with_settings(timeouts=attrs.evolve(timeouts, **longer), retry=retry)

    def with_settings(self, **changes: Any) -> Self:
        """Return a client with other settings that shares the connections."""
        return type(self)(attrs.evolve(self.settings, **changes), self._session)

    async def encode_image(
        self, image: ImageInput, options: ImageOptions | None = None, *, full_resolution: bool = False
    ) -> EncodedImage:
        """Prepare an image outside the event loop; concurrent calls with the same image share the work."""
        if isinstance(image, EncodedImage):
            return image
        with no_fork():
            from ._http.image_download import download_image
            from ._images.encoder import encode_once

        options = options or self.settings.image_options
        fetch = functools.partial(download_image, self.http, allow_private=options.allow_private_urls)
        return await encode_once(image, options, full_resolution=full_resolution, fetch=fetch, fetcher=self)

    async def request(self, skill: Skill[R], image: ImageInput | None, arguments: Mapping[str, Any]) -> R:
        """Call a skill and return its result.

        Args:
            skill: The skill. If it takes labels and `object` is a list, it is called once per label.
            image: Any image that the skills accept; None if the skill needs no image.
            arguments: The skill's arguments by name.
        """
        __tracebackhide__ = True
        try:
            labels = parse_labels(arguments["object"]) if skill.takes_labels else None
            if arguments.get("tiles") is not None:
                return await self._request_tiles(skill, image, labels, arguments)
            if labels is not None:
                encoded = await self.encode_image(cast("ImageInput", image))
                merged = await for_each_label(
                    skill, lambda label: self.request(skill, encoded, {**arguments, "object": label}), labels
                )
                return remember(merged, self.source_of(image))
            if self.settings.cache is None:
                result = await self._request_one(skill, image, arguments)
            else:
                lookup = await self._look_up(self.settings.cache, skill, image, arguments)
                result = await self._answer(lookup, skill, arguments)
            if (settings := arguments.get("settings")) and "max_objects" in settings:
                object.__setattr__(result, "_max_objects", settings["max_objects"])
            return remember(result, self.source_of(image), arguments.get("object"))
        except MoondreamError as exc:
            error = shorten(exc)
        raise error

    async def _request_one(self, skill: Skill[R], image: ImageInput | None, arguments: Mapping[str, Any]) -> R:
        """Send one request."""
        payload = self._payload(skill, image, arguments if skill.reducer is None else {**arguments, "stream": False})
        request = self.requests.skill(skill.name, payload)
        result = await self.http.fetch(request, lambda response: response.parse(skill.parse))
        object.__setattr__(result, "image_size", payload.image_size)  # nobody else has it yet; copying takes longer
        return result

    async def _answer(self, lookup: Lookup[R], skill: Skill[R], arguments: Mapping[str, Any]) -> R:
        """Return the answer of the cache, or send a request and keep its answer."""
        answer = lookup.answer
        if answer is None:
            answer = await self._request_one(skill, lookup.image, arguments)
            await lookup.keep(answer)
        return answer

    async def _look_up(
        self, cache: Cache, skill: Skill[R], image: ImageInput | None, arguments: Mapping[str, Any]
    ) -> Lookup[R]:
        """Look a call up in the cache, outside the event loop."""
        with no_fork():
            from ._cache.calls import CacheReader

        self._payload(skill, image, arguments)  # refuses invalid arguments
        reader = CacheReader(cache, skill, arguments, self.base_url, self.model, self.settings.image_options)
        return await self._read_image(reader, image)

    async def _request_tiles(
        self, skill: Skill[R], image: ImageInput | None, labels: list[str] | None, arguments: Mapping[str, Any]
    ) -> R:
        """Call a skill for each tile of an image, and each label; return the merged result."""
        with no_fork():
            from ._tiles.calls import call_in_tiles

        if arguments.get("spatial_refs") is not None:
            raise ConfigurationError("spatial_refs are about the whole image: they cannot be used with tiles.")
        arguments = dict(arguments)
        tiles = Tiles.of(arguments.pop("tiles"))
        searched = labels or [arguments["object"]]
        for label in searched:
            skill.body({**arguments, "object": label}, model=self.model, has_image=True)  # to check it
        result = await call_in_tiles(
            skill,
            image,
            searched,
            tiles,
            lambda tile, label: self.request(skill, tile, {**arguments, "object": label}),
            self.cut_image,
            has_labels=labels is not None,
        )
        return remember(result, self.source_of(image), arguments["object"])

    async def cut_image(self, image: ImageInput, tiles: Tiles) -> CutImage:
        """Cut an image into encoded tiles, outside the event loop."""
        with no_fork():
            from ._tiles.cutting import cut

        return await self._read_image(functools.partial(cut, tiles=tiles, options=self.settings.image_options), image)

    async def tile_grid(self, image: ImageInput, tiles: Tiles) -> tuple[int, int]:
        """Return the columns and rows into which an image would be cut, without decoding it."""
        with no_fork():
            from ._tiles.cutting import planned_grid

        return await self._read_image(functools.partial(planned_grid, tiles=tiles), image)

    async def _read_image(self, work: Callable[[object], T], image: ImageInput | None) -> T:
        """Run work on an image, or on None, in a worker thread, after downloading it if it is a URL."""
        with no_fork():
            from ._http.image_download import download_image
            from ._images.encoder import read_in_pool

        allow_private = self.settings.image_options.allow_private_urls
        return await read_in_pool(
            work, image, functools.partial(download_image, self.http, allow_private=allow_private)
        )

    async def stream(
        self, skill: Skill[Any], image: ImageInput | None, arguments: Mapping[str, Any]
    ) -> tuple[EventStream | CachedEvents, Any, ImageSource | None, KeepAnswer | None]:
        """Call a skill and open the stream of its response.

        Returns:
            The stream, its reducer, the image's source, and the function that keeps the complete answer, if there is a
            cache.

        Args:
            skill: A skill that streams.
            image: As for `request`.
            arguments: As for `request`.
        """
        __tracebackhide__ = True
        assert skill.reducer is not None
        try:
            source, keep = self.source_of(image), None
            if self.settings.cache is not None:
                lookup = await self._look_up(self.settings.cache, skill, image, arguments)
                if lookup.answer is not None:
                    return lookup.events(), skill.reducer(lookup.answer.image_size), source, None
                image, keep = lookup.image, lookup.keep
            payload = self._payload(skill, image, {**arguments, "stream": True})
            events = await self.http.open_stream(self.requests.skill(skill.name, payload, stream=True))
            return events, skill.reducer(payload.image_size), source, keep
        except MoondreamError as exc:
            error = shorten(exc)
        raise error

    def source_of(self, image: ImageInput | None) -> ImageSource | None:
        """Return the source of an image, for its results; None if it has none."""
        return ImageSource.of(image, allow_private=self.settings.image_options.allow_private_urls)

    def _payload(self, skill: Skill[Any], image: ImageInput | None, arguments: Mapping[str, Any]) -> ImagePayload:
        has_image = image is not None or skill.needs_image
        body = skill.body(arguments, model=self.model, has_image=has_image)
        return ImagePayload(self, body, image, has_image=has_image, full_resolution=skill.full_resolution)

    async def call(self, method: str, path: str, read: Callable[[Any, Meta], T], **options: Any) -> T:
        """Send any other request and parse its response.

        Args:
            method: HTTP method.
            path: Path below the base URL.
            read: Builds the result from the decoded JSON.
            options: As for `MoondreamRequests.call`: `query`, `body`, `non_idempotent`, `retry_statuses`,
                `allow_error_field`.
        """
        return await self.fetch(self.requests.call(method, path, **options), read)

    async def post(self, path: str, body: Mapping[str, Any], *, is_object: bool) -> Any:
        """Send a POST request to any path, as a skill is called, and return the decoded JSON.

        Args:
            path: Path below the base URL.
            body: JSON body.
            is_object: Whether the response must be a JSON object.

        Raises:
            ConfigurationError: The path or the body is not valid.
        """
        if not isinstance(body, Mapping):
            raise ConfigurationError(f"body must be a dict, not {type(body).__name__}.")
        if body.get("stream"):
            raise ConfigurationError("post reads no streams: leave out 'stream', or use the skill with stream=True.")
        request = self.requests.skill(check_path(path), json_bytes(dict(body), "body must hold plain JSON values"))
        request.destinations = ()  # it may refer to what only the first server has
        return await self.fetch(request, lambda found, _: object_of(found) if is_object else found)

    async def fetch(self, request: Request, read: Callable[[Any, Meta], T]) -> T:
        """Send a request and parse its response."""
        __tracebackhide__ = True
        try:
            return await self.http.fetch(request, lambda response: response.parse(read))
        except MoondreamError as exc:
            error = shorten(exc)
        raise error

    async def aclose(self) -> None:
        """Close the connections of this client and all its clones."""
        await self._session.aclose()


@attrs.define(eq=False)
class ImagePayload:
    """A request body whose image is encoded when the call has its slot, so that few images are in memory at a time.

    Attributes:
        image_size: Width and height of the upright original, in pixels; None without an image, and until the body
            is built.
    """

    _api: ApiClient = attrs.field(repr=False)
    _body: bytes = attrs.field(repr=False)
    _image: Any = attrs.field(repr=False)
    _has_image: bool = attrs.field(kw_only=True, alias="has_image")
    _full_resolution: bool = attrs.field(kw_only=True, alias="full_resolution")
    image_size: tuple[int, int] | None = attrs.field(default=None, init=False)

    @property
    def takes_time(self) -> bool:
        """Whether there is an image to prepare."""
        return self._has_image and not isinstance(self._image, EncodedImage)

    async def prepare(self) -> bytes:
        """Return the body, preparing the image."""
        if not self._has_image:
            return self._body
        encoded = await self._api.encode_image(self._image, full_resolution=self._full_resolution)
        self.image_size = encoded.original_size
        return with_image(self._body, encoded.uri)


class SharedSession:
    """The session of a client and its clones, created at the first call so that httpx is imported late."""

    def __init__(
        self,
        *,
        max_connections: int,
        rate_limit: float | None,
        http_client: UserClient | None,
        base_urls: Sequence[str] = (),
    ) -> None:
        self._options: dict[str, Any] = {
            "max_connections": max_connections,
            "rate_limit": rate_limit,
            "http_client": http_client,
            "base_urls": base_urls,
        }
        self._session: Session | None = None
        self._closed = False
        if http_client is not None:
            self.get()  # to check the user's client

    @property
    def options(self) -> dict[str, Any]:
        """The options of a client that are of its session."""
        return {name: value for name, value in self._options.items() if name != "base_urls"}

    @property
    def stats(self) -> Stats:
        """A snapshot of the counters."""
        from .hooks import Stats

        return Stats() if self._session is None else self._session.counters.snapshot(self._session.servers)

    @property
    def rate_limit(self) -> tuple[float | None, str | None]:
        """The current limit in requests per second, and its name: `rate_limit`, or `server limit` after a 429."""
        explicit: float | None = self._options["rate_limit"]
        if explicit is not None:
            return explicit, "rate_limit"
        if self._session is None:
            return None, None
        refused = self._session.counters.rate_limited
        return self._session.rate_limiter.rate.rate, "server limit" if refused else None

    def get(self) -> Session:
        """Return the session; the first call creates it.

        Raises:
            ConfigurationError: The client is closed, or `http_client` is invalid.
        """
        if self._closed:
            raise ConfigurationError("This client is closed; make a new one.")
        if self._session is not None:
            return self._session
        with no_fork():
            if self._session is None:
                from ._http.session import Session

                self._session = Session(**self._options)
            return self._session

    async def aclose(self) -> None:
        """Close the connections; later calls raise ConfigurationError."""
        self._closed = True
        if self._session is not None:
            await self._session.aclose()


def hooks_of(hooks: HooksInput | None) -> tuple[Hooks, ...]:
    """Return the user's hooks as a tuple.

    Raises:
        ConfigurationError: A value is not `Hooks`.
    """
    if hooks is None:
        return ()
    from .hooks import check_hooks

    return check_hooks(hooks)
