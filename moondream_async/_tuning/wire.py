"""Request bodies and responses of the tuning API (pure)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import attrs

from .._scalars import to_python
from .._wire import checks, responses
from .._wire.responses import InvalidResponse, Object, object_of, text_of
from .._wire.skills import CHECKS, QUERY, SKILLS, Skill
from ..errors import ConfigurationError
from ..types import Meta
from .models import (
    Checkpoint,
    CheckpointDownload,
    FinetuneInfo,
    LoggedMetrics,
    RolloutResult,
    Rollouts,
    SavedCheckpoint,
    TrainStep,
)

T = TypeVar("T")

_TUNED_SKILLS = {name: skill for name, skill in SKILLS.items() if skill.tuning is not None}

RANKS = (8, 16, 24, 32)
MAX_ROLLOUTS = 16

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_POINT, _BOX = ("x", "y"), ("x_min", "y_min", "x_max", "y_max")


def create_body(name: object, rank: object) -> bytes:
    """Return the body of `POST /finetunes`."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ConfigurationError(f"name must consist of letters, digits, '.', '-' and '_', not {name!r}.")
    if (whole := _whole(rank)) not in RANKS:
        raise ConfigurationError(f"rank must be 8, 16, 24 or 32, not {rank!r}.")
    return _json({"name": name, "rank": whole})


def skill_request(arguments: Mapping[str, Any], image_url: str | None) -> Object:
    """Return a skill's request as rollouts and examples have it; unknown fields are kept.

    Args:
        arguments: `skill` and its arguments, without the image.
        image_url: The prepared image.

    Raises:
        ConfigurationError: An argument is invalid or missing, or the skill does not take it.
    """
    skill = check_skill(arguments.get("skill"))
    fields = {name: value for name, value in arguments.items() if value is not None}
    if skill is not QUERY and fields.get("reasoning") is False:  # the official client's default
        del fields["reasoning"]
    taken = skill.tuning or ()
    for name in CHECKS.keys() & fields.keys() - {*taken, "length", "stream"}:
        raise ConfigurationError(f"{skill.name} takes no {name}=.")
    fields |= skill.check({name: fields.get(name) for name in taken})
    if image_url is None and skill.needs_image:
        raise ConfigurationError(f"{skill.name} needs an image.")
    if image_url is None and "spatial_refs" in fields:
        raise ConfigurationError("spatial_refs point into an image, and no image was given.")
    return fields if image_url is None else {**fields, "image_url": image_url}


def check_skill(name: object) -> Skill[Any]:
    """Return the skill of a name.

    Raises:
        ConfigurationError: It cannot be finetuned.
    """
    if not isinstance(name, str) or name not in _TUNED_SKILLS:
        raise ConfigurationError(f"skill must be one of {', '.join(_TUNED_SKILLS)}, not {name!r}.")
    return _TUNED_SKILLS[name]


def rollouts_body(finetune_id: str, request: Object, num_rollouts: object, ground_truth: object) -> bytes:
    """Return the body of `POST /rollouts`."""
    count = _whole(num_rollouts)
    if count is None or not 1 <= count <= MAX_ROLLOUTS:
        raise ConfigurationError(f"num_rollouts must be from 1 to {MAX_ROLLOUTS}, not {num_rollouts!r}.")
    fields: Object = {"finetune_id": finetune_id, "num_rollouts": count, "request": request}
    if ground_truth is not None:
        if request["skill"] == "query":
            raise ConfigurationError("query takes no ground_truth; compute the rewards of its answers yourself.")
        fields["ground_truth"] = _shapes("ground_truth", ground_truth, boxes_only=request["skill"] == "detect")
    return _json(fields)


def train_body(finetune_id: str, groups: Sequence[Object], lr: object, more: Mapping[str, Any]) -> bytes:
    """Return the body of `POST /train_step` from checked groups."""
    rate = checks.real(lr)
    if rate is None or rate <= 0:
        raise ConfigurationError(f"lr must be a number above 0, not {lr!r}.")
    start = _json({**more, "finetune_id": finetune_id, "lr": rate})
    # One group at a time: json.dumps does not let other threads run, and a group can hold a megabyte.
    return start[:-1] + b',"groups":[' + b",".join(_json(group) for group in groups) + b"]}"


def check_groups(groups: object) -> list[Object]:
    """Return the groups of a training step as dicts; `check_rl_group` and `check_sft_group` check what is in them.

    Raises:
        ConfigurationError: The groups are not dicts with a valid mode.
    """
    if isinstance(groups, (str, bytes, Mapping)) or not isinstance(groups, Iterable):
        raise ConfigurationError("groups must be a list of dicts, each with a mode of 'rl' or 'sft'.")
    items = list(cast("Iterable[Any]", groups))
    if not items:
        raise ConfigurationError("groups must not be empty.")
    for number, group in enumerate(items):
        if not checks.is_mapping(group):
            raise ConfigurationError(f"groups[{number}] must be a dict, not {type(group).__name__}.")
        mode = group.get("mode")
        if not isinstance(mode, str) or mode not in ("rl", "sft"):
            raise ConfigurationError(f"groups[{number}] must have a mode of 'rl' or 'sft', not {mode!r}.")
    return [dict(group) for group in items]


