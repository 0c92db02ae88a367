"""What the tuning API answers (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from .._public import public
from ..types import DetectResult, Fields, PointResult, QueryResult

RolloutResult = QueryResult | PointResult | DetectResult


class _Nullable(Fields):
    """Reads like the dict on the wire, in which what is not known is null."""

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
    """Several attempts of the model at one request.

    Attributes:
        request: As it was sent; goes back unchanged.
        rollouts: The attempts, with what training wants to have back unchanged.
        rewards: One for each, if there was a ground truth; else None: they are yours to give.
        results: What each attempt answered, typed as from the skill itself; None where that cannot be read, as of one
            that was cut off.
        extra: Fields this version does not know.
    """

    request: dict[str, Any] = attrs.field(repr=False, hash=False)
    rollouts: list[dict[str, Any]] = attrs.field(repr=False, hash=False)
    rewards: list[float | None] | None = attrs.field(default=None, hash=False)
    results: tuple[RolloutResult | None, ...] = ()
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False, repr=False)

    def group(self, rewards: Iterable[float] | None = None) -> dict[str, Any]:
        """These attempts and their rewards, as `train_step` takes them.

        Args:
            rewards: One for each attempt, higher is better; None takes those that the server computed.
        """
        given = self.rewards if rewards is None else rewards
        return {"mode": "rl", "request": self.request, "rollouts": self.rollouts, "rewards": given}


@public()
@attrs.frozen(kw_only=True)
class TrainStep(_Nullable):
    """What a training step did; None where the server does not say.

    Attributes:
        step: The finetune's step after it.
        applied: Whether weights were changed.
        kl: The KL term of reinforcement.
        router_kl: The router's KL regulariser.
        grad_norm: Norm of the gradient.
        reward_mean: Mean reward of all attempts.
        reward_std: Their standard deviation.
        sft_loss: Loss of the supervised groups.
        extra: Fields this version does not know.
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
    """A saved state of a finetune, which can be asked; times are Unix milliseconds.

    Attributes:
        checkpoint_id: The server's name for it.
        finetune_id: Whose.
        step: After how many training steps.
        created_at_ms: When it was saved.
        updated_at_ms: When it was changed.
        expires_at_ms: When it is deleted, if it is.
        extra: Fields this version does not know.
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
    """The answer to `save_checkpoint`."""

    checkpoint: Checkpoint
    ok: bool = True
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)


@public()
@attrs.frozen(kw_only=True)
class CheckpointDownload(Fields):
    """Where a checkpoint's weights are.

    Attributes:
        url: Presigned: whoever has it may read them, without a key, until it expires.
        expires_in: Seconds; None if the server does not say.
        extra: Fields this version does not know.
    """

    url: str = attrs.field(repr=False)
    expires_in: float | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)


@public()
@attrs.frozen(kw_only=True)
class LoggedMetrics(Fields):
    """The answer to `log_metrics`.

    Attributes:
        step: Of which step.
        logged_count: How many were taken.
        ok: Whether all is well.
        extra: Fields this version does not know.
    """

    step: int
    logged_count: int | None = None
    ok: bool = True
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)


@public()
@attrs.frozen(kw_only=True)
class FinetuneInfo(Fields):
    """What the server knows of a finetune; times are Unix milliseconds."""

    finetune_id: str
    name: str
    rank: int
    created_at_ms: int | None = None
    updated_at_ms: int | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)
