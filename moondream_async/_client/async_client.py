"""`AsyncClient`: every skill is prepare image -> build request -> send -> parse."""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, cast, overload

import attrs

from .. import _multi_label, config
from .._api import ApiClient, Settings, SharedSession
from .._concurrency.forks import no_fork
from .._images.encoded import EncodedImage
from .._images.options import ImageOptions
from .._public import public
from .._wire import chat, requests, responses
from .._wire.events import SegmentReducer, TextReducer
from .._wire.requests import AnyRef
from ..config import Length, RetryPolicy, SamplingSettings, Secret, Timeouts
from ..prices import Prices, prices_of
from ..types import (
    CaptionResult,
    ChatResult,
    DetectResult,
    Model,
    PointResult,
    QueryResult,
    SegmentResult,
)
from . import structured
from .chat_payload import ChatPayload
from .streams import AsyncChatStream, AsyncSegmentStream, AsyncTextStream

if TYPE_CHECKING:
    from .._batches.resource import AsyncBatches
    from .._bulk.items import MapItem, Skills
    from .._bulk.map import AsyncMap
    from .._bulk.run import RunSummary
    from .._http.session import HttpClient
    from .._images.prepare import ImageInput
    from .._tuning.resource import AsyncTuning
    from ..hooks import Hooks, HooksInput, Stats

T = TypeVar("T")