def group_request(group: Object) -> Object:
    """Return a copy of a group's request.

    Raises:
        ConfigurationError: The group has no request.
    """
    request = group.get("request")
    if not checks.is_mapping(request):
        raise ConfigurationError(f"a group with mode {group['mode']!r} must have a request, a dict.")
    fields = dict(request)
    if fields.get("spatial_refs") is not None:
        fields["spatial_refs"] = check_refs(fields["spatial_refs"])
    return fields


def check_refs(spatial_refs: Any) -> list[list[float]] | None:
    """Return checked `spatial_refs` as lists, as an iterator can be read only once."""
    return None if spatial_refs is None else checks.spatial_refs(spatial_refs)


def check_rl_group(group: Object, request: Object) -> Object:
    """Check a reinforcement learning group; its rollouts are sent back unchanged.

    Raises:
        ConfigurationError: There are no rollouts, or not one finite reward for each.
    """
    rollouts, rewards = group.get("rollouts"), group.get("rewards")
    if not checks.is_sequence(rollouts) or not rollouts:
        raise ConfigurationError("a group with mode 'rl' must have the rollouts that rollouts() returned.")
    if rewards is None:
        raise ConfigurationError("a group with mode 'rl' must have rewards, one for each rollout.")
    values = list(cast("Iterable[Any]", rewards)) if isinstance(rewards, Iterable) else [rewards]
    numbers = [_finite_number(value) for value in values]
    count = len(rollouts)
    if len(values) != count or None in numbers:
        raise ConfigurationError(f"rewards must be {count} finite numbers, one for each rollout, not {values!r}.")
    return {**group, "request": request, "rollouts": list(rollouts), "rewards": numbers}


def _finite_number(value: Any) -> float | None:
    """Return a finite number, also for booleans such as "the answer was right"; None for anything else."""
    value = to_python(value)
    if isinstance(value, bool):
        return float(bool(value))
    return checks.real(value)


def check_sft_group(group: Object, request: Object, image_url: str | None) -> Object:
    """Check a supervised example; its request gets the prepared image.

    Raises:
        ConfigurationError: The request is invalid, or the target does not fit its skill.
    """
    arguments = {name: value for name, value in request.items() if name not in ("image", "image_url")}
    request = skill_request(arguments, image_url)
    target = group.get("target")
    if not checks.is_mapping(target):
        raise ConfigurationError("a group with mode 'sft' must have a target, a dict.")
    if request["skill"] != "query":
        shapes = _shapes("target", target, boxes_only=request["skill"] == "detect")
        return {**group, "request": request, "target": shapes}
    checks.text("target['answer']", target.get("answer"))
    if bool(request.get("reasoning")) != (target.get("reasoning") is not None):
        raise ConfigurationError(
            "target['reasoning'] is required if request['reasoning'] is True, and not allowed otherwise."
        )
    return {**group, "request": request, "target": _to_dicts(target)}


def metrics_body(step: object, metrics: object) -> bytes:
    """Return the body of `POST /finetunes/:id/metrics`."""
    if not checks.is_mapping(metrics) or not metrics:
        raise ConfigurationError("metrics must be a dict of names and numbers.")
    numbers: dict[Any, float | None] = {name: _finite_number(value) for name, value in metrics.items()}
    for name, number in numbers.items():
        if not isinstance(name, str) or number is None:
            raise ConfigurationError(f"metrics[{name!r}] must be a finite number.")
    return _json({"step": check_step(step), "metrics": numbers})


def check_step(step: object) -> int:
    """Return the number of a training step.

    Raises:
        ConfigurationError: It is not a whole number of at least 0.
    """
    whole = _whole(step)
    if whole is None or whole < 0:
        raise ConfigurationError(f"step must be a whole number of at least 0, not {step!r}.")
    return whole


def parse_finetune_id(data: Any, _: object = None) -> str:
    """Parse the response to `POST /finetunes`."""
    return text_of(object_of(data), "finetune_id")


def parse_info(data: Any, _: object = None) -> FinetuneInfo:
    """Parse a finetune, bare or under `finetune`."""
    fields = object_of(data)
    nested = fields.get("finetune")
    return _parse(FinetuneInfo, object_of(nested) if nested is not None else fields, "finetune_id", "name", "rank")


def parse_rollouts(data: Any, sent: Object) -> Rollouts:
    """Parse the response to `POST /rollouts`.

    Rollouts that cannot be parsed have no result, but are kept, as the server can train on them.

    Args:
        data: The response.
        sent: The request, used if the server does not echo it.
    """
    fields = object_of(data)
    rollouts = list(responses.each_of(fields, "rollouts", object_of))
    rewards, echoed = fields.get("rewards"), fields.get("request")
    known = ("request", "rollouts", "rewards")
    return Rollouts(
        request=echoed if responses.is_object(echoed) else sent,
        rollouts=rollouts,
        rewards=None if rewards is None else list(responses.each_of(fields, "rewards", checks.real)),
        results=tuple(_parse_result(rollout) for rollout in rollouts),
        extra={name: value for name, value in fields.items() if name not in known},
    )


