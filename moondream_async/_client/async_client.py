"""`AsyncClient`: each skill prepares the image, builds the request, sends it and parses the answer."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack, cast, overload

import attrs

from .. import config
from .._api import ApiClient, Settings, SharedSession, hooks_of
from .._concurrency.closing import AsyncClosing
from .._concurrency.forks import no_fork
from .._images.encoded import EncodedImage
from .._images.options import ImageOptions
from .._pickling import Picklable, Recipe
from .._public import public
from .._wire import chat, checks, responses, skills
from .._wire.checks import AnyRef
from ..config import Length, RetryPolicy, SamplingSettings, Secret, Timeouts
from ..errors import ConfigurationError
from ..prices import Prices, prices_of
from ..tiles import Plan, TilesInput
from ..types import CaptionResult, ChatResult, DetectResult, Model, PointResult, QueryResult, SegmentResult
from . import structured
from .chat_payload import ChatPayload
from .streams import AsyncChatStream, AsyncSegmentStream, AsyncTextStream

if TYPE_CHECKING:
    from .._batches.resource import AsyncBatches
    from .._bulk.items import FullItem, MapItem, SeveralSkills, Skills
    from .._bulk.map import AsyncMap
    from .._bulk.options import MapOptions, RunOptions
    from .._cache.store import Cache
    from .._http.user_client import UserClient
    from .._images.prepare import ImageInput
    from .._progress.figures import RunSummary
    from .._progress.reporter import ProgressOption
    from .._tuning.resource import AsyncTuning
    from ..hooks import HooksInput, Stats

T = TypeVar("T")


@public()
class AsyncClient(Picklable, AsyncClosing):
    """An async client of Moondream Cloud, Moondream Station or any compatible server.

    One client per process is enough. It keeps connections open, serves any number of tasks, works in
    several event loops (asyncio or trio) one after the other, and does no I/O when it is created. It can be pickled,
    without the key and the connections: each process takes the key from its own environment.

    Args:
        api_key: The API key, or a function that returns it, which is called in each process that unpickles the
            client. Default: `MOONDREAM_API_KEY`. Only Moondream Cloud needs one.
        base_url: The server, with or without its `/v1`. Default: `MOONDREAM_BASE_URL` or
            `MOONDREAM_ENDPOINT`, else Moondream Cloud. Station is `http://localhost:2020/v1`. Or a list of
            interchangeable servers: each call goes to the one with the fewest calls in flight, and to another if
            that fails.
        model: The model of every call (wire field `model`). Default: `MOONDREAM_MODEL`, else the server's.
        timeout: `Timeouts(connect=10, idle=120, total=600)`, or a number of seconds for each attempt as a whole.
        retry: `RetryPolicy(attempts=4, ...)`, or a number of attempts.
        rate_limit: Requests started per second. Default None: no limit until the server answers 429;
            after that, the rate adapts to what the server accepts. It is kept for each server.
        max_connections: The most requests in flight at once, per event loop; others wait. Default 256.
        image_options: `ImageOptions(resize="auto", quality=90, ...)`: how images are prepared.
        headers: Extra headers for every request.
        hooks: `Hooks(request=..., retry=..., ...)`, or several: your functions, called as calls proceed.
        http_client: Your own `httpx.AsyncClient` or `httpx.AsyncBaseTransport`, or the same of httpx2, used
            unchanged and never closed. Default: a transport built for load (the extra `fast` makes it faster),
            through the proxies of the environment.
        cache: `Cache("answers.sqlite")` keeps answers on disk: the same call about the same image is not sent again.
            Default None: no answer is kept.

    Raises:
        ConfigurationError: A value is not valid, or Moondream Cloud is called without a key.
    """

    def __init__(
        self,
        api_key: str | Callable[[], str] | None = None,
        *,
        base_url: str | Sequence[str] | None = None,
        model: str | None = None,
        timeout: Timeouts | float | None = None,
        retry: RetryPolicy | int | None = None,
        rate_limit: float | None = None,
        max_connections: int = 256,
        image_options: ImageOptions | None = None,
        headers: Mapping[str, str] | None = None,
        hooks: HooksInput | None = None,
        http_client: UserClient | None = None,
        cache: Cache | None = None,
    ) -> None:
        secret, api_key = Secret(api_key), None  # from here on no local holds the key in the open
        headers = config.hidden_headers(headers)
        settings = Settings(
            server=config.resolve_server(secret, base_url, model),
            timeouts=Timeouts.of(timeout),
            retry=RetryPolicy.of(retry),
            image_options=ImageOptions.of(image_options),
            headers=config.check_headers(headers),
            hooks=hooks_of(hooks),
            cache=_check_cache(cache),
        )
        session = SharedSession(
            max_connections=config.check_whole("max_connections", max_connections, least=1),
            rate_limit=config.check_rate_limit(rate_limit),
            http_client=http_client,
            base_urls=settings.server.base_urls,
        )
        self._api = ApiClient(settings, session)

    @property
    def base_url(self) -> str:
        """The server, ending in `/v1`; of several, the first, to which everything goes but skills and chat."""
        return self._api.base_url

    @property
    def base_urls(self) -> tuple[str, ...]:
        """All servers, if there are several; else the one."""
        return self._api.settings.server.base_urls

    @property
    def model(self) -> str | None:
        """The model of every call; None is the server's default."""
        return self._api.model

    @property
    def stats(self) -> Stats:
        """Counters of this client and its clones: calls in flight and waiting, retries, 429s, bytes and tokens."""
        return self._api.stats

    @property
    def batches(self) -> AsyncBatches:
        """Moondream Cloud's Batch API: many images at half the price, processed as jobs on the server."""
        from .._batches.resource import AsyncBatches

        return AsyncBatches(self._api)

    @property
    def tuning(self) -> AsyncTuning:
        """Moondream Cloud's tuning API: finetunes by reinforcement learning and from examples."""
        from .._tuning.resource import AsyncTuning

        return AsyncTuning(self._api)

    @overload
    async def query(
        self,
        image: ImageInput | None = None,
        question: str | None = None,
        stream: Literal[False] = False,
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
        spatial_refs: Sequence[AnyRef] | None = None,
        *,
        extra_body: Mapping[str, Any] | None = None,
    ) -> QueryResult: ...

    @overload
    async def query(
        self,
        image: ImageInput | None = None,
        question: str | None = None,
        *,
        stream: Literal[True],
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
        spatial_refs: Sequence[AnyRef] | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> AsyncTextStream[QueryResult]: ...

    @overload
    async def query(
        self,
        image: ImageInput | None = None,
        question: str | None = None,
        stream: bool = False,
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
        spatial_refs: Sequence[AnyRef] | None = None,
        *,
        extra_body: Mapping[str, Any] | None = None,
    ) -> QueryResult | AsyncTextStream[QueryResult]: ...

    async def query(
        self,
        image: ImageInput | None = None,
        question: str | None = None,
        stream: bool = False,
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
        spatial_refs: Sequence[AnyRef] | None = None,
        *,
        extra_body: Mapping[str, Any] | None = None,
    ) -> QueryResult | AsyncTextStream[QueryResult]:
        """Ask a question about an image, or, without one, about the text alone.

        ```python
        result = await client.query("photo.jpg", "What is on the left?")
        print(result.answer)
        ```

        Args:
            image: A path, http(s) URL, bytes, binary file (async ones too), PIL image, array (RGB,
                `uint8`), `data:` URI, base64 or `EncodedImage` (wire field `image_url`).
            question: What to ask (wire field `question`).
            stream: If True, return an `AsyncTextStream` that yields the answer as it is generated. Default False.
            settings: `temperature`, `top_p`, `max_tokens`.
            reasoning: Whether the model reasons first. Default None: the server decides.
            spatial_refs: Points `[x, y]` and boxes `[x_min, y_min, x_max, y_max]` that the question is about,
                0..1 of the upright image. `Point` and `BoundingBox` work too.
            extra_body: More fields of the request's body, for what this version does not know yet.

        Returns:
            A `QueryResult` with `.answer`, and `.reasoning` if the model reasoned; or the stream.

        Raises:
            ConfigurationError: An argument is not valid; nothing was sent.
            ImageError: The image cannot be read or prepared; nothing was sent.
            APIError: The server answered with an error; the subclass says which.
            APITimeoutError: A timeout expired.
            APIConnectionError: The server cannot be reached, or the connection broke.
        """
        __tracebackhide__ = True
        arguments = {
            "question": question,
            "settings": settings,
            "reasoning": reasoning,
            "spatial_refs": spatial_refs,
            "extra_body": extra_body,
        }
        if checks.flag("stream", stream):
            return AsyncTextStream(*await self._api.stream(skills.QUERY, image, arguments))
        return await self._api.request(skills.QUERY, image, arguments)

    @overload
    async def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        stream: Literal[False] = False,
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
    ) -> ChatResult: ...

    @overload
    async def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        stream: Literal[True],
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
    ) -> AsyncChatStream: ...

    @overload
    async def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        stream: bool = False,
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
    ) -> ChatResult | AsyncChatStream: ...

    async def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        stream: bool = False,
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
    ) -> ChatResult | AsyncChatStream:
        """Chat over several turns, with any number of images, through the OpenAI-compatible `/chat/completions`.

        ```python
        reply = await client.chat([{"role": "user", "content": ["What do these show?", Path("a.jpg"), Path("b.jpg")]}])
        print(reply.content)
        ```

        Args:
            messages: Dicts with `role` (`"system"`, `"user"`, `"assistant"`) and `content`: a text, or a list of texts,
                images (anything the skills accept; a path must be a `pathlib.Path`, as a `str` is text) and OpenAI's
                parts (`{"type": "image_url", "image_url": {"url": image}}`). Images are prepared as for the skills.
            stream: If True, return an `AsyncChatStream` that yields the answer as it is generated. Default False.
            settings: `temperature`, `top_p`, `max_tokens` (wire field `max_completion_tokens`; at most 4096, reasoning
                included).
            reasoning: Whether the model reasons first. Default None: the server decides; its default is True.

        Returns:
            `.content`, `.reasoning`, `.finish_reason`, `.metrics` (tokens).

        Raises:
            MoondreamError: As in `query`.
        """
        __tracebackhide__ = True
        build = functools.partial(chat.body, stream=stream, settings=settings, reasoning=reasoning, model=self.model)
        build([])  # refuses what can be refused before an image is prepared
        payload = ChatPayload(self._api, messages, build)
        if stream:
            request = self._api.requests.skill("chat/completions", payload, stream=True, bearer=True)
            return AsyncChatStream(await self._api.http.open_stream(request), chat.ChatReducer())
        request = self._api.requests.skill("chat/completions", payload, bearer=True)
        return await self._api.fetch(request, chat.result)

    async def ask_yes_no(
        self,
        image: ImageInput | None,
        question: str,
        *,
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
        repair: bool = True,
    ) -> bool:
        """Ask a question that is answered by yes or no.

        ```python
        if await client.ask_yes_no("photo.jpg", "Is there a red shape?"):
            print("yes")
        ```

        Args:
            image: As in `query`; None asks about nothing but the text.
            question: What to ask.
            settings: As in `query`.
            reasoning: As in `query`.
            repair: Whether to ask once more, saying why, if the answer cannot be used. Default True.

        Raises:
            AnswerError: The answer is of another kind, and so was the second; `.answers` keeps them.
            MoondreamError: As in `query`.
        """
        __tracebackhide__ = True
        return await self._ask(structured.YES_NO, image, question, settings, reasoning, repair)

    async def ask_number(
        self,
        image: ImageInput | None,
        question: str,
        *,
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
        repair: bool = True,
    ) -> float:
        """Ask for a number, such as how many there are.

        ```python
        count = await client.ask_number("photo.jpg", "How many shapes are there?")
        ```

        Args:
            image: As in `query`; None asks about nothing but the text.
            question: What to ask.
            settings: As in `query`.
            reasoning: As in `query`.
            repair: Whether to ask once more, saying why, if the answer cannot be used. Default True.

        Raises:
            AnswerError: The answer is of another kind, and so was the second; `.answers` keeps them.
            MoondreamError: As in `query`.
        """
        __tracebackhide__ = True
        return await self._ask(structured.NUMBER, image, question, settings, reasoning, repair)

    async def ask_list(
        self,
        image: ImageInput | None,
        question: str,
        *,
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
        repair: bool = True,
    ) -> list[str]:
        """Ask for a list; it is empty if the answer is "none".

        ```python
        colors = await client.ask_list("photo.jpg", "Which colors are there?")
        ```

        Args:
            image: As in `query`; None asks about nothing but the text.
            question: What to ask.
            settings: As in `query`.
            reasoning: As in `query`.
            repair: Whether to ask once more, saying why, if the answer cannot be used. Default True.

        Raises:
            AnswerError: The answer is of another kind, and so was the second; `.answers` keeps them.
            MoondreamError: As in `query`.
        """
        __tracebackhide__ = True
        return await self._ask(structured.LIST, image, question, settings, reasoning, repair)

    @overload
    async def ask_json(
        self,
        image: ImageInput | None,
        question: str,
        schema: type[T],
        *,
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
        repair: bool = True,
    ) -> T: ...

    @overload
    async def ask_json(
        self,
        image: ImageInput | None,
        question: str,
        schema: Mapping[str, Any],
        *,
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
        repair: bool = True,
    ) -> Any: ...

    async def ask_json(
        self,
        image: ImageInput | None,
        question: str,
        schema: type[Any] | Mapping[str, Any],
        *,
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
        repair: bool = True,
    ) -> Any:
        """Ask for JSON of a certain shape (extra `structured`, but for pydantic).

        ```python
        schema = {"type": "object", "properties": {"color": {"type": "string"}, "count": {"type": "integer"}}}
        found = await client.ask_json("photo.jpg", "What is in the middle?", schema)
        ```

        Args:
            image: As in `query`; None asks about nothing but the text.
            question: What to ask.
            schema: An attrs class or a pydantic model class: the answer becomes an instance. Or a JSON schema as a
                dict: the answer is checked against it, and returned as plain JSON values.
            settings: As in `query`.
            reasoning: As in `query`.
            repair: Whether to ask once more, saying why, if the answer cannot be used. Default True.

        Raises:
            AnswerError: The answer is of another kind, and so was the second; `.answers` keeps them.
            MoondreamError: As in `query`.
        """
        __tracebackhide__ = True
        return await self._ask(structured.json_format(schema), image, question, settings, reasoning, repair)

    @overload
    async def caption(
        self,
        image: ImageInput,
        length: Length = "normal",
        stream: Literal[False] = False,
        settings: SamplingSettings | None = None,
        *,
        extra_body: Mapping[str, Any] | None = None,
    ) -> CaptionResult: ...

    @overload
    async def caption(
        self,
        image: ImageInput,
        length: Length = "normal",
        *,
        stream: Literal[True],
        settings: SamplingSettings | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> AsyncTextStream[CaptionResult]: ...

    @overload
    async def caption(
        self,
        image: ImageInput,
        length: Length = "normal",
        stream: bool = False,
        settings: SamplingSettings | None = None,
        *,
        extra_body: Mapping[str, Any] | None = None,
    ) -> CaptionResult | AsyncTextStream[CaptionResult]: ...

    async def caption(
        self,
        image: ImageInput,
        length: Length = "normal",
        stream: bool = False,
        settings: SamplingSettings | None = None,
        *,
        extra_body: Mapping[str, Any] | None = None,
    ) -> CaptionResult | AsyncTextStream[CaptionResult]:
        """Describe an image.

        ```python
        result = await client.caption("photo.jpg", "short")
        print(result.caption)
        ```

        Args:
            image: As in `query`.
            length: `"short"` (a sentence or two), `"normal"` or `"long"` (wire field `length`).
            stream: True returns the caption as it is written, as an `AsyncTextStream`.
            settings: `temperature`, `top_p`, `max_tokens`.
            extra_body: More fields of the request's body, for what this version does not know yet.

        Returns:
            `.caption`.

        Raises:
            MoondreamError: As in `query`.
        """
        __tracebackhide__ = True
        arguments = {"length": length, "settings": settings, "extra_body": extra_body}
        if checks.flag("stream", stream):
            return AsyncTextStream(*await self._api.stream(skills.CAPTION, image, arguments))
        return await self._api.request(skills.CAPTION, image, arguments)

    async def detect(
        self,
        image: ImageInput,
        object: str | Sequence[str],
        settings: SamplingSettings | None = None,
        *,
        extra_body: Mapping[str, Any] | None = None,
        tiles: TilesInput | None = None,
    ) -> DetectResult:
        """Find every instance of an object, as boxes.

        ```python
        result = await client.detect("photo.jpg", ["red", "blue"])
        for box in result.objects:
            print(box.label, box.x_min, box.y_min, box.x_max, box.y_max)
        ```

        Args:
            image: As in `query`.
            object: What to look for, such as `"face"` (wire field `object`); or a list of labels. Each label is one
                call; the calls run concurrently, the image is encoded once, and each box has its `.label`.
            settings: `max_objects` (the server silently stops there; its default is 50 to 150), `temperature`, `top_p`.
            extra_body: More fields of the request's body, for what this version does not know yet.
            tiles: Cut a large image into overlapping tiles, so that small objects are found, too: one call for each
                tile and one for the whole image, all at once. `"auto"` shows the model every pixel; or
                `(columns, rows)`, or `Tiles(...)`. `plan` tells the number of calls. Default None: no tiles.

        Returns:
            `.objects`: boxes, 0..1 of the upright image; empty when there are none.

        Raises:
            TilesError: Some tiles failed; `.partial` is the result of the others.
            MoondreamError: As in `query`.
        """
        __tracebackhide__ = True
        arguments = {"object": object, "settings": settings, "extra_body": extra_body, "tiles": tiles}
        return await self._api.request(skills.DETECT, image, arguments)

    async def point(
        self,
        image: ImageInput,
        object: str | Sequence[str],
        settings: SamplingSettings | None = None,
        spatial_refs: Sequence[AnyRef] | None = None,
        *,
        extra_body: Mapping[str, Any] | None = None,
        tiles: TilesInput | None = None,
    ) -> PointResult:
        """Find every instance of an object, as points.

        ```python
        result = await client.point("photo.jpg", "red")
        print([(point.x, point.y) for point in result.points])
        ```

        Args:
            image: As in `query`.
            object: What to look for (wire field `object`), or a list of such, as in `detect`.
            settings: `max_objects`, `temperature`, `top_p`.
            spatial_refs: As in `query`.
            extra_body: More fields of the request's body, for what this version does not know yet.
            tiles: As in `detect`. Objects should be smaller than the overlap of tiles; larger ones may get several
                points.

        Returns:
            `.points`: 0..1 of the upright image; empty when there are none.

        Raises:
            MoondreamError: As in `query`.
        """
        __tracebackhide__ = True
        arguments = {
            "object": object,
            "settings": settings,
            "spatial_refs": spatial_refs,
            "extra_body": extra_body,
            "tiles": tiles,
        }
        return await self._api.request(skills.POINT, image, arguments)

    @overload
    async def segment(
        self,
        image: ImageInput,
        object: str,
        spatial_refs: Sequence[AnyRef] | None = None,
        stream: Literal[False] = False,
        settings: SamplingSettings | None = None,
        *,
        extra_body: Mapping[str, Any] | None = None,
    ) -> SegmentResult: ...

    @overload
    async def segment(
        self,
        image: ImageInput,
        object: str,
        spatial_refs: Sequence[AnyRef] | None = None,
        *,
        stream: Literal[True],
        settings: SamplingSettings | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> AsyncSegmentStream: ...

    @overload
    async def segment(
        self,
        image: ImageInput,
        object: str,
        spatial_refs: Sequence[AnyRef] | None = None,
        stream: bool = False,
        settings: SamplingSettings | None = None,
        *,
        extra_body: Mapping[str, Any] | None = None,
    ) -> SegmentResult | AsyncSegmentStream: ...

    async def segment(
        self,
        image: ImageInput,
        object: str,
        spatial_refs: Sequence[AnyRef] | None = None,
        stream: bool = False,
        settings: SamplingSettings | None = None,
        *,
        extra_body: Mapping[str, Any] | None = None,
    ) -> SegmentResult | AsyncSegmentStream:
        """Outline one object, as an SVG path.

        ```python
        result = await client.segment("photo.jpg", "red")
        result.annotate("photo.jpg").save("outline.png")
        ```

        Args:
            image: As in `query`. It is sent at full resolution, which the outline of a small object needs; an
                `EncodedImage` is sent as it is.
            object: What to outline (wire field `object`).
            spatial_refs: As in `query`: which one, if there are several.
            stream: True returns the steps as they come, as an `AsyncSegmentStream`.
            settings: `temperature`, `top_p`, `max_tokens`.
            extra_body: More fields of the request's body, for what this version does not know yet.

        Returns:
            `.path`, in coordinates 0..1 **of `.bbox`**, and `.bbox`, 0..1 of the upright image.

        Raises:
            MoondreamError: As in `query`.
        """
        __tracebackhide__ = True
        arguments = {"object": object, "spatial_refs": spatial_refs, "settings": settings, "extra_body": extra_body}
        if checks.flag("stream", stream):
            return AsyncSegmentStream(*await self._api.stream(skills.SEGMENT, image, arguments))
        return await self._api.request(skills.SEGMENT, image, arguments)

    @overload
    def map(
        self,
        skill: Literal["query"],
        items: Iterable[MapItem] | AsyncIterable[MapItem],
        *,
        question: str,
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
        spatial_refs: Sequence[AnyRef] | None = None,
        **options: Unpack[MapOptions],
    ) -> AsyncMap[QueryResult]: ...

    @overload
    def map(
        self,
        skill: Literal["query"],
        items: Iterable[FullItem] | AsyncIterable[FullItem],
        *,
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
        spatial_refs: Sequence[AnyRef] | None = None,
        **options: Unpack[MapOptions],
    ) -> AsyncMap[QueryResult]: ...

    @overload
    def map(
        self,
        skill: Literal["caption"],
        items: Iterable[MapItem] | AsyncIterable[MapItem],
        *,
        length: Length = "normal",
        settings: SamplingSettings | None = None,
        **options: Unpack[MapOptions],
    ) -> AsyncMap[CaptionResult]: ...

    @overload
    def map(
        self,
        skill: Literal["detect"],
        items: Iterable[MapItem] | AsyncIterable[MapItem],
        *,
        object: str | Sequence[str],
        settings: SamplingSettings | None = None,
        tiles: TilesInput | None = None,
        **options: Unpack[MapOptions],
    ) -> AsyncMap[DetectResult]: ...

    @overload
    def map(
        self,
        skill: Literal["detect"],
        items: Iterable[FullItem] | AsyncIterable[FullItem],
        *,
        settings: SamplingSettings | None = None,
        tiles: TilesInput | None = None,
        **options: Unpack[MapOptions],
    ) -> AsyncMap[DetectResult]: ...

    @overload
    def map(
        self,
        skill: Literal["point"],
        items: Iterable[MapItem] | AsyncIterable[MapItem],
        *,
        object: str | Sequence[str],
        settings: SamplingSettings | None = None,
        spatial_refs: Sequence[AnyRef] | None = None,
        tiles: TilesInput | None = None,
        **options: Unpack[MapOptions],
    ) -> AsyncMap[PointResult]: ...

    @overload
    def map(
        self,
        skill: Literal["point"],
        items: Iterable[FullItem] | AsyncIterable[FullItem],
        *,
        settings: SamplingSettings | None = None,
        spatial_refs: Sequence[AnyRef] | None = None,
        tiles: TilesInput | None = None,
        **options: Unpack[MapOptions],
    ) -> AsyncMap[PointResult]: ...

    @overload
    def map(
        self,
        skill: Literal["segment"],
        items: Iterable[MapItem] | AsyncIterable[MapItem],
        *,
        object: str,
        spatial_refs: Sequence[AnyRef] | None = None,
        settings: SamplingSettings | None = None,
        **options: Unpack[MapOptions],
    ) -> AsyncMap[SegmentResult]: ...

    @overload
    def map(
        self,
        skill: Literal["segment"],
        items: Iterable[FullItem] | AsyncIterable[FullItem],
        *,
        spatial_refs: Sequence[AnyRef] | None = None,
        settings: SamplingSettings | None = None,
        **options: Unpack[MapOptions],
    ) -> AsyncMap[SegmentResult]: ...

    @overload
    def map(
        self,
        skill: SeveralSkills,
        items: Iterable[MapItem] | AsyncIterable[MapItem],
        **options: Any,
    ) -> AsyncMap[Any]: ...

    def map(
        self,
        skill: Skills,
        items: Iterable[MapItem] | AsyncIterable[MapItem],
        *,
        concurrency: int = 32,
        ordered: bool = False,
        max_failures: int | None = None,
        stop_on_auth_error: bool = True,
        max_connection_failures: int | None = 20,
        max_cost: float | None = None,
        prices: Prices | None = None,
        progress: ProgressOption = None,
        **arguments: Any,
    ) -> AsyncMap[Any]:
        """Call a skill for many images concurrently; an item that fails does not stop the others.

        ```python
        async for outcome in client.map("caption", Path("photos").glob("*.jpg")):
            print(outcome.id, outcome.result.caption if outcome.ok else outcome.error)
        ```

        Args:
            skill: `"caption"`, `"query"`, `"detect"`, `"point"` or `"segment"`; or several, as a list or as a dict of
                skills and their arguments. With several skills, each image is encoded once.
            items: Images, `(id, image)` or `(id, image, arguments)`, from any iterable or async iterable. Items are
                taken when they are needed: at most twice `concurrency` of them are in memory.
            concurrency: The number of items processed at once. Default 32.
            ordered: Whether to yield outcomes in the order of the items. Default False: as they complete.
            max_failures: The number of items that may fail; one more stops the run. Default None: no limit.
            stop_on_auth_error: Whether an invalid key (401) or missing credit (402) stops the run. Default True.
            max_connection_failures: The number of connection failures in a row, with no answer from the server in
                between, that stops the run. Default 20; None for no limit.
            max_cost: A limit in US dollars. No item starts if it could exceed the limit together with those in flight;
                then the iteration ends, and `cost_limit_reached` is True. Default None: no limit.
            prices: The prices for `max_cost` and `progress`. Default: the published prices of the client's model, on
                Moondream Cloud.
            progress: True for a bar on stderr in a terminal, or a line in a notebook; nothing is shown elsewhere. Or a
                function, which may be async: it is called with a `bulk.Progress` at most five times a second, and once
                at the end. An error in it is logged, and has no other effect. `Client` calls it in its background
                thread. Default None: nothing.
            arguments: Arguments of the skill, for all items: `question=`, `object=`, `settings=`, ...

        Returns:
            An async iterator of outcomes: `.id`, `.result` or `.error`, `.attempts`, `.elapsed`.

        Raises:
            ConfigurationError: A skill or argument is unknown, or missing from all items; `items` is a single image;
                or `max_cost` is given and the prices are not known.
            MoondreamError: While iterating: the error that stopped the run, after the outcomes of all items that had
                started.
        """
        __tracebackhide__ = True
        with no_fork():
            from .._bulk.budget import budget_of
            from .._bulk.map import AsyncMap, check_items
            from .._bulk.skill_runner import SkillRunner
            from .._bulk.stopping import StopPolicy

        work = SkillRunner(self._api, skill, arguments)
        prices = prices or prices_of(self.base_url, self.model)
        work.budget = budget_of(max_cost, prices, work.calls)
        checked = work.checked(check_items(items))
        policy = StopPolicy(
            max_failures, stop_on_auth_error=stop_on_auth_error, max_connection_failures=max_connection_failures
        )
        reporting = None
        if progress is not None and progress is not False:
            with no_fork():
                from .._bulk.map_progress import MapProgress

            total = len(items) if isinstance(items, Sized) else None
            reporting = MapProgress(progress, self._api, total, prices)
        return AsyncMap(
            checked,
            work,
            concurrency=concurrency,
            ordered=ordered,
            policy=policy,
            budget=work.budget,
            progress=reporting,
        )

    @overload
    async def run(
        self,
        skill: Literal["query"],
        items: Iterable[MapItem] | AsyncIterable[MapItem],
        out: str | os.PathLike[str],
        *,
        question: str,
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
        spatial_refs: Sequence[AnyRef] | None = None,
        **options: Unpack[RunOptions],
    ) -> RunSummary: ...

    @overload
    async def run(
        self,
        skill: Literal["query"],
        items: Iterable[FullItem] | AsyncIterable[FullItem],
        out: str | os.PathLike[str],
        *,
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
        spatial_refs: Sequence[AnyRef] | None = None,
        **options: Unpack[RunOptions],
    ) -> RunSummary: ...

    @overload
    async def run(
        self,
        skill: Literal["caption"],
        items: Iterable[MapItem] | AsyncIterable[MapItem],
        out: str | os.PathLike[str],
        *,
        length: Length = "normal",
        settings: SamplingSettings | None = None,
        **options: Unpack[RunOptions],
    ) -> RunSummary: ...

    @overload
    async def run(
        self,
        skill: Literal["detect"],
        items: Iterable[MapItem] | AsyncIterable[MapItem],
        out: str | os.PathLike[str],
        *,
        object: str | Sequence[str],
        settings: SamplingSettings | None = None,
        tiles: TilesInput | None = None,
        **options: Unpack[RunOptions],
    ) -> RunSummary: ...

    @overload
    async def run(
        self,
        skill: Literal["detect"],
        items: Iterable[FullItem] | AsyncIterable[FullItem],
        out: str | os.PathLike[str],
        *,
        settings: SamplingSettings | None = None,
        tiles: TilesInput | None = None,
        **options: Unpack[RunOptions],
    ) -> RunSummary: ...

    @overload
    async def run(
        self,
        skill: Literal["point"],
        items: Iterable[MapItem] | AsyncIterable[MapItem],
        out: str | os.PathLike[str],
        *,
        object: str | Sequence[str],
        settings: SamplingSettings | None = None,
        spatial_refs: Sequence[AnyRef] | None = None,
        tiles: TilesInput | None = None,
        **options: Unpack[RunOptions],
    ) -> RunSummary: ...

    @overload
    async def run(
        self,
        skill: Literal["point"],
        items: Iterable[FullItem] | AsyncIterable[FullItem],
        out: str | os.PathLike[str],
        *,
        settings: SamplingSettings | None = None,
        spatial_refs: Sequence[AnyRef] | None = None,
        tiles: TilesInput | None = None,
        **options: Unpack[RunOptions],
    ) -> RunSummary: ...

    @overload
    async def run(
        self,
        skill: Literal["segment"],
        items: Iterable[MapItem] | AsyncIterable[MapItem],
        out: str | os.PathLike[str],
        *,
        object: str,
        spatial_refs: Sequence[AnyRef] | None = None,
        settings: SamplingSettings | None = None,
        **options: Unpack[RunOptions],
    ) -> RunSummary: ...

    @overload
    async def run(
        self,
        skill: Literal["segment"],
        items: Iterable[FullItem] | AsyncIterable[FullItem],
        out: str | os.PathLike[str],
        *,
        spatial_refs: Sequence[AnyRef] | None = None,
        settings: SamplingSettings | None = None,
        **options: Unpack[RunOptions],
    ) -> RunSummary: ...

    @overload
    async def run(
        self,
        skill: SeveralSkills,
        items: Iterable[MapItem] | AsyncIterable[MapItem],
        out: str | os.PathLike[str],
        **options: Any,
    ) -> RunSummary: ...

    async def run(
        self,
        skill: Skills,
        items: Iterable[MapItem] | AsyncIterable[MapItem],
        out: str | os.PathLike[str],
        *,
        concurrency: int = 32,
        max_failures: int | None = None,
        stop_on_auth_error: bool = True,
        max_connection_failures: int | None = 20,
        max_cost: float | None = None,
        resume: bool = True,
        retry_failed: bool = False,
        progress: ProgressOption = None,
        prices: Prices | None = None,
        **arguments: Any,
    ) -> RunSummary:
        """Call a skill for many images and write the results to a JSON Lines file; can be interrupted and resumed.

        Each item is one line, written when it completes: `id`, `skill`, `arguments`, `ok`, `result` (as on the wire)
        or `error`, `attempts`, `elapsed`, `run`. The same call again skips the items that are in the file (same id and
        arguments). `moondream_async.bulk` reads the file and exports it to CSV or Parquet.

        ```python
        summary = await client.run("detect", Path("photos").glob("*.jpg"), "red.jsonl", object="red", progress=True)
        print(summary.succeeded, summary.failed, summary.skipped)
        ```

        Args:
            skill: As in `map`.
            items: As in `map`. The id of an item is the given one (a string or number), else its path or URL, else a
                digest of its content.
            out: The file. Its directory must exist. A file that holds something else, or results of another run (other
                skill, arguments or model), or that another run is writing, is rejected.
            concurrency: As in `map`.
            max_failures: As in `map`.
            stop_on_auth_error: As in `map`. The item whose key or credit was refused is not written.
            max_connection_failures: As in `map`. The items that failed this way are not written, so a resumed run
                retries them.
            max_cost: As in `map`. `cost_limit_reached` and `remaining` of the summary say what is left.
            resume: Whether to continue a file that holds results; if False, such a file is rejected. Default True.
            retry_failed: Whether to retry the failed items of the file. Default False. Their lines stay in the file
                until their successors are written.
            progress: As in `map`. The final figures are also in the summary that is returned.
            prices: The prices for the cost estimate. Default: the published prices of the client's model, on Moondream
                Cloud; elsewhere there is no estimate.
            arguments: As in `map`.

        Returns:
            A `RunSummary`: items that succeeded, failed or were skipped; tokens, and their estimated cost.

        Raises:
            ConfigurationError: As in `map`.
            OutputFileError: The file cannot be used; nothing was sent.
            ResultsFileError: Writing the file failed.
            MoondreamError: The error that stopped the run, after the results of all started items were written.
        """
        __tracebackhide__ = True
        with no_fork():
            from .._bulk.run import Run

        run = Run(
            self,
            skill,
            items,
            out,
            concurrency=concurrency,
            max_failures=max_failures,
            stop_on_auth_error=stop_on_auth_error,
            max_connection_failures=max_connection_failures,
            max_cost=max_cost,
            resume=resume,
            retry_failed=retry_failed,
            progress=progress,
            prices=prices,
            arguments=arguments,
        )
        return await run.run()

    async def plan(
        self, skill: str, image: ImageInput | None = None, *, prices: Prices | None = None, **arguments: Any
    ) -> Plan:
        """Return how many calls a skill would make for an image, and what they would cost. Nothing is sent.

        ```python
        plan = await client.plan("detect", "aerial.jpg", object="car", tiles="auto")
        print(plan.calls, plan.cost)
        ```

        Args:
            skill: As in `map`, one skill.
            image: As in `query`. An image from a URL is downloaded, to know its size.
            prices: The prices. Default: the published prices of the client's model, on Moondream Cloud.
            arguments: The skill's arguments.

        Raises:
            ConfigurationError: The skill or an argument is not valid.
            ImageError: The image cannot be read.
        """
        __tracebackhide__ = True
        with no_fork():
            from .._bulk.plans import make_plan

        return await make_plan(self._api, skill, image, arguments, prices or prices_of(self.base_url, self.model))

    async def encode_image(self, image: ImageInput, image_options: ImageOptions | None = None) -> EncodedImage:
        """Prepare an image once, to send it any number of times.

        The image is turned upright, put on white, converted to 8-bit sRGB, and sized so that the model sees the
        most detail with the fewest bytes. A JPEG or PNG that already meets all of this is passed through unchanged.
        The work runs in a worker thread; concurrent calls for the same object share it. Pass the original image,
        not an `EncodedImage`, to `segment`, which works at a higher resolution.

        ```python
        image = await client.encode_image("photo.jpg")
        print(image.nbytes, (await client.caption(image)).caption, (await client.query(image, "Which colors?")).answer)
        ```

        Args:
            image: A path, http(s) URL, bytes, binary file (async ones too), PIL image, array (RGB,
                `uint8`), `data:` URI, base64, or an `EncodedImage`, returned as it is.
            image_options: How to prepare it. Default: the client's options.

        Raises:
            ImageError: The image cannot be fetched or read, is not an image, is damaged or too large.
            ConfigurationError: `image_options` is not an `ImageOptions`.
        """
        __tracebackhide__ = True
        options = None if image_options is None else ImageOptions.of(image_options)
        return await self._api.encode_image(image, options)

    @overload
    async def post(self, path: str, body: Mapping[str, Any], read: None = None) -> dict[str, Any]: ...

    @overload
    async def post(self, path: str, body: Mapping[str, Any], read: Callable[[Any], T]) -> T: ...

    async def post(
        self, path: str, body: Mapping[str, Any], read: Callable[[Any], T] | None = None
    ) -> T | dict[str, Any]:
        """Send any other POST request, for what this version does not know yet.

        It has the same key, retries, rate, hooks and errors as the skills. Of several servers, the first gets it.

        ```python
        image = await client.encode_image("photo.jpg")
        answer = await client.post("caption", {"image_url": image.image_url, "length": "short"})
        print(answer["caption"])
        ```

        Args:
            path: The path below the base URL, such as `"caption"` or `"/new/skill"`.
            body: The JSON body. `encode_image(...).image_url` is an image in it.
            read: Builds the return value from the decoded JSON. Its exceptions are yours. Default: the JSON, a dict.

        Raises:
            ConfigurationError: The path or the body is not valid; nothing was sent.
            MoondreamError: As in `query`.
        """
        __tracebackhide__ = True
        data = await self._api.post(path, body, is_object=read is None)
        return cast("dict[str, Any]", data) if read is None else read(data)

    async def models(self) -> list[Model]:
        """List the models of the server. The call is free, so it also serves to check a key.

        ```python
        print([model.id for model in await client.models()])
        ```

        Raises:
            AuthenticationError: The key is invalid.
            MoondreamError: As in `query`.
        """
        __tracebackhide__ = True
        return await self._api.fetch(self._api.requests.get("models"), lambda data, _: responses.models(data))

    def with_options(
        self,
        *,
        model: str | None = None,
        timeout: Timeouts | float | None = None,
        retry: RetryPolicy | int | None = None,
        image_options: ImageOptions | None = None,
        headers: Mapping[str, str] | None = None,
        hooks: HooksInput | None = None,
    ) -> Self:
        """Return a cheap clone with other options. It shares the connections: closing either closes both.

        ```python
        patient = client.with_options(timeout=300, retry=8)
        result = await patient.query("photo.jpg", "What is on the left?")
        ```

        Args:
            model: Another model. Default: no change; the same for all other options.
            timeout: Other timeouts.
            retry: Another retry policy.
            image_options: Other options for preparing images.
            headers: Headers to add or replace.
            hooks: Other hooks.

        Raises:
            ConfigurationError: A value is not valid.
        """
        __tracebackhide__ = True
        now = self._api.settings
        headers = config.hidden_headers(headers)
        clone = copy.copy(self)
        clone._api = self._api.with_settings(
            server=attrs.evolve(now.server, model=config.check_model(model) or self.model),
            timeouts=now.timeouts if timeout is None else Timeouts.of(timeout),
            retry=now.retry if retry is None else RetryPolicy.of(retry),
            image_options=now.image_options if image_options is None else ImageOptions.of(image_options),
            hooks=now.hooks if hooks is None else hooks_of(hooks),
            headers=now.headers | config.check_headers(headers),
        )
        return clone

    async def aclose(self) -> None:
        """Close the connections. Later calls raise `ConfigurationError`; closing twice is safe."""
        await self._api.aclose()

    def __repr__(self) -> str:
        api: ApiClient | None = getattr(self, "_api", None)
        if api is None:  # a traceback may show a client whose arguments were refused
            return f"{type(self).__name__}()"
        model = f", model={api.model!r}" if api.model else ""
        return f"{type(self).__name__}(base_url={api.base_url!r}{model})"

    def _recipe(self) -> Recipe:
        return self._api.recipe

    async def _ask(
        self,
        kind: structured.AnswerFormat[T],
        image: ImageInput | None,
        question: str,
        settings: SamplingSettings | None,
        reasoning: bool | None,
        repair: bool,
    ) -> T:
        encoded = None if image is None else await self.encode_image(image)
        query = functools.partial(self.query, encoded, settings=settings, reasoning=reasoning)
        return await structured.ask(query, question, kind, repair=repair)


def _check_cache(cache: Any) -> Cache | None:
    if cache is None:
        return None
    from .._cache.store import Cache

    if not isinstance(cache, Cache):
        raise ConfigurationError(f"cache must be a Cache, such as Cache('answers.sqlite'), not {cache!r}.")
    return cache
