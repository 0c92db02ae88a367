"""Responses of the tuning API, as frozen values (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from .._public import public
from ..types import DetectResult, Fields, PointResult, QueryResult

RolloutResult = QueryResult | PointResult | DetectResult


class _Nullable(Fields):
    """A value that reads like its JSON object, in which missing fields are null."""

    __slots__ = ()

    def __getitem__(self, name: str) -> Any:
        if name in self._names() and getattr(self, name) is None and name not in self._extra():
            return None
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[str]:
        extra = self._extra()
        yield from (name for name in self._names() if name not in extra)
        yield from extra


@public()
@attrs.frozen(kw_only=True)
class Rollouts(_Nullable):
    """Several rollouts, that is, answers of the model to one request.

    Attributes:
        request: The request as it was sent; `train_step` needs it unchanged.
        rollouts: The rollouts as the server sent them; `train_step` needs them unchanged.
        rewards: The server's reward for each rollout; None without a ground truth, when you compute the rewards.
        results: The typed result of each rollout, as from the skill itself; None if it cannot be parsed, for instance
            because the rollout was truncated. You can still train on it.
        extra: Fields of the response that have no attribute here.
    """

    request: dict[str, Any] = attrs.field(repr=False, hash=False)
    rollouts: list[dict[str, Any]] = attrs.field(repr=False, hash=False)
    rewards: list[float | None] | None = attrs.field(default=None, hash=False)
    results: tuple[RolloutResult | None, ...] = ()
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False, repr=False)

    def group(self, rewards: Iterable[float] | None = None) -> dict[str, Any]:
        """Return the rollouts and their rewards as a group for `train_step`.

        Args:
            rewards: A reward for each rollout; higher is better. Default: the rewards that the server computed.
        """
        chosen = self.rewards if rewards is None else rewards
        return {"mode": "rl", "request": self.request, "rollouts": self.rollouts, "rewards": chosen}


@public()
@attrs.frozen(kw_only=True)
class TrainStep(_Nullable):
    """The outcome of a training step. Values that the server did not send are None.

    Attributes:
        step: The finetune's step after this one.
        applied: Whether the weights were changed.
        kl: KL divergence term of reinforcement learning.
        router_kl: KL regularizer of the router.
        grad_norm: Norm of the gradient.
        reward_mean: Mean reward of all rollouts.
        reward_std: Standard deviation of the rewards.
        sft_loss: Loss of the supervised groups.
        extra: Fields of the response that have no attribute here.
    """

    step: int
    applied: bool = True
    kl: float | None = None
    router_kl: float | None = None
    grad_norm: float | None = None
    reward_mean: float | None = None
    reward_std: float | None = None
    sft_loss: float | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)


@public()
@attrs.frozen(kw_only=True)
class Checkpoint(Fields):
    """A saved state of a finetune. Times are Unix milliseconds.

    Attributes:
        checkpoint_id: The checkpoint's id.
        finetune_id: The finetune's id.
        step: Number of training steps before it was saved.
        created_at_ms: When it was saved.
        updated_at_ms: When it was changed.
        expires_at_ms: When it will be deleted; None if never.
        extra: Fields of the response that have no attribute here.
    """

    checkpoint_id: str
    finetune_id: str
    step: int
    created_at_ms: int | None = None
    updated_at_ms: int | None = None
    expires_at_ms: int | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)


@public()
@attrs.frozen(kw_only=True)
class SavedCheckpoint(Fields):
    """The response to `save_checkpoint`.

    Attributes:
        checkpoint: The saved checkpoint.
        ok: Whether it was saved.
        extra: Fields of the response that have no attribute here.
    """

    checkpoint: Checkpoint
    ok: bool = True
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)


@public()
@attrs.frozen(kw_only=True)
class CheckpointDownload(Fields):
    """Location of a checkpoint's weights.

    Attributes:
        url: Presigned URL: it gives access to the weights without a key until it expires.
        expires_in: Seconds until the URL expires; None if not sent.
        extra: Fields of the response that have no attribute here.
    """

    url: str = attrs.field(repr=False)
    expires_in: float | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)


@public()
@attrs.frozen(kw_only=True)
class LoggedMetrics(Fields):
    """The response to `log_metrics`.

    Attributes:
        step: The training step.
        logged_count: Number of logged metrics; None if not sent.
        ok: Whether the metrics were logged.
        extra: Fields of the response that have no attribute here.
    """

    step: int
    logged_count: int | None = None
    ok: bool = True
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)


@public()
@attrs.frozen(kw_only=True)
class FinetuneInfo(Fields):
    """The server's data about a finetune. Times are Unix milliseconds.

    Attributes:
        finetune_id: The finetune's id.
        name: The finetune's name.
        rank: Rank of the LoRA.
        created_at_ms: When it was created; None if not sent.
        updated_at_ms: When it was changed; None if not sent.
        extra: Fields of the response that have no attribute here.
    """

    finetune_id: str
    name: str
    rank: int
    created_at_ms: int | None = None
    updated_at_ms: int | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)
