"""`AsyncFinetune`: rollouts, training steps, metrics and checkpoints of one finetune."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import anyio

from .._api import ApiClient
from .._concurrency.gather import gather
from .._concurrency.threads import run_in_thread
from .._paginator import Pages
from .._public import public
from .._wire.retry import NOT_PROCESSED
from ..config import SamplingSettings, check_whole, path_part
from ..errors import APIConnectionError, APIError, ConfigurationError
from . import wire
from .models import Checkpoint, CheckpointDownload, FinetuneInfo, LoggedMetrics, Rollouts, SavedCheckpoint, TrainStep
from .payloads import RolloutsPayload, image_url
from .rollout_stream import AsyncRollouts, prefetch

if TYPE_CHECKING:
    from .._images.prepare import ImageInput

C = TypeVar("C")

BASE_MODEL = "moondream3-preview"
"""The model that is finetuned."""

_GONE = (404, 410)
_DELETE_DELAYS = (0.2, 1.0, 3.0)  # seconds to wait before retrying a DELETE that may have succeeded
_ARGUMENTS = frozenset(
    ("skill", "image", "question", "object", "num_rollouts", "settings", "reasoning", "spatial_refs", "ground_truth")
)


@public()
class AsyncFinetune:
    """A finetune, from `client.tuning.create`, `retrieve` or `list`."""

    def __init__(self, api: ApiClient, info: FinetuneInfo) -> None:
        self._api = api
        self._info = info

    @property
    def info(self) -> FinetuneInfo:
        """The server's data about the finetune."""
        return self._info

    @property
    def finetune_id(self) -> str:
        """The id on the server."""
        return self._info.finetune_id

    @property
    def name(self) -> str:
        """The name."""
        return self._info.name

    @property
    def rank(self) -> int:
        """The rank of the LoRA."""
        return self._info.rank

    def model(self, step: int, *, base: str = BASE_MODEL) -> str:
        """Return the model name of a saved checkpoint, to pass as `model=`.

        ```python
        saved = await finetune.save_checkpoint()
        tuned = client.with_options(model=finetune.model(saved.checkpoint.step))
        ```

        Args:
            step: The checkpoint's step.
            base: The model that was finetuned. Default `"moondream3-preview"`.

        Raises:
            ConfigurationError: The step is not a whole number of at least 0.
        """
        return f"{base}/{self.finetune_id}@{wire.check_step(step)}"

    async def rollouts(
        self,
        skill: Literal["query", "point", "detect"],
        *,
        image: ImageInput | None = None,
        question: str | None = None,
        object: str | None = None,
        num_rollouts: int = 1,
        settings: SamplingSettings | None = None,
        reasoning: bool | None = None,
        spatial_refs: Sequence[Any] | None = None,
        ground_truth: Mapping[str, Any] | None = None,
    ) -> Rollouts:
        """Let the finetuned model answer one request several times.

        ```python
        tried = await finetune.rollouts("query", image="photo.jpg", question="Which color?", num_rollouts=4)
        print([result and result.answer for result in tried.results])
        ```

        Args:
            skill: `"query"`, `"point"` or `"detect"`.
            image: Image as for the skills; optional for `query`.
            question: The question, for `query`.
            object: What to find, for `point` and `detect`.
            num_rollouts: Number of rollouts, 1 to 16. Default 1.
            settings: `temperature` (server default 1.0), `top_p` (1.0), `max_tokens` (128), `max_objects` (50).
            reasoning: Whether the model reasons before it answers, for `query`. Server default False.
            spatial_refs: Points and boxes that the question refers to, as for the skill `query`.
            ground_truth: `{"points": [...]}` or `{"boxes": [...]}` (`point`), `{"boxes": [...]}` (`detect`), 0..1 of
                the upright image. With it, the server computes the rewards.

        Returns:
            The rollouts; pass `rollouts.group(rewards)` to `train_step`.

        Raises:
            ConfigurationError: An argument is invalid. Nothing was sent.
            NotFoundError: The finetune was deleted.
            MoondreamError: The call failed.
        """
        arguments: dict[str, Any] = {"skill": skill, "question": question, "object": object, "settings": settings}
        arguments |= {"reasoning": reasoning, "spatial_refs": wire.check_refs(spatial_refs)}
        payload = RolloutsPayload(self._api, self.finetune_id, arguments, image, num_rollouts, ground_truth)
        return await self._api.call("POST", "tuning/rollouts", payload.read, body=payload)

    def rollout_stream(
        self,
        requests: Iterable[tuple[C, Mapping[str, Any]]] | AsyncIterable[tuple[C, Mapping[str, Any]]],
        *,
        max_concurrency: int = 4,
        buffer_size: int = 8,
    ) -> AsyncRollouts[C]:
        """Prefetch the rollouts of many requests while you train. They are yielded as they complete.

        ```python
        request = {"skill": "query", "image": "photo.jpg", "question": "Which color?"}
        async for name, tried in finetune.rollout_stream([("photo.jpg", request)]):
            await finetune.train_step([tried.group([1.0] * len(tried.rollouts))])
        ```

        Args:
            requests: `(context, arguments of rollouts)`, read on demand. The context is yielded unchanged.
            max_concurrency: Maximum number of concurrent requests. Default 4.
            buffer_size: Maximum number of rollouts that wait for you. Default 8.

        Returns:
            An iterator over `(context, Rollouts)`.

        Raises:
            ConfigurationError: An argument is invalid.
            MoondreamError: While iterating: the error of the first request that failed, after the results of all
                requests that were already sent.
        """
        check_whole("max_concurrency", max_concurrency, least=1)
        check_whole("buffer_size", buffer_size, least=1)

        async def get_rollouts(request: object) -> Rollouts:
            if not isinstance(request, Mapping) or "skill" not in request or not request.keys() <= _ARGUMENTS:  # pyright: ignore[reportUnknownMemberType]
                raise ConfigurationError("Each request must be (context, a dict of the arguments of rollouts()).")
            return await self.rollouts(**cast("dict[str, Any]", request))

        return AsyncRollouts(prefetch(requests, get_rollouts, max_concurrency, buffer_size))

    async def train_step(
        self, groups: Iterable[Mapping[str, Any]], lr: float = 2e-4, *, resubmit: bool = False, **more: Any
    ) -> TrainStep:
        """Train one step on rollouts and their rewards, on supervised examples, or on both.

        A step may take minutes. The timeout is at least 15 minutes, whatever the client's.

        ```python
        tried = await finetune.rollouts("query", image="photo.jpg", question="Which color?", num_rollouts=2)
        step = await finetune.train_step([tried.group([1.0, 0.2])])
        print(step.step)
        ```

        Args:
            groups: `rollouts.group(rewards)`; or `{"mode": "rl", "request": ..., "rollouts": ..., "rewards": [...]}`;
                or `{"mode": "sft", "request": {"skill": ..., "image": ..., ...}, "target": ...}`, with any image that
                the skills accept, and a target of `{"answer": ...}` (with `reasoning` if the request has it),
                `{"points": [...]}` or `{"boxes": [...]}`, 0..1 of the upright image.
            lr: Learning rate. Default 2e-4.
            resubmit: Whether to retry even if the server may have applied the step (the response was lost, or a
                gateway timed out); the step could then be applied twice. Default False.
            more: Further fields of the request, sent unchanged.

        Raises:
            ConfigurationError: A group is invalid. Nothing was sent.
            APIConnectionError: There was no response; the step may or may not have been applied.
            MoondreamError: The call failed.
        """
        numbered = list(enumerate(wire.check_groups(groups)))
        checked = await gather(self._check_group, numbered)
        body = await run_in_thread(lambda each: wire.train_body(self.finetune_id, each, lr, more), checked)
        call = self._api.long_running.call
        return await call("POST", "tuning/train_step", wire.parse_train_step, body=body, non_idempotent=not resubmit)

    async def log_metrics(self, step: int, metrics: Mapping[str, float]) -> LoggedMetrics:
        """Log your own metrics of a training step for the dashboard.

        ```python
        await finetune.log_metrics(step=1, metrics={"accuracy": 0.9})
        ```

        Args:
            step: The training step, at least 0.
            metrics: Finite numbers by name.

        Raises:
            ConfigurationError: An argument is invalid. Nothing was sent.
            MoondreamError: The call failed.
        """
        body = wire.metrics_body(step, metrics)
        return await self._api.call("POST", f"{self._path}/metrics", wire.parse_logged_metrics, body=body)

    async def save_checkpoint(self) -> SavedCheckpoint:
        """Save the current state as a checkpoint, which `model(step)` can then name. Safe to repeat.

        ```python
        saved = await finetune.save_checkpoint()
        print(saved.checkpoint.step)
        ```

        Raises:
            NotFoundError: The finetune was never trained, or was deleted.
            MoondreamError: The call failed.
        """
        return await self._api.call("POST", f"{self._path}/checkpoints/save", wire.parse_saved_checkpoint)

    def list_checkpoints(self, limit: int | None = None) -> Pages[Checkpoint]:
        """List the saved checkpoints, ordered by step. Pages are fetched as you iterate.

        ```python
        async for checkpoint in finetune.list_checkpoints():
            print(checkpoint.step)
        ```

        Args:
            limit: Maximum number of checkpoints; None for all.

        Raises:
            MoondreamError: The call failed.
        """
        return Pages(self._api, f"{self._path}/checkpoints", "checkpoints", wire.parse_checkpoint, limit)

    async def checkpoint_url(self, step: int) -> CheckpointDownload:
        """Return a presigned URL of a checkpoint's weights.

        ```python
        saved = await finetune.save_checkpoint()
        download = await finetune.checkpoint_url(saved.checkpoint.step)
        ```

        Raises:
            NotFoundError: The checkpoint does not exist.
            APIError: The checkpoint has expired (status 410).
            MoondreamError: The call failed.
        """
        path = f"{self._path}/checkpoints/{wire.check_step(step)}/download"
        return await self._api.call("GET", path, wire.parse_download)

    async def delete_checkpoint(self, step: int) -> None:
        """Delete a checkpoint. Without its latest checkpoint, a finetune cannot be trained further.

        ```python
        saved = await finetune.save_checkpoint()
        await finetune.delete_checkpoint(saved.checkpoint.step)
        ```

        Raises:
            NotFoundError: The checkpoint does not exist.
            MoondreamError: The call failed.
        """
        await self._delete(f"{self._path}/checkpoints/{wire.check_step(step)}")

    async def delete(self) -> None:
        """Delete the finetune and its checkpoints.

        ```python
        await finetune.delete()
        ```

        Raises:
            NotFoundError: The finetune does not exist.
            MoondreamError: The call failed.
        """
        await self._delete(self._path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.finetune_id!r}, name={self.name!r}, rank={self.rank})"

    @property
    def _path(self) -> str:
        return f"tuning/finetunes/{path_part('finetune_id', self.finetune_id)}"

    async def _delete(self, path: str) -> None:
        """Send a DELETE and retry it; "not found" is a success if an earlier attempt may have succeeded."""
        ambiguous: APIError | APIConnectionError | None = None
        for delay in (*_DELETE_DELAYS, None):
            try:
                await self._api.call(
                    "DELETE", path, wire.check_deleted, non_idempotent=True, retry_statuses=(*NOT_PROCESSED, 503)
                )
            except APIError as exc:
                if exc.status < 500:
                    if ambiguous is not None and exc.status in _GONE:
                        return
                    raise
                ambiguous = exc
            except APIConnectionError as exc:
                ambiguous = exc
            else:
                return
            if delay is not None:
                await anyio.sleep(delay)
        assert ambiguous is not None
        raise ambiguous

    async def _check_group(self, numbered: tuple[int, dict[str, Any]]) -> dict[str, Any]:
        """Check a group and prepare its image; return it as it is sent."""
        number, group = numbered
        try:
            request = wire.group_request(group)
            image = next((request[name] for name in ("image", "image_url") if request.get(name) is not None), None)
            if group["mode"] == "rl":
                # A request from rollouts is sent back unchanged; only an image that the user added is prepared.
                added = request.pop("image", None)
                checked = wire.check_rl_group(group, request)
                if added is not None:
                    request["image_url"] = await image_url(self._api, added)
                return checked
            wire.check_sft_group(group, request, None if image is None else "data:")
            return wire.check_sft_group(group, request, await image_url(self._api, image))
        except ConfigurationError as exc:
            raise ConfigurationError(f"groups[{number}]: {exc.message}") from None