def _parse_result(rollout: Object) -> RolloutResult | None:
    """Return the typed result of a rollout, or None if it cannot be parsed, for instance as it was truncated."""
    skill, reason = rollout.get("skill"), rollout.get("finish_reason")
    if not isinstance(skill, str) or skill not in _TUNED_SKILLS:
        return None
    parse: Callable[[Any, Meta], RolloutResult] = _TUNED_SKILLS[skill].parse
    try:
        return parse({**object_of(rollout.get("output")), "finish_reason": reason}, Meta(status=200))
    except responses.PARSE_ERRORS:
        return None


def parse_train_step(data: Any, _: object = None) -> TrainStep:
    """Parse the response to `POST /train_step`."""
    return _parse(TrainStep, object_of(data), "step")


def parse_checkpoint(data: Any, _: object = None) -> Checkpoint:
    """Parse a checkpoint."""
    return _parse(Checkpoint, object_of(data), "checkpoint_id", "finetune_id", "step")


def parse_saved_checkpoint(data: Any, _: object = None) -> SavedCheckpoint:
    """Parse the response to `POST .../checkpoints/save`."""
    fields = object_of(data)
    is_bare = "checkpoint" not in fields and "checkpoint_id" in fields
    return SavedCheckpoint(
        checkpoint=parse_checkpoint(fields if is_bare else fields.get("checkpoint")),
        ok=fields.get("ok") is not False,
        extra={} if is_bare else {name: value for name, value in fields.items() if name not in ("checkpoint", "ok")},
    )


def check_deleted(data: Any, _: object = None) -> None:
    """Check the response to a `DELETE`, which is usually empty."""
    if responses.is_object(data) and data.get("ok") is False:
        raise InvalidResponse("it was not deleted")


def parse_download(data: Any, _: object = None) -> CheckpointDownload:
    """Parse the response to `GET .../download`."""
    return _parse(CheckpointDownload, object_of(data), "url")


def parse_logged_metrics(data: Any, _: object = None) -> LoggedMetrics:
    """Parse the response to `POST .../metrics`."""
    return _parse(LoggedMetrics, object_of(data), "step")


def _parse(cls: Callable[..., T], fields: Object, *required: str) -> T:
    for name in required:
        value = fields.get(name)
        expected = int if name in ("step", "rank") else str
        if not isinstance(value, expected) or isinstance(value, bool) or value == "":
            raise InvalidResponse(f"it has no valid '{name}'")
    known = {field.name for field in attrs.fields(cast("Any", cls))} - {"extra"}
    values = {name: fields[name] for name in known if fields.get(name) is not None}
    return cls(**values, extra={name: value for name, value in fields.items() if name not in known})


def _shapes(where: str, value: object, *, boxes_only: bool) -> Object:
    """Return checked points or boxes, 0..1 of the upright image."""
    allowed = ("boxes",) if boxes_only else ("points", "boxes")
    if not checks.is_mapping(value):
        raise ConfigurationError(f"{where} must be a dict with {' or '.join(allowed)}.")
    fields = {name: entry for name, entry in value.items() if entry is not None}
    if len(fields) != 1 or next(iter(fields)) not in allowed:
        raise ConfigurationError(
            f"{where} must have exactly {' or '.join(allowed)}, not {', '.join(fields) or 'nothing'}."
        )
    ((name, values),) = fields.items()
    if isinstance(values, (str, Mapping)) or not isinstance(values, Sequence):
        raise ConfigurationError(f"{where}[{name!r}] must be a list.")
    keys = _BOX if name == "boxes" else _POINT
    return {name: [_shape(f"{where}[{name!r}][{n}]", each, keys) for n, each in enumerate(cast("Any", values))]}


def _shape(where: str, value: Any, keys: tuple[str, ...]) -> dict[str, float]:
    """Return the coordinates of a `Point`, a `BoundingBox`, or a dict."""
    fields: Mapping[str, Any] = value if checks.is_mapping(value) else {}
    numbers = {key: checks.real(fields.get(key)) for key in keys}
    if any(number is None or not 0 <= number <= 1 for number in numbers.values()):
        raise ConfigurationError(f"{where} must have {', '.join(keys)}, each from 0 to 1, not {value!r}.")
    return cast("dict[str, float]", numbers)


def _to_dicts(value: Any) -> Any:
    """Convert mappings, such as results, to dicts, which `json` can serialize."""
    if checks.is_mapping(value):
        return {name: _to_dicts(each) for name, each in value.items()}
    return value


def _whole(value: object) -> int | None:
    """Return a whole number, also for NumPy integers; None for anything else."""
    value = to_python(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _json(fields: Object) -> bytes:
    return checks.json_bytes(fields, "The request cannot be sent as JSON")
