"""The tuning API's bodies and answers (pure; reference: moondream-api.md 1.9)."""

from __future__ import annotations

import json
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
MOST_ROLLOUTS = 16

_NAME = re.compile(r"[A-Za-z0-9._-]+")
_POINT, _BOX = ("x", "y"), ("x_min", "y_min", "x_max", "y_max")


def finetune(name: object, rank: object) -> bytes:
    """The body of `POST /finetunes`."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise ConfigurationError(f"name must be letters, digits, '.', '-' and '_', not {name!r}.")
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
    """The body of `POST /rollouts`."""
    count = _whole(num_rollouts)
    if count is None or not 1 <= count <= MOST_ROLLOUTS:
        raise ConfigurationError(f"num_rollouts must be from 1 to {MOST_ROLLOUTS}, not {num_rollouts!r}.")
    fields: Object = {"finetune_id": finetune_id, "num_rollouts": count, "request": request}
    if ground_truth is not None:
        if request["skill"] == "query":
            raise ConfigurationError("query takes no ground_truth; reward its answers yourself.")
        fields["ground_truth"] = _spots("ground_truth", ground_truth, boxes_only=request["skill"] == "detect")
    return _json(fields)


def train_body(finetune_id: str, groups: Sequence[Object], lr: object, more: Mapping[str, Any]) -> bytes:
    """The body of `POST /train_step`; the groups are checked."""
    rate = checks.real(lr)
    if rate is None or rate <= 0:
        raise ConfigurationError(f"lr must be a number above 0, not {lr!r}.")
    small = _json({**more, "finetune_id": finetune_id, "lr": rate})
    # One by one: each is written without a pause for other threads, and one can hold a megabyte.
    return small[:-1] + b',"groups":[' + b",".join(_json(group) for group in groups) + b"]}"


def check_groups(groups: object) -> list[Object]:
    """The groups of a training step, each a dict; what they hold is looked at by `rl_group` and `sft_group`.

    Raises:
        ConfigurationError: They are something else.
    """
    if isinstance(groups, (str, bytes, Mapping)) or not isinstance(groups, Iterable):
        raise ConfigurationError("groups must be a list of dicts, each with a mode of 'rl' or 'sft'.")
    given = list(cast("Iterable[Any]", groups))
    if not given:
        raise ConfigurationError("groups must not be empty.")
    for number, group in enumerate(given):
        if not isinstance(group, Mapping):
            raise ConfigurationError(f"groups[{number}] must be a dict, not {type(group).__name__}.")
        mode = cast("Object", group).get("mode")
        if not isinstance(mode, str) or mode not in ("rl", "sft"):
            raise ConfigurationError(f"groups[{number}] must have a mode of 'rl' or 'sft', not {mode!r}.")
    return [dict(group) for group in given]


def request_of(group: Object) -> Object:
    """A group's request, as a dict that can be changed.

    Raises:
        ConfigurationError: It has none.
    """
    request = group.get("request")
    if not isinstance(request, Mapping):
        raise ConfigurationError(f"an {group['mode']!r} group must have a request, a dict.")
    fields = dict(cast("Object", request))
    if fields.get("spatial_refs") is not None:
        fields["spatial_refs"] = refs(fields["spatial_refs"])
    return fields


def refs(given: Any) -> list[list[float]] | None:
    """Checked `spatial_refs`, read once."""
    return None if given is None else checks.spatial_refs(given)


def rl_group(group: Object, request: Object) -> Object:
    """A group of attempts, which go back unchanged, and their rewards.

    Raises:
        ConfigurationError: A reward is missing, or no number.
    """
    attempts, rewards = group.get("rollouts"), group.get("rewards")
    if not isinstance(attempts, (list, tuple)) or not attempts:
        raise ConfigurationError("an 'rl' group must have the rollouts of what rollouts() answered.")
    tried = list(cast("Sequence[Any]", attempts))
    if rewards is None:
        raise ConfigurationError("an 'rl' group must have rewards, one for each rollout.")
    given = list(cast("Iterable[Any]", rewards)) if isinstance(rewards, Iterable) else [rewards]
    found = [_reward(reward) for reward in given]
    if len(given) != len(tried) or None in found:
        raise ConfigurationError(f"rewards must be {len(tried)} finite numbers, one for each rollout, not {given!r}.")
    return {**group, "request": request, "rollouts": tried, "rewards": found}


def _reward(value: Any) -> float | None:
    """A number; whether an answer was right, is one, too."""
    value = to_python(value)
    if isinstance(value, bool):
        return float(bool(value))
    return checks.real(value)


def sft_group(group: Object, request: Object, image_url: str | None) -> Object:
    """An example: its request with the prepared image, and what is to be answered.

    Raises:
        ConfigurationError: Its target is not one of its skill.
    """
    shown = {name: value for name, value in request.items() if name not in ("image", "image_url")}
    request = skill_request(shown, image_url)
    target = group.get("target")
    if not isinstance(target, Mapping):
        raise ConfigurationError("an 'sft' group must have a target, a dict.")
    answer = cast("Object", target)
    if request["skill"] != "query":
        spots = _spots("target", answer, boxes_only=request["skill"] == "detect")
        return {**group, "request": request, "target": spots}
    checks.text("target['answer']", answer.get("answer"))
    if bool(request.get("reasoning")) != (answer.get("reasoning") is not None):
        raise ConfigurationError("target['reasoning'] must be there if request['reasoning'] is True, and only then.")
    return {**group, "request": request, "target": _plain(answer)}


def metrics_body(step: object, metrics: object) -> bytes:
    """The body of `POST /finetunes/:id/metrics`."""
    if not isinstance(metrics, Mapping) or not metrics:
        raise ConfigurationError("metrics must be a dict of names and numbers.")
    numbers = {name: _reward(value) for name, value in cast("Mapping[Any, Any]", metrics).items()}
    for name, number in numbers.items():
        if not isinstance(name, str) or number is None:
            raise ConfigurationError(f"metrics[{name!r}] must be a finite number.")
    return _json({"step": step_of(step), "metrics": numbers})


def step_of(step: object) -> int:
    """A training step.

    Raises:
        ConfigurationError: It is no whole number of at least 0.
    """
    whole = _whole(step)
    if whole is None or whole < 0:
        raise ConfigurationError(f"step must be a whole number of at least 0, not {step!r}.")
    return whole


def created(data: Any, _: object = None) -> str:
    """Read the answer to `POST /finetunes`: the id."""
    return text_of(object_of(data), "finetune_id")


def info(data: Any, _: object = None) -> FinetuneInfo:
    """Read a finetune, bare or under `finetune`."""
    fields = object_of(data)
    nested = fields.get("finetune")
    return _read(FinetuneInfo, object_of(nested) if nested is not None else fields, "finetune_id", "name", "rank")


def rollouts(data: Any, sent: Object) -> Rollouts:
    """Read the answer to `POST /rollouts`; what cannot be read of single attempts is left out, as training can.

    Args:
        data: The answer.
        sent: The request, if it is not echoed.
    """
    fields = object_of(data)
    attempts = list(responses.each_of(fields, "rollouts", object_of))
    rewards, echoed = fields.get("rewards"), fields.get("request")
    known = ("request", "rollouts", "rewards")
    return Rollouts(
        request=cast("Object", echoed) if isinstance(echoed, dict) else sent,
        rollouts=attempts,
        rewards=None if rewards is None else list(responses.each_of(fields, "rewards", checks.real)),
        results=tuple(_result(attempt) for attempt in attempts),
        extra={name: value for name, value in fields.items() if name not in known},
    )


def _result(attempt: Object) -> RolloutResult | None:
    """What an attempt answered; None if that cannot be read, as of one that was cut off."""
    skill, reason = attempt.get("skill"), attempt.get("finish_reason")
    if not isinstance(skill, str) or skill not in _TUNED_SKILLS:
        return None
    read: Callable[[Any, Meta], RolloutResult] = _TUNED_SKILLS[skill].parse
    try:
        return read({**object_of(attempt.get("output")), "finish_reason": reason}, Meta(status=200))
    except responses.PARSE_ERRORS:
        return None


def train_step(data: Any, _: object = None) -> TrainStep:
    """Read the answer to `POST /train_step`."""
    return _read(TrainStep, object_of(data), "step")


def checkpoint(data: Any, _: object = None) -> Checkpoint:
    """Read a checkpoint."""
    return _read(Checkpoint, object_of(data), "checkpoint_id", "finetune_id", "step")


def saved(data: Any, _: object = None) -> SavedCheckpoint:
    """Read the answer to `POST .../checkpoints/save`."""
    fields = object_of(data)
    is_bare = "checkpoint" not in fields and "checkpoint_id" in fields
    return SavedCheckpoint(
        checkpoint=checkpoint(fields if is_bare else fields.get("checkpoint")),
        ok=fields.get("ok") is not False,
        extra={} if is_bare else {name: value for name, value in fields.items() if name not in ("checkpoint", "ok")},
    )


def deleted(data: Any, _: object = None) -> None:
    """Read the answer to a `DELETE`: mostly nothing."""
    if isinstance(data, dict) and cast("Object", data).get("ok") is False:
        raise InvalidResponse("it was not deleted")


def download(data: Any, _: object = None) -> CheckpointDownload:
    """Read the answer to `GET .../download`."""
    fields = object_of(data)
    return _read(CheckpointDownload, fields, "url")


def logged(data: Any, _: object = None) -> LoggedMetrics:
    """Read the answer to `POST .../metrics`."""
    return _read(LoggedMetrics, object_of(data), "step")


def _read(kind: Callable[..., T], fields: Object, *needed: str) -> T:
    for name in needed:
        value = fields.get(name)
        kind_of = int if name in ("step", "rank") else str
        if not isinstance(value, kind_of) or isinstance(value, bool) or value == "":
            raise InvalidResponse(f"it has no '{name}', or one that is none")
    known = {field.name for field in attrs.fields(cast("Any", kind))} - {"extra"}
    given = {name: fields[name] for name in known if fields.get(name) is not None}
    return kind(**given, extra={name: value for name, value in fields.items() if name not in known})


def _spots(where: str, given: object, *, boxes_only: bool) -> Object:
    """Points or boxes, each 0..1 of the upright image."""
    allowed = ("boxes",) if boxes_only else ("points", "boxes")
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{where} must be a dict of {' or '.join(allowed)}.")
    fields = {name: value for name, value in cast("Object", given).items() if value is not None}
    if len(fields) != 1 or next(iter(fields)) not in allowed:
        raise ConfigurationError(
            f"{where} must have exactly {' or '.join(allowed)}, not {', '.join(fields) or 'nothing'}."
        )
    ((name, values),) = fields.items()
    if isinstance(values, (str, Mapping)) or not isinstance(values, Sequence):
        raise ConfigurationError(f"{where}[{name!r}] must be a list.")
    sides = _BOX if name == "boxes" else _POINT
    return {name: [_spot(f"{where}[{name!r}][{n}]", value, sides) for n, value in enumerate(cast("Any", values))]}


def _spot(where: str, value: Any, sides: tuple[str, ...]) -> dict[str, float]:
    """A point or box: `Point`, `BoundingBox`, or a dict."""
    sides_of = cast("Mapping[str, Any]", value if isinstance(value, Mapping) else {})
    found = {side: checks.real(sides_of.get(side)) for side in sides}
    if any(number is None or not 0 <= number <= 1 for number in found.values()):
        raise ConfigurationError(f"{where} must have {', '.join(sides)}, each from 0 to 1, not {value!r}.")
    return cast("dict[str, float]", found)


def _plain(value: Any) -> Any:
    """Mappings, ours too, as dicts."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in cast("Object", value).items()}
    return value


def _whole(value: object) -> int | None:
    """A whole number, NumPy's too; None for anything else."""
    value = to_python(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _json(fields: Object) -> bytes:
    try:
        return json.dumps(fields, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        problem = str(exc)
    raise ConfigurationError(f"What is sent must hold plain JSON values: {problem}.")
