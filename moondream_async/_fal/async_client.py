"""`AsyncFalClient`: Moondream's skills on fal.ai, and fal's queue for any endpoint."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs

from .. import config
from .._api import hooks_of
from .._concurrency.closing import AsyncClosing
from .._concurrency.single_flight import SingleFlight
from .._hidden import HiddenStr
from .._http.client import HttpClient, ServerInfo
from .._http.image_download import download_image
from .._http.response_body import MAX_RESPONSE
from .._http.session import Session
from .._http.user_client import UserClient
from .._images.encoded import EncodedImage
from .._images.encoder import encode_once
from .._images.image_source import ImageSource, remember
from .._images.options import ImageOptions
from .._multi_label import for_each_label, parse_labels
from .._pickling import Picklable, Recipe, recipe_of
from .._public import public
from .._wire import responses, skills
from .._wire.checks import AnyRef, json_bytes
from .._wire.errors import invalid_response
from .._wire.redact import Redactor, secrets_in_headers
from .._wire.skills import Skill
from ..config import FAL_KEYS_URL, Length, RetryPolicy, SamplingSettings, Secret, Timeouts
from ..errors import APIConnectionError, APIError, ConfigurationError
from ..types import CaptionResult, DetectResult, Meta, PointResult, QueryResult, Result, SegmentResult
from . import inputs as inputs_of
from . import wire
from .connection import FalConnection
from .models import BatchedResult, Lifecycle, Status, WebhookEvent
from .request_handle import AsyncRequestHandle
from .subscription import Subscription
from .uploads import Uploads
from .webhooks import SignedWebhook, keys_of
from .wire import Endpoint, Hosts

if TYPE_CHECKING:
    from .._images.prepare import ImageInput
    from ..hooks import HooksInput, Stats

T = TypeVar("T")
R = TypeVar("R", bound=Result)

_KEYS_MAX_AGE = 24 * 3600.0  # seconds for which fal's webhook keys are cached
_KEYS_MIN_INTERVAL = 60.0  # seconds between two fetches, so that forged webhooks cannot cause many


@attrs.frozen
class PlacedImage:
    """An image in a form that fal accepts.

    Attributes:
        url: URL at fal, or a data URI.
        image_size: Width and height of the upright original, in pixels; None if unknown.
    """

    url: str = attrs.field(repr=False)
    image_size: tuple[int, int] | None = None


@public("fal")
class AsyncFalClient(Picklable, AsyncClosing):
    """An async client of fal.ai: its hosted Moondream models, and its queue for any other endpoint.

    The skills have the parameters and results of `AsyncClient`. Each call is a request in fal's queue.

    Args:
        key: fal key, `id:secret`, or a function that returns it, as for `AsyncClient`. Default: `FAL_KEY`, else
            `FAL_KEY_ID` and `FAL_KEY_SECRET`.
        base_url: Server that offers fal's API under one URL, such as the sandbox's `fal_url`; needs no key.
            Default: `FAL_BASE_URL`, else fal.ai's own hosts.
        timeout: `Timeouts`, or seconds, for each HTTP request. For whole jobs, see `job_timeout`.
        retry: `RetryPolicy`, or a number of attempts. `submit` is retried only if the request cannot have been
            accepted.
        job_timeout: Seconds that skills and `subscribe` wait for a result; None for no limit. Default 600.
        cancel_jobs: Whether to cancel a request when its caller is cancelled or times out. Default False: the request
            continues.
        inline_limit: Maximum size in bytes of binary values that are sent within the request; larger ones are
            uploaded. Default 512 KiB.
        max_connections: Maximum number of concurrent HTTP requests. Default 256.
        image_options: How images are prepared, as for `AsyncClient`.
        headers: Extra headers for every request to fal's API.
        hooks: `Hooks(request=..., retry=..., ...)`, or several, as for `AsyncClient`. Each HTTP request is a call
            of its own: `submit`, `status`, `result`, `cancel`, `upload` or `webhook_keys`.
        http_client: As for `AsyncClient`.

    Raises:
        ConfigurationError: An argument is invalid, or there is no key.
    """

    def __init__(
        self,
        key: str | Callable[[], str] | None = None,
        *,
        base_url: str | None = None,
        timeout: Timeouts | float | None = None,
        retry: RetryPolicy | int | None = None,
        job_timeout: float | None = 600.0,
        cancel_jobs: bool = False,
        inline_limit: int = 512 * 1024,
        max_connections: int = 256,
        image_options: ImageOptions | None = None,
        headers: Mapping[str, str] | None = None,
        hooks: HooksInput | None = None,
        http_client: UserClient | None = None,
    ) -> None:
        secret, key = _resolve_key(Secret(key)), None  # so that tracebacks that show locals hide the key
        headers = config.hidden_headers(headers)
        base_url = base_url if base_url is not None else os.getenv("FAL_BASE_URL") or None
        if secret is None and base_url is None:
            raise ConfigurationError(f"No fal.ai key: set FAL_KEY or pass key=... (see {FAL_KEYS_URL}).")
        hosts = Hosts() if base_url is None else Hosts.at(base_url)
        self._image_options = ImageOptions.of(image_options)
        self._job_timeout = config.check_seconds("job_timeout", job_timeout)
        self._cancel_jobs = cancel_jobs
        auth = config.check_headers(headers)
        redactor = Redactor(secrets_in_headers(auth))
        if secret is not None:
            auth["Authorization"] = HiddenStr(f"Key {secret.reveal()}")
            redactor.add(*secret.parts())
        self._session = Session(
            max_connections=config.check_whole("max_connections", max_connections, least=1), http_client=http_client
        )
        self._http = HttpClient(
            self._session,
            Timeouts.of(timeout),
            RetryPolicy.of(retry),
            redactor=redactor,
            hooks=hooks_of(hooks),
            server=ServerInfo(base_url=hosts.queue),
            max_response=MAX_RESPONSE,
        )
        self._connection = FalConnection(self._http, hosts, auth, secret)
        self._uploads = Uploads(
            self._connection, self.encode_image, config.check_whole("inline_limit", inline_limit, least=0)
        )
        self._options: dict[str, Any] = {
            "base_url": base_url,
            "timeout": self._http.timeouts,
            "retry": self._http.retry,
            "job_timeout": job_timeout,
            "cancel_jobs": cancel_jobs,
            "inline_limit": inline_limit,
            "max_connections": max_connections,
            "image_options": self._image_options,
            "headers": config.check_headers(headers) or None,
            "hooks": hooks_of(hooks) or None,
            "http_client": http_client,
        }
        self._webhook_keys: tuple[float, list[bytes]] = (0.0, [])
        self._keys_requested_at = 0.0
        self._key_fetch: SingleFlight[list[bytes]] = SingleFlight()

    @property
    def stats(self) -> Stats:
        """Counters of this client's HTTP requests."""
        return self._session.counters.snapshot()

    async def query(
        self,
        image: ImageInput | None = None,
        question: str | None = None,
        stream: Literal[False] = False,
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
        spatial_refs: Sequence[AnyRef] | None = None,
    ) -> QueryResult:
        """Ask a question about an image, with `fal-ai/moondream3-preview/query`.

        ```python
        result = await fal.query("photo.jpg", "Which colors are there?")
        print(result.answer)
        ```

        Args:
            image: Image as for `AsyncClient`, or the URL of a file that was uploaded to fal. Required.
            question: The question (wire field `prompt`).
            stream: Must be False, as fal.ai does not stream Moondream.
            settings: `temperature` and `top_p`.
            reasoning: Whether the model reasons before it answers; None for fal's default, True.
            spatial_refs: Must be None, as fal.ai does not support it.

        Raises:
            ConfigurationError: An argument is invalid or not supported by fal. Nothing was sent.
            ImageError: The image is invalid. Nothing was sent.
            APIError: fal or the model returned an error; see `.type` and `.request_id`.
            APITimeoutError: The request was not completed within `job_timeout`; use `.request_id` to wait again.
            APIConnectionError: fal could not be reached.
        """
        inputs_of.reject("query", stream=stream, spatial_refs=spatial_refs)
        if image is None:
            raise ConfigurationError("fal.ai's query needs an image.")
        arguments = {"question": question, "settings": settings, "reasoning": reasoning}
        return await self._call(skills.QUERY, image, arguments)

    async def caption(
        self,
        image: ImageInput,
        length: Length = "normal",
        stream: Literal[False] = False,
        settings: SamplingSettings | None = None,
    ) -> CaptionResult:
        """Describe an image, with `fal-ai/moondream3-preview/caption`.

        ```python
        print((await fal.caption("photo.jpg")).caption)
        ```

        Args:
            image: As in `query`.
            length: `"short"`, `"normal"` or `"long"`.
            stream: Must be False, as fal.ai does not stream Moondream.
            settings: `temperature` and `top_p`.

        Raises:
            MoondreamError: As in `query`.
        """
        inputs_of.reject("caption", stream=stream)
        return await self._call(skills.CAPTION, image, {"length": length, "settings": settings})

    async def detect(
        self, image: ImageInput, object: str | Sequence[str], settings: SamplingSettings | None = None
    ) -> DetectResult:
        """Find every instance of one or more objects, as boxes, with `fal-ai/moondream3-preview/detect`.

        ```python
        print((await fal.detect("photo.jpg", "red")).objects)
        ```

        Args:
            image: As in `query`.
            object: What to find (wire field `prompt`), or a list of labels, as for `AsyncClient`.
            settings: Must be None, as fal.ai supports no settings here.

        Raises:
            MoondreamError: As in `query`.
        """
        return await self._call(skills.DETECT, image, {"object": object, "settings": settings})

    async def point(
        self,
        image: ImageInput,
        object: str | Sequence[str],
        settings: SamplingSettings | None = None,
        spatial_refs: Sequence[AnyRef] | None = None,
    ) -> PointResult:
        """Find every instance of one or more objects, as points, with `fal-ai/moondream3-preview/point`.

        ```python
        print((await fal.point("photo.jpg", "red")).points)
        ```

        Args:
            image: As in `query`.
            object: What to find (wire field `prompt`), or a list of labels, as for `AsyncClient`.
            settings: Must be None, as fal.ai supports no settings here.
            spatial_refs: Must be None, as fal.ai does not support it.

        Raises:
            MoondreamError: As in `query`.
        """
        inputs_of.reject("point", spatial_refs=spatial_refs)
        return await self._call(skills.POINT, image, {"object": object, "settings": settings})

    async def segment(
        self,
        image: ImageInput,
        object: str,
        spatial_refs: Sequence[AnyRef] | None = None,
        stream: Literal[False] = False,
        settings: SamplingSettings | None = None,
    ) -> SegmentResult:
        """Segment one object, as an SVG path, with `fal-ai/moondream3-preview/segment`.

        ```python
        print((await fal.segment("photo.jpg", "red")).path)
        ```

        Args:
            image: As in `query`; sent at full resolution.
            object: The object to segment.
            spatial_refs: Points and boxes that say which one, 0..1 of the upright image (wire field
                `spatial_references`).
            stream: Must be False, as fal.ai does not stream Moondream.
            settings: `temperature`, `top_p` and `max_tokens`.

        Raises:
            MoondreamError: As in `query`.
        """
        inputs_of.reject("segment", stream=stream)
        arguments = {"object": object, "spatial_refs": spatial_refs, "settings": settings}
        return await self._call(skills.SEGMENT, image, arguments)

    async def batched(
        self,
        inputs: Sequence[Any],
        model_id: str | None = None,
        max_tokens: int = 64,
        temperature: float = 0.2,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
    ) -> BatchedResult:
        """Describe or ask about several images in one request, with `fal-ai/moondream/batched` (Moondream 2).

        ```python
        result = await fal.batched(["a.jpg", ("b.jpg", "Which colors are there?")])
        print(result.outputs)
        ```

        Args:
            inputs: Images, `(image, prompt)`, or `{"image_url": image, "prompt": prompt}`. Without a prompt, fal uses
                its own.
            model_id: `"vikhyatk/moondream2"` (fal's default) or `"fal-ai/moondream2-docci"`.
            max_tokens: Maximum number of tokens of each answer. Default 64.
            temperature: Sampling temperature, at least 0. Default 0.2.
            top_p: Nucleus sampling, above 0, at most 1. Default 1.
            repetition_penalty: Penalty above 0; 1 is no penalty. Default 1.

        Returns:
            `.outputs` with a text for each input, `.partial`, `.timings` and `.filenames`.

        Raises:
            MoondreamError: As in `query`.
        """
        if isinstance(inputs, (str, bytes, Mapping)):
            raise ConfigurationError(f"inputs must be a list of images, not {type(inputs).__name__}.")  # pyright: ignore[reportUnknownArgumentType]
        read = [inputs_of.read_input(number, value) for number, value in enumerate(inputs)]
        settings = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p}
        arguments = inputs_of.batched([prompt for _, prompt in read], model_id, settings, repetition_penalty)
        for entry, (image, _) in zip(arguments["inputs"], read, strict=True):
            entry["image_url"] = (await self._place(image)).url
        handle, answer = await self._completed(wire.BATCHED, arguments)
        return _parse(lambda: wire.parse_batched(answer, handle.request_id), answer)

    async def encode_image(self, image: ImageInput, image_options: ImageOptions | None = None) -> EncodedImage:
        """Prepare an image for several calls, like `AsyncClient.encode_image`.

        ```python
        image = await fal.encode_image("photo.jpg")
        ```

        Args:
            image: As in `query`.
            image_options: How to prepare it. Default: the client's options.

        Raises:
            ImageError: The image is invalid.
        """
        options = self._image_options if image_options is None else ImageOptions.of(image_options)
        return await self._encode(image, options)

    async def submit(
        self,
        endpoint: str,
        arguments: Mapping[str, Any],
        *,
        path: str = "",
        webhook_url: str | None = None,
        priority: Literal["normal", "low"] | None = None,
        hint: str | None = None,
        start_timeout: float | None = None,
        max_queue_length: int | None = None,
        resubmit: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncRequestHandle:
        """Submit a request to fal's queue.

        ```python
        handle = await fal.submit("fal-ai/moondream/batched", {"inputs": [{"image_url": Path("photo.jpg")}]})
        print(handle.request_id)
        ```

        Args:
            endpoint: Endpoint id, such as `"fal-ai/moondream/batched"`.
            arguments: The endpoint's input, as documented by fal. Bytes, paths, files, images and arrays anywhere in
                it are sent as data URIs or, above `inline_limit`, uploaded.
            path: Path below the endpoint.
            webhook_url: URL to which fal posts the result.
            priority: `"normal"` or `"low"`.
            hint: Requests with the same hint go to the same runner if possible.
            start_timeout: Seconds within which a runner must start, above 1; otherwise, the request fails with 504.
            max_queue_length: Maximum length of the queue; if it is longer, fal refuses the request with 429.
            resubmit: Whether to retry even if the request may have been accepted (the response was lost); it could
                then run and be billed twice. Default False.
            headers: Extra headers, such as `{"X-Fal-Store-IO": "0"}`.

        Raises:
            APIConnectionError: There was no response; the request may or may not have been accepted.
            MoondreamError: As in `query`.
        """
        headers = config.hidden_headers(headers)
        target = Endpoint.of(endpoint)
        query = {} if webhook_url is None else {"fal_webhook": webhook_url}
        if max_queue_length is not None:
            query["fal_max_queue_length"] = str(config.check_whole("max_queue_length", max_queue_length, least=0))
        body = json_bytes(await self._uploads.resolve(arguments), "arguments cannot be sent as JSON")
        all_headers = _queue_headers(priority, hint, start_timeout) | config.check_headers(headers)
        url = target.submit_url(self._connection.hosts, path, query)
        response = await self._connection.send(
            "submit", "POST", url, body=body, headers=all_headers, non_idempotent=not resubmit
        )
        data = response.json()
        if not responses.is_object(data) or not isinstance(data.get("request_id"), str):
            raise response.invalid("it has no 'request_id'", data)
        return AsyncRequestHandle(self._connection, target, data["request_id"], data)

    def handle(self, endpoint: str, request_id: str) -> AsyncRequestHandle:
        """Return the handle of a request that this or another process submitted.

        ```python
        again = fal.handle(handle.endpoint, handle.request_id)
        print(await again.result())
        ```

        Args:
            endpoint: The endpoint that the request was submitted to.
            request_id: The request's id at fal.
        """
        return AsyncRequestHandle(self._connection, Endpoint.of(endpoint), request_id)

    async def status(self, endpoint: str, request_id: str, *, logs: bool = False) -> Status:
        """Return the state of a request: `Queued`, `InProgress` or `Completed`.

        ```python
        print(await fal.status(handle.endpoint, handle.request_id))
        ```

        Args:
            endpoint: As in `handle`.
            request_id: As in `handle`.
            logs: Whether to include the log lines of the model's process. Default False.

        Raises:
            NotFoundError: The request does not exist, or no longer exists.
            MoondreamError: As in `query`.
        """
        return await self.handle(endpoint, request_id).status(logs=logs)

    async def result(self, endpoint: str, request_id: str, *, timeout: float | None = None) -> Any:
        """Wait for a request and return the endpoint's response.

        ```python
        print(await fal.result(handle.endpoint, handle.request_id, timeout=60))
        ```

        Args:
            endpoint: As in `handle`.
            request_id: As in `handle`.
            timeout: Seconds to wait; None for no limit.

        Raises:
            MoondreamError: As in `query`.
        """
        return await self.handle(endpoint, request_id).result(timeout=timeout)

    async def cancel(self, endpoint: str, request_id: str) -> bool:
        """Cancel a request. If it is already running, it may still finish and be billed.

        ```python
        if not await fal.cancel(handle.endpoint, handle.request_id):
            print("It has completed already.")
        ```

        Args:
            endpoint: As in `handle`.
            request_id: As in `handle`.

        Returns:
            False if the request was already completed.

        Raises:
            NotFoundError: The request does not exist.
            MoondreamError: As in `query`.
        """
        return await self.handle(endpoint, request_id).cancel()

    async def subscribe(
        self,
        endpoint: str,
        arguments: Mapping[str, Any],
        *,
        path: str = "",
        on_enqueue: Callable[[str], Any] | None = None,
        on_queue_update: Callable[[Status], Any] | None = None,
        logs: bool = False,
        priority: Literal["normal", "low"] | None = None,
        hint: str | None = None,
        start_timeout: float | None = None,
        timeout: float | None = None,
        cancel_job: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Submit a request, wait for it, and return the endpoint's response.

        ```python
        inputs = [{"image_url": Path("photo.jpg"), "prompt": "Describe it."}]
        result = await fal.subscribe("fal-ai/moondream/batched", {"inputs": inputs}, on_queue_update=print)
        ```

        Args:
            endpoint: As in `submit`.
            arguments: As in `submit`.
            path: As in `submit`.
            on_enqueue: Function that is called with the request id once the request is submitted; may be async.
            on_queue_update: Function that is called with each new `Status`, with each log line once; may be async.
            logs: Whether the statuses include log lines. Default False.
            priority: As in `submit`.
            hint: As in `submit`.
            start_timeout: As in `submit`.
            timeout: Seconds that the whole call may take. Default: the client's `job_timeout`.
            cancel_job: Whether to cancel the request when this call is cancelled or times out. Default: the client's
                `cancel_jobs`.
            headers: As in `submit`.

        Raises:
            MoondreamError: As in `query`.
        """
        headers = config.hidden_headers(headers)
        submit = functools.partial(
            self.submit,
            endpoint,
            arguments,
            path=path,
            priority=priority,
            hint=hint,
            start_timeout=start_timeout,
            headers=headers,
        )
        subscription = Subscription(
            submit,
            timeout=self._job_timeout if timeout is None else config.check_seconds("timeout", timeout),
            cancel_on_exit=self._cancel_jobs if cancel_job is None else cancel_job,
        )
        return (await subscription.run(on_enqueue, on_queue_update, logs=logs))[1]

    async def upload(
        self,
        data: Any,
        *,
        content_type: str | None = None,
        file_name: str | None = None,
        lifecycle: Lifecycle | None = None,
    ) -> str:
        """Upload a file to fal's file store.

        Files above 50 MB are sent in parts of 10 MB, four at a time, each with its own retries, and streamed from disk.

        ```python
        url = await fal.upload("photo.jpg")
        ```

        Args:
            data: A path, bytes, a binary file, an image (PIL or array), or an `EncodedImage`.
            content_type: Media type. Default: detected from the name or the first bytes.
            file_name: File name. Default: that of the path.
            lifecycle: How long to keep the file, and who may read it.

        Returns:
            The file's URL, for the arguments of any endpoint.

        Raises:
            ConfigurationError: An argument is invalid, or the file cannot be read.
            MoondreamError: As in `query`.
        """
        return await self._uploads.upload(data, media_type=content_type, name=file_name, lifecycle=lifecycle)

    async def verify_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent:
        """Verify that a webhook is from fal, and parse it. Needs the extra `fal`. fal's keys are cached for a day.

        Args:
            headers: The request's headers, names in any case.
            body: The request's body, unchanged.

        Returns:
            The webhook's content. fal may deliver a webhook more than once: detect duplicates by `.request_id`.

        Raises:
            WebhookVerificationError: The webhook is not from fal, was changed, or is older than 300 s.
            MoondreamError: The keys cannot be fetched.
        """
        fetched_at, keys = self._webhook_keys
        if time.time() - fetched_at > _KEYS_MAX_AGE:
            keys = await self._key_fetch.run("keys", self._fetch_webhook_keys)
        webhook = SignedWebhook.of(headers, body)
        may_fetch = time.time() - self._keys_requested_at >= _KEYS_MIN_INTERVAL
        if may_fetch and not webhook.is_signed_by(keys):  # fal may have changed its keys
            with contextlib.suppress(APIError, APIConnectionError):
                keys = await self._key_fetch.run("keys", self._fetch_webhook_keys)
        return webhook.verify(keys)

    def _recipe(self) -> Recipe:
        return recipe_of(self._options, self._connection.key, key_name="key", variable="FAL_KEY")

    async def aclose(self) -> None:
        """Close the connections. Later calls raise `ConfigurationError`. Safe to call more than once."""
        await self._session.aclose()

    def __repr__(self) -> str:
        connection: FalConnection | None = getattr(self, "_connection", None)
        return f"{type(self).__name__}({connection.hosts.queue!r})" if connection else f"{type(self).__name__}()"

    async def _call(self, skill: Skill[R], image: ImageInput | PlacedImage, arguments: dict[str, Any]) -> R:
        """Call a skill; once per label if it takes labels and `object` is a list."""
        started = time.monotonic()
        labels = parse_labels(arguments["object"]) if skill.takes_labels else None
        if labels is not None:
            placed = await self._place(image)
            merged = await for_each_label(
                skill, lambda label: self._call(skill, placed, {**arguments, "object": label}), labels
            )
            return remember(merged, ImageSource.of(image))
        fields = inputs_of.skill_arguments(skill, arguments)
        placed = await self._place(image, full_resolution=skill.full_resolution)
        handle, answer = await self._completed(f"{wire.PREVIEW}/{skill.name}", {"image_url": placed.url, **fields})
        meta = Meta(status=200, elapsed=time.monotonic() - started)
        result = _parse(
            lambda: skill.parse(wire.normalize_skill_response(skill.field, answer, handle.request_id), meta), answer
        )
        self._session.counters.add_tokens(result.metrics)
        result = attrs.evolve(result, image_size=placed.image_size)
        return remember(result, ImageSource.of(image), arguments.get("object"))

    async def _completed(self, endpoint: str, arguments: Mapping[str, Any]) -> tuple[AsyncRequestHandle, Any]:
        submit = functools.partial(self.submit, endpoint, arguments)
        subscription = Subscription(submit, timeout=self._job_timeout, cancel_on_exit=self._cancel_jobs)
        return await subscription.run(None, None, logs=False)

    async def _place(self, image: Any, *, full_resolution: bool = False) -> PlacedImage:
        """Return the image's URL at fal, or a data URI, uploading the image if it is large."""
        if isinstance(image, PlacedImage):
            return image
        if isinstance(image, str) and self._connection.hosts.is_cdn(image):
            return PlacedImage(image)
        encoded = await self._encode(image, self._image_options, full_resolution=full_resolution)
        return PlacedImage(await self._uploads.place(encoded), encoded.original_size)

    async def _encode(self, image: Any, options: ImageOptions, *, full_resolution: bool = False) -> EncodedImage:
        if isinstance(image, EncodedImage):
            return image
        fetch = functools.partial(download_image, self._http, allow_private=options.allow_private_urls)
        return await encode_once(image, options, full_resolution=full_resolution, fetch=fetch, fetcher=self)

    async def _fetch_webhook_keys(self) -> list[bytes]:
        self._keys_requested_at = time.time()
        url = f"{self._connection.hosts.rest}/.well-known/jwks.json"
        response = await self._connection.send("webhook_keys", "GET", url)
        keys = keys_of(response.json())
        if not keys:
            raise response.invalid("it has no Ed25519 keys")
        self._webhook_keys = (time.time(), keys)
        return keys


def _parse(parse: Callable[[], T], data: Any) -> T:
    try:
        return parse()
    except responses.PARSE_ERRORS as exc:
        raise invalid_response(200, data, str(exc)) from None


def _queue_headers(priority: str | None, hint: str | None, start_timeout: float | None) -> dict[str, str]:
    headers: dict[str, str] = {}
    if priority is not None:
        if priority not in ("normal", "low"):
            raise ConfigurationError(f"priority must be 'normal' or 'low', not {priority!r}.")
        headers["X-Fal-Queue-Priority"] = priority
    if hint is not None:
        headers |= config.check_headers({"X-Fal-Runner-Hint": hint})
    if start_timeout is not None:
        seconds = config.check_seconds("start_timeout", start_timeout)
        if seconds is None or seconds <= 1:
            raise ConfigurationError(f"start_timeout must be above 1 second, not {start_timeout!r}.")
        headers["X-Fal-Request-Timeout"] = str(float(seconds))
    return headers


def is_configured() -> bool:
    """Return whether the environment has a key of fal.ai, or another server with its API."""
    return any(os.getenv(name) for name in ("FAL_KEY", "FAL_KEY_ID", "FAL_BASE_URL"))


def _resolve_key(explicit: Secret) -> Secret | None:
    key = Secret.resolve(explicit, source="key", variable="FAL_KEY")
    if key is None:
        parts = [Secret(os.getenv(name) or "") for name in ("FAL_KEY_ID", "FAL_KEY_SECRET")]  # hidden in tracebacks
        if all(part.reveal() for part in parts):
            both = Secret(":".join(part.reveal() for part in parts))
            key = Secret.resolve(both, source="FAL_KEY_ID and FAL_KEY_SECRET")
    return key
