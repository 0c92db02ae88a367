"""`AsyncFinetune`: attempts, training steps, metrics, checkpoints of one finetune."""

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
from .rollout_stream import AsyncRollouts, prefetched

if TYPE_CHECKING:
    from .._images.prepare import ImageInput

C = TypeVar("C")

BASE_MODEL = "moondream3-preview"
"""What finetunes are made of."""

_GONE = (404, 410)
_DELETE_AGAIN = (0.2, 1.0, 3.0)  # seconds to wait before deleting again what may be deleted already
_ARGUMENTS = frozenset(
    ("skill", "image", "question", "object", "num_rollouts", "settings", "reasoning", "spatial_refs", "ground_truth")
)


@public()
class AsyncFinetune:
    """One finetune; made by `client.tuning.create`, `retrieve` and `list`."""

    def __init__(self, api: ApiClient, info: FinetuneInfo) -> None:
        self._api = api
        self._info = info

    @property
    def info(self) -> FinetuneInfo:
        """What the server said of it."""
        return self._info

    @property
    def finetune_id(self) -> str:
        """The server's name for it."""
        return self._info.finetune_id

    @property
    def name(self) -> str:
        """Its name."""
        return self._info.name

    @property
    def rank(self) -> int:
        """Of its LoRA."""
        return self._info.rank

    def model(self, step: int, *, base: str = BASE_MODEL) -> str:
        """What to pass as `model=` to have a saved checkpoint answer.

        Args:
            step: The checkpoint's.
            base: The model that the finetune is of.
        """
        return f"{base}/{self.finetune_id}@{wire.step_of(step)}"

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
        """Have the model, as far as it is trained, try one request several times.

        Args:
            skill: `"query"`, `"point"` or `"detect"`.
            image: As for the skills; `query` can do without.
            question: For `query`.
            object: For `point` and `detect`.
            num_rollouts: How many attempts, 1 to 16. Default 1.
            settings: `temperature` (server default 1.0), `top_p` (1.0), `max_tokens` (128), `max_objects` (50).
            reasoning: For `query`. Server default False.
            spatial_refs: As for `query`.
            ground_truth: `{"points": [...]}` or `{"boxes": [...]}` (`point`), `{"boxes": [...]}` (`detect`), 0..1 of
                the upright image; the server then computes rewards.

        Raises:
            ConfigurationError: An argument cannot be used; nothing was sent.
            NotFoundError: The finetune was deleted.
            MoondreamError: As any call.
        """
        arguments: dict[str, Any] = {"skill": skill, "question": question, "object": object, "settings": settings}
        arguments |= {"reasoning": reasoning, "spatial_refs": wire.refs(spatial_refs)}
        payload = RolloutsPayload(self._api, self.finetune_id, arguments, image, num_rollouts, ground_truth)
        return await self._api.call("POST", "tuning/rollouts", payload.read, body=payload)

    def rollout_stream(
        self,
        requests: Iterable[tuple[C, Mapping[str, Any]]] | AsyncIterable[tuple[C, Mapping[str, Any]]],
        *,
        max_concurrency: int = 4,
        buffer_size: int = 8,
    ) -> AsyncRollouts[C]:
        """Rollouts of many requests, prepared ahead while you train; as they are completed.

        Args:
            requests: `(context, arguments of rollouts)`; taken as they are needed. The context comes back as it is.
            max_concurrency: How many are asked for at once. Default 4.
            buffer_size: How many may wait for you. Default 8.

        Returns:
            `(context, Rollouts)`, to be iterated.

        Raises:
            ConfigurationError: A number, or `requests`, cannot be used. While iterating: the error of the first request
                that failed, after all others that were begun.
        """
        check_whole("max_concurrency", max_concurrency, least=1)
        check_whole("buffer_size", buffer_size, least=1)

        async def ask(request: object) -> Rollouts:
            if not isinstance(request, Mapping) or "skill" not in request or not request.keys() <= _ARGUMENTS:  # pyright: ignore[reportUnknownMemberType]
                raise ConfigurationError("Each request must be (context, a dict of the arguments of rollouts()).")
            return await self.rollouts(**cast("dict[str, Any]", request))

        return AsyncRollouts(prefetched(requests, ask, max_concurrency, buffer_size))

    async def train_step(
        self, groups: Iterable[Mapping[str, Any]], lr: float = 2e-4, *, resubmit: bool = False, **more: Any
    ) -> TrainStep:
        """Train on attempts and their rewards, on examples, or on both.

        It may take minutes: it is waited for 15 at least, whatever the client's timeout.

        Args:
            groups: `rollouts.group(rewards)`; or `{"mode": "rl", "request": ..., "rollouts": ..., "rewards": [...]}`;
                or `{"mode": "sft", "request": {"skill": ..., "image": ..., ...}, "target": ...}`, where the image is
                anything that the skills take, and the target `{"answer": ...}` (and `reasoning`, if the request has
                it), `{"points": [...]}` or `{"boxes": [...]}`.
            lr: Learning rate. Default 2e-4.
            resubmit: Whether to send it again, too, when it may have been taken (a lost answer, a gateway's timeout):
                the step could then be taken twice. Default False.
            more: Further fields of the request, as they are.

        Raises:
            ConfigurationError: A group cannot be used; nothing was sent.
            APIConnectionError: There was no answer; whether the step was taken is not known.
            MoondreamError: As any call.
        """
        given = wire.check_groups(groups)
        ready = await gather(self._ready, list(enumerate(given)))
        body = await run_in_thread(lambda all_groups: wire.train_body(self.finetune_id, all_groups, lr, more), ready)
        call = self._api.patient.call
        return await call("POST", "tuning/train_step", wire.train_step, body=body, non_idempotent=not resubmit)

    async def log_metrics(self, step: int, metrics: Mapping[str, float]) -> LoggedMetrics:
        """Note figures of your own for a training step, for the dashboard.

        Args:
            step: The step.
            metrics: Names and finite numbers.

        Raises:
            MoondreamError: As any call.
        """
        body = wire.metrics_body(step, metrics)
        return await self._api.call("POST", f"{self._path}/metrics", wire.logged, body=body)

    async def save_checkpoint(self) -> SavedCheckpoint:
        """Keep the finetune as it is now: only what is saved can be asked, by `model(step)`. Safe to repeat.

        Raises:
            NotFoundError: There is nothing to save.
            MoondreamError: As any call.
        """
        return await self._api.call("POST", f"{self._path}/checkpoints/save", wire.saved)

    def list_checkpoints(self, limit: int | None = None) -> Pages[Checkpoint]:
        """All saved checkpoints, by step, page by page as they are asked for.

        Args:
            limit: How many to give at most; None gives all.

        Raises:
            MoondreamError: As any call.
        """
        return Pages(self._api, f"{self._path}/checkpoints", "checkpoints", wire.checkpoint, limit)

    async def checkpoint_url(self, step: int) -> CheckpointDownload:
        """Where a checkpoint's weights can be downloaded.

        Raises:
            NotFoundError: There is no such checkpoint.
            APIError: 410: it has expired.
            MoondreamError: As any call.
        """
        path = f"{self._path}/checkpoints/{wire.step_of(step)}/download"
        return await self._api.call("GET", path, wire.download)

    async def delete_checkpoint(self, step: int) -> None:
        """Delete a checkpoint. Without its latest, a finetune cannot be trained on.

        Raises:
            NotFoundError: There is no such checkpoint.
            MoondreamError: As any call.
        """
        await self._delete(f"{self._path}/checkpoints/{wire.step_of(step)}")

    async def delete(self) -> None:
        """Delete the finetune and its checkpoints.

        Raises:
            NotFoundError: It is gone already.
            MoondreamError: As any call.
        """
        await self._delete(self._path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.finetune_id!r}, name={self.name!r}, rank={self.rank})"

    @property
    def _path(self) -> str:
        return f"tuning/finetunes/{path_part('finetune_id', self.finetune_id)}"

    async def _delete(self, path: str) -> None:
        """Delete; that it is gone is an error, unless an earlier attempt may have done it."""
        doubt: APIError | APIConnectionError | None = None
        for pause in (*_DELETE_AGAIN, None):
            try:
                await self._api.call(
                    "DELETE", path, wire.deleted, non_idempotent=True, retry_statuses=(*NOT_PROCESSED, 503)
                )
            except APIError as exc:
                if exc.status < 500:
                    if doubt is not None and exc.status in _GONE:
                        return
                    raise
                doubt = exc
            except APIConnectionError as exc:
                doubt = exc
            else:
                return
            if pause is not None:
                await anyio.sleep(pause)
        assert doubt is not None
        raise doubt

    async def _ready(self, numbered: tuple[int, dict[str, Any]]) -> dict[str, Any]:
        """A group as it is sent: checked, its image prepared."""
        number, group = numbered
        try:
            request = wire.request_of(group)
            image = next((request[name] for name in ("image", "image_url") if request.get(name) is not None), None)
            if group["mode"] == "rl":
                # What rollouts answered goes back as it is; an image in it is one of the user's own.
                own = request.pop("image", None)
                checked = wire.rl_group(group, request)
                if own is not None:
                    request["image_url"] = await image_url(self._api, own)
                return checked
            wire.sft_group(group, request, None if image is None else "data:")
            return wire.sft_group(group, request, await image_url(self._api, image))
        except ConfigurationError as exc:
            raise ConfigurationError(f"groups[{number}]: {exc.message}") from None