@public()
class AsyncClient:
    """An async client of Moondream Cloud, Moondream Station or any compatible server.

    One client per process is enough: it keeps connections, may be used by any number of tasks,
    in several event loops (asyncio or trio) one after the other, and is made without I/O.

    Args:
        api_key: The key. Default: `MOONDREAM_API_KEY`. Needed for Moondream Cloud only.
        base_url: The server, with or without its `/v1`. Default: `MOONDREAM_BASE_URL` or
            `MOONDREAM_ENDPOINT`, else Moondream Cloud. Station is `http://localhost:2020/v1`.
        model: The model of every call (wire field `model`). Default: `MOONDREAM_MODEL`, else the server's.
        timeout: `Timeouts(connect=10, idle=120, total=600)`, or a number of seconds for each attempt as a whole.
        retry: `RetryPolicy(attempts=4, ...)`, or a number of attempts; 1 never retries.
        rate_limit: Requests started per second. Default None: free until the server answers 429,
            then as fast as it lets us.
        max_connections: Requests in flight at once, in each event loop; more wait their turn. Default 256.
        image_options: `ImageOptions(resize="auto", quality=90, ...)`: how images are prepared.
        headers: Extra headers for every request.
        hooks: `Hooks(request=..., retry=..., ...)`, or several: your functions, told how calls go.
        http_client: Your own `httpx.AsyncClient` or `httpx.AsyncBaseTransport`, used as it is and never
            closed; or `"aiohttp"` (extra `aiohttp`, asyncio only) for less CPU per call. Default: a transport
            built for load, through the proxies of the environment.

    Raises:
        ConfigurationError: A value cannot be used, or there is no key and Moondream Cloud needs one.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        model: str | None = None,
        timeout: Timeouts | float | None = None,
        retry: RetryPolicy | int | None = None,
        rate_limit: float | None = None,
        max_connections: int = 256,
        image_options: ImageOptions | None = None,
        headers: Mapping[str, str] | None = None,
        hooks: HooksInput | None = None,
        http_client: HttpClient | None = None,
    ) -> None:
        secret, api_key = Secret(api_key), None  # from here on no local holds the key in the open
        headers = config.hidden_headers(headers)
        settings = Settings(
            server=config.resolve_server(secret, base_url, model),
            timeouts=Timeouts.of(timeout),
            retry=RetryPolicy.of(retry),
            image_options=ImageOptions.of(image_options),
            headers=config.check_headers(headers),
            hooks=_checked(hooks),
        )
        session = SharedSession(
            max_connections=config.check_whole("max_connections", max_connections, least=1),
            rate_limit=config.check_rate_limit(rate_limit),
            http_client=http_client,
        )
        self._api = ApiClient(settings, session)

    @property
    def base_url(self) -> str:
        """The server, ending in `/v1`."""
        return self._api.base_url

    @property
    def model(self) -> str | None:
        """The model of every call; None is the server's default."""
        return self._api.model

    @property
    def stats(self) -> Stats:
        """Counters of this client and its clones: calls in flight and waiting, retries, 429s, bytes, tokens."""
        return self._api.stats

    @property
    def batches(self) -> AsyncBatches:
        """Moondream Cloud's Batch API: many images at half the price, as jobs on the server."""
        from .._batches.resource import AsyncBatches

        api = self._api
        options = api.settings.image_options
        return AsyncBatches(self, lambda: api.http, base_url=self.base_url, model=self.model, options=options)

    @property
    def tuning(self) -> AsyncTuning:
        """Moondream Cloud's tuning API: finetunes by reinforcement and by examples."""
        from .._tuning.finetune import Access
        from .._tuning.resource import AsyncTuning

        return AsyncTuning(Access(self, lambda: self._api.http, lambda: self._api.patient.http))

    @overload
    async def query(
        self,
        image: ImageInput | None = None,
        question: str | None = None,
        stream: Literal[False] = False,
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
        spatial_refs: Sequence[AnyRef] | None = None,
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
    ) -> QueryResult | AsyncTextStream[QueryResult]: ...

    async def query(
        self,
        image: ImageInput | None = None,
        question: str | None = None,
        stream: bool = False,
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
        spatial_refs: Sequence[AnyRef] | None = None,
    ) -> QueryResult | AsyncTextStream[QueryResult]:
        """Ask about an image, or, without one, about nothing but the text.

        Args:
            image: A path, http(s) URL, bytes, binary file (async ones too), PIL image, array (RGB,
                `uint8`), `data:` URI, base64 or `EncodedImage` (wire field `image_url`).
            question: What to ask (wire field `question`).
            stream: True returns the answer as it is written, as an `AsyncTextStream`.
            settings: `temperature`, `top_p`, `max_tokens`.
            reasoning: True or False is sent as it is; None leaves it to the server.
            spatial_refs: Points `[x, y]` and boxes `[x_min, y_min, x_max, y_max]` that the question is about,
                0..1 of the upright image. `Point` and `BoundingBox` are taken too.

        Returns:
            `.answer`, and `.reasoning` if it was asked for.

        Raises:
            ConfigurationError: An argument cannot be used; nothing was sent.
            ImageError: The image cannot be used; nothing was sent.
            APIError: The server answered with an error; its subclasses say which.
            APITimeoutError: A timeout ran out.
            APIConnectionError: The server could not be reached, or the connection broke.
        """
        build = functools.partial(
            requests.query,
            question=question,
            stream=stream,
            settings=settings,
            reasoning=reasoning,
            spatial_refs=spatial_refs,
            model=self.model,
        )
        payload = self._api.text_payload(build) if image is None else self._api.payload(image, build)
        if stream:
            events = await self._api.stream("query", payload)
            return AsyncTextStream(events, TextReducer("answer", responses.query, payload.image_size))
        return await self._api.request("query", payload, responses.query)

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
        """Talk, over several turns and with several images, by the OpenAI-compatible endpoint `/chat/completions`.

        Args:
            messages: Dicts of `role` (`"system"`, `"user"`, `"assistant"`) and `content`: a text, or a list of texts,
                images (anything the skills take; a path as `pathlib.Path`, as a `str` is a text) and OpenAI's parts
                (`{"type": "image_url", "image_url": {"url": image}}`). Images are prepared as for the skills.
            stream: True returns the answer as it is written, as an `AsyncChatStream`.
            settings: `temperature`, `top_p`, `max_tokens` (wire field `max_completion_tokens`; at most 4096, reasoning
                included).
            reasoning: True or False is sent as it is; None leaves it to the server, whose default is True.

        Returns:
            `.content`, `.reasoning`, `.finish_reason`, `.metrics` (tokens).

        Raises:
            MoondreamError: As in `query`.
        """
        build = functools.partial(chat.body, stream=stream, settings=settings, reasoning=reasoning, model=self.model)
        build([])  # refuses what can be refused before an image is prepared
        payload = ChatPayload(self._api, messages, build)
        if stream:
            events = await self._api.http.open_stream("chat/completions", payload, bearer=True)
            return AsyncChatStream(events, chat.ChatReducer())
        return await self._api.http.fetch("chat/completions", payload, chat.result, bearer=True)

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
        """Ask for a list; empty if the answer is none.

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
        return await self._ask(structured.LIST, image, question, settings, reasoning, repair)

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

        Args:
            image: As in `query`; None asks about nothing but the text.
            question: What to ask.
            schema: An attrs class or a pydantic model class, of which the answer is made an instance; or a JSON schema
                as a dict, by which it is checked.
            settings: As in `query`.
            reasoning: As in `query`.
            repair: Whether to ask once more, saying why, if the answer cannot be used. Default True.

        Raises:
            AnswerError: The answer is of another kind, and so was the second; `.answers` keeps them.
            MoondreamError: As in `query`.
        """
        return await self._ask(structured.structured(schema), image, question, settings, reasoning, repair)

    @overload
    async def caption(
        self,
        image: ImageInput,
        length: Length = "normal",
        stream: Literal[False] = False,
        settings: SamplingSettings | None = None,
    ) -> CaptionResult: ...

    @overload
    async def caption(
        self,
        image: ImageInput,
        length: Length = "normal",
        *,
        stream: Literal[True],
        settings: SamplingSettings | None = None,
    ) -> AsyncTextStream[CaptionResult]: ...

    @overload
    async def caption(
        self,
        image: ImageInput,
        length: Length = "normal",
        stream: bool = False,
        settings: SamplingSettings | None = None,
    ) -> CaptionResult | AsyncTextStream[CaptionResult]: ...

    async def caption(
        self,
        image: ImageInput,
        length: Length = "normal",
        stream: bool = False,
        settings: SamplingSettings | None = None,
    ) -> CaptionResult | AsyncTextStream[CaptionResult]:
        """Describe an image.

        Args:
            image: As in `query`.
            length: `"short"` (a sentence or two), `"normal"` or `"long"` (wire field `length`).
            stream: True returns the caption as it is written, as an `AsyncTextStream`.
            settings: `temperature`, `top_p`, `max_tokens`.

        Returns:
            `.caption`.

        Raises:
            MoondreamError: As in `query`.
        """
        build = functools.partial(requests.caption, length=length, stream=stream, settings=settings, model=self.model)
        payload = self._api.payload(image, build)
        if stream:
            events = await self._api.stream("caption", payload)
            return AsyncTextStream(events, TextReducer("caption", responses.caption, payload.image_size))
        return await self._api.request("caption", payload, responses.caption)

    async def detect(
        self, image: ImageInput, object: str | Sequence[str], settings: SamplingSettings | None = None
    ) -> DetectResult:
        """Find every instance of an object, as boxes.

        Args:
            image: As in `query`.
            object: What to look for, such as `"face"` (wire field `object`); or a list of such: each is looked for
                in a call of its own, side by side, the image encoded once, and the boxes bear their `.label`.
            settings: `max_objects` (the server stops there, silently; 50 to 150 by default), `temperature`, `top_p`.

        Returns:
            `.objects`: boxes, 0..1 of the upright image; empty when there are none.

        Raises:
            MoondreamError: As in `query`.
        """
        wanted = _multi_label.parse_labels(object)
        if wanted is not None:
            return await _multi_label.detect(
                functools.partial(self.detect, await self.encode_image(image), settings=settings), wanted
            )
        build = functools.partial(requests.detect, object=cast("str", object), settings=settings, model=self.model)
        return await self._api.request("detect", self._api.payload(image, build), responses.detect)

    async def point(
        self,
        image: ImageInput,
        object: str | Sequence[str],
        settings: SamplingSettings | None = None,
        spatial_refs: Sequence[AnyRef] | None = None,
    ) -> PointResult:
        """Find every instance of an object, as points.

        Args:
            image: As in `query`.
            object: What to look for (wire field `object`), or a list of such, as in `detect`.
            settings: `max_objects`, `temperature`, `top_p`.
            spatial_refs: As in `query`.

        Returns:
            `.points`: 0..1 of the upright image; empty when there are none.

        Raises:
            MoondreamError: As in `query`.
        """
        wanted = _multi_label.parse_labels(object)
        if wanted is not None:
            return await _multi_label.point(
                functools.partial(
                    self.point, await self.encode_image(image), settings=settings, spatial_refs=spatial_refs
                ),
                wanted,
            )
        build = functools.partial(
            requests.point, object=cast("str", object), settings=settings, spatial_refs=spatial_refs, model=self.model
        )
        return await self._api.request("point", self._api.payload(image, build), responses.point)

    @overload
    async def segment(
        self,
        image: ImageInput,
        object: str,
        spatial_refs: Sequence[AnyRef] | None = None,
        stream: Literal[False] = False,
        settings: SamplingSettings | None = None,
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
    ) -> AsyncSegmentStream: ...

    @overload
    async def segment(
        self,
        image: ImageInput,
        object: str,
        spatial_refs: Sequence[AnyRef] | None = None,
        stream: bool = False,
        settings: SamplingSettings | None = None,
    ) -> SegmentResult | AsyncSegmentStream: ...

    async def segment(
        self,
        image: ImageInput,
        object: str,
        spatial_refs: Sequence[AnyRef] | None = None,
        stream: bool = False,
        settings: SamplingSettings | None = None,
    ) -> SegmentResult | AsyncSegmentStream:
        """Outline one object, as an SVG path.

        Args:
            image: As in `query`. It is sent at full resolution, which the outline of a small object needs; an
                `EncodedImage` is sent as it is.
            object: What to outline (wire field `object`).
            spatial_refs: As in `query`: which one, if there are several.
            stream: True returns the steps as they come, as an `AsyncSegmentStream`.
            settings: `temperature`, `top_p`, `max_tokens`.

        Returns:
            `.path`, in coordinates 0..1 **of `.bbox`**, and `.bbox`, 0..1 of the upright image.

        Raises:
            MoondreamError: As in `query`.
        """
        build = functools.partial(
            requests.segment,
            object=object,
            spatial_refs=spatial_refs,
            stream=stream,
            settings=settings,
            model=self.model,
        )
        payload = self._api.payload(image, build, full_resolution=True)
        if stream:
            events = await self._api.stream("segment", payload)
            return AsyncSegmentStream(events, SegmentReducer(payload.image_size))
        return await self._api.request("segment", payload, responses.segment)

    @overload
    def map(
        self,
        skill: Literal["query"],
        items: Iterable[MapItem] | AsyncIterable[MapItem],
        *,
        concurrency: int = 32,
        ordered: bool = False,
        max_failures: int | None = None,
        stop_on_auth_error: bool = True,
        max_connection_failures: int | None = 20,
        max_cost: float | None = None,
        prices: Prices | None = None,
        **arguments: Any,
    ) -> AsyncMap[QueryResult]: ...

    @overload
    def map(
        self,
        skill: Literal["caption"],
        items: Iterable[MapItem] | AsyncIterable[MapItem],
        *,
        concurrency: int = 32,
        ordered: bool = False,
        max_failures: int | None = None,
        stop_on_auth_error: bool = True,
        max_connection_failures: int | None = 20,
        max_cost: float | None = None,
        prices: Prices | None = None,
        **arguments: Any,
    ) -> AsyncMap[CaptionResult]: ...

    @overload
    def map(
        self,
        skill: Literal["detect"],
        items: Iterable[MapItem] | AsyncIterable[MapItem],
        *,
        concurrency: int = 32,
        ordered: bool = False,
        max_failures: int | None = None,
        stop_on_auth_error: bool = True,
        max_connection_failures: int | None = 20,
        max_cost: float | None = None,
        prices: Prices | None = None,
        **arguments: Any,
    ) -> AsyncMap[DetectResult]: ...

    @overload
    def map(
        self,
        skill: Literal["point"],
        items: Iterable[MapItem] | AsyncIterable[MapItem],
        *,
        concurrency: int = 32,
        ordered: bool = False,
        max_failures: int | None = None,
        stop_on_auth_error: bool = True,
        max_connection_failures: int | None = 20,
        max_cost: float | None = None,
        prices: Prices | None = None,
        **arguments: Any,
    ) -> AsyncMap[PointResult]: ...

    @overload
    def map(
        self,
        skill: Literal["segment"],
        items: Iterable[MapItem] | AsyncIterable[MapItem],
        *,
        concurrency: int = 32,
        ordered: bool = False,
        max_failures: int | None = None,
        stop_on_auth_error: bool = True,
        max_connection_failures: int | None = 20,
        max_cost: float | None = None,
        prices: Prices | None = None,
        **arguments: Any,
    ) -> AsyncMap[SegmentResult]: ...

    @overload
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
        **arguments: Any,
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
        **arguments: Any,
    ) -> AsyncMap[Any]:
        """Do the same with many images, so many at a time; an item that fails does not stop the others.

        Args:
            skill: `"caption"`, `"query"`, `"detect"`, `"point"` or `"segment"`; or several, as a list, or as a dict
                with arguments of their own: each image is then encoded once.
            items: Images, `(id, image)`, or `(id, image, arguments)`, from any iterable or async iterable. They are
                taken as they are needed: at most twice `concurrency` are in memory.
            concurrency: How many are worked on at once. Default 32.
            ordered: Whether outcomes come in the items' order; otherwise as they are completed. Default False.
            max_failures: How many items may fail; one more stops the run. 0 stops at the first. Default None: any.
            stop_on_auth_error: Whether a refused key (401) or missing credit (402) stops the run. Default True.
            max_connection_failures: How many items in a row may fail because no connection can be made or kept, with
                no answer of the server in between, before the run stops. Default 20; None for any number.
            max_cost: US dollars. No item is begun that could pass it, together with those in flight; then the
                iteration ends, and `cost_limit_reached` is True. Default None: no limit.
            prices: For `max_cost`. Default: the published ones of the client's model, on Moondream Cloud.
            arguments: The skill's own, for every item: `question=`, `object=`, `settings=`, ...

        Returns:
            The outcomes, to be iterated: `.id`, `.result` or `.error`, `.attempts`, `.elapsed`.

        Raises:
            ConfigurationError: A skill or argument is unknown, or missing with all items; `items` is a single image;
                `max_cost` is given and the prices are not known.
            MoondreamError: While iterating: the error of the item that stopped the run, after the outcomes of all
                that were begun.
        """
        with no_fork():
            from .._bulk.budget import budget_of
            from .._bulk.map import AsyncMap, check_items
            from .._bulk.skill_runner import SkillRunner

        work = SkillRunner(self, skill, arguments)
        work.budget = budget_of(max_cost, prices or prices_of(self.base_url, self.model), work.calls)
        return AsyncMap(
            work.checked(check_items(items)),
            work,
            concurrency=concurrency,
            ordered=ordered,
            max_failures=max_failures,
            stop_on_auth_error=stop_on_auth_error,
            max_connection_failures=max_connection_failures,
            budget=work.budget,
        )

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
        progress: Callable[[RunSummary], Any] | None = None,
        prices: Prices | None = None,
        **arguments: Any,
    ) -> RunSummary:
        """Do the same with many images, into a file of JSON lines that a crash leaves whole and a restart completes.

        Each item is one line, written when it is done: `id`, `skill`, `arguments`, `ok`, `result` (as on the wire)
        or `error`, `attempts`, `elapsed`, `run`. Called again, it skips the items that the file has: those with the
        same id and arguments. `moondream_async.bulk` reads the file, and exports it as CSV or Parquet.

        Args:
            skill: As in `map`.
            items: As in `map`. An item's id is the one given (a text or number), else its path or URL, else a digest
                of its content.
            out: The file. Its directory has to be there. One that holds anything but results of this run (same skill,
                arguments and model), or that another run is writing, is refused.
            concurrency: As in `map`.
            max_failures: As in `map`.
            stop_on_auth_error: As in `map`; the item that is refused for its key or credit is not written.
            max_connection_failures: As in `map`; the items that failed then are not written, so that a resumed run
                takes them up.
            max_cost: As in `map`; the summary's `cost_limit_reached` and `remaining` say what is left to do.
            resume: Whether to go on with a file that holds results; if False, such a file is refused. Default True.
            retry_failed: Whether to do those again that failed; their lines are taken out first. Default False.
            progress: Is given the `RunSummary` so far after each item; may be async.
            prices: To estimate the cost. Default: Moondream Cloud's, on Moondream Cloud; else there is no estimate.
            arguments: As in `map`.

        Returns:
            How many items succeeded, failed, were skipped; tokens, and an estimate of their cost.

        Raises:
            ConfigurationError: As in `map`.
            OutputFileError: The file cannot be used or written; nothing was sent.
            ResultsFileError: The file could not be written any further.
            MoondreamError: What stopped the run, after all that was begun has been written.
        """
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

    async def encode_image(self, image: ImageInput, image_options: ImageOptions | None = None) -> EncodedImage:
        """Prepare an image once, to send it as often as you like.

        It is turned upright, put on white, made 8-bit sRGB, and sized so that the model sees the most of
        it with the fewest bytes; a JPEG or PNG that is all that already passes byte for byte. The work
        is done in a worker thread, and once for all who ask for the same object at the same moment.
        `segment` would rather have the image itself, at full resolution.

        Args:
            image: A path, http(s) URL, bytes, binary file (async ones too), PIL image, array (RGB,
                `uint8`), `data:` URI, base64, or an `EncodedImage`, returned as it is.
            image_options: How to prepare it; None takes the client's.

        Raises:
            ImageError: It cannot be fetched or read, is not an image, is damaged or too large.
            ConfigurationError: `image_options` is something else.
        """
        options = None if image_options is None else ImageOptions.of(image_options)
        return await self._api.encode_image(image, options)

    async def models(self) -> list[Model]:
        """List the server's models; free, and so also a way to check a key.

        Raises:
            AuthenticationError: The key is wrong.
            MoondreamError: As in `query`.
        """
        return await self._api.http.get("models", lambda data, _: responses.models(data))

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
        """A cheap clone with other options; it shares the connections, so closing either closes both.

        Args:
            model: Another model; None keeps this one's.
            timeout: Other timeouts; None keeps them.
            retry: Another policy; None keeps it.
            image_options: Other ways to prepare images; None keeps them.
            headers: Headers to add to, or replace among, this one's.
            hooks: Other hooks; None keeps them.

        Raises:
            ConfigurationError: A value cannot be used.
        """
        now = self._api.settings
        headers = config.hidden_headers(headers)
        clone = copy.copy(self)
        clone._api = self._api.with_settings(
            server=attrs.evolve(now.server, model=config.check_model(model) or self.model),
            timeouts=now.timeouts if timeout is None else Timeouts.of(timeout),
            retry=now.retry if retry is None else RetryPolicy.of(retry),
            image_options=now.image_options if image_options is None else ImageOptions.of(image_options),
            hooks=now.hooks if hooks is None else _checked(hooks),
            headers=now.headers | config.check_headers(headers),
        )
        return clone

    async def aclose(self) -> None:
        """Close the connections; calls after this raise `ConfigurationError`. Safe to call again."""
        await self._api.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        api: ApiClient | None = getattr(self, "_api", None)
        if api is None:  # a traceback may show a client whose arguments were refused
            return f"{type(self).__name__}()"
        model = f", model={api.model!r}" if api.model else ""
        return f"{type(self).__name__}(base_url={api.base_url!r}{model})"

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

        async def query(text: str) -> QueryResult:
            return await self.query(encoded, text, settings=settings, reasoning=reasoning)

        return await structured.ask(query, question, kind, repair=repair)


def _checked(hooks: HooksInput | None) -> tuple[Hooks, ...]:
    if hooks is None:
        return ()
    from ..hooks import check_hooks

    return check_hooks(hooks)
