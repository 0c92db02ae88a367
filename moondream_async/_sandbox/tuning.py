"""The tuning API: finetunes with a toy state that follow the documented rules.

Rollouts of a finetune scatter around the answer computed from the pixels; each training step reduces the scatter.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import re
import secrets
import time
from statistics import fmean, pstdev
from typing import Any, cast

import anyio.to_thread
import attrs
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .._wire.responses import is_list, is_object
from . import validation
from .batches.lines import RunSkill
from .batches.routes import Admit, Handler
from .faults import Faults
from .paging import new_id, paginate
from .presigned import UrlSigner, store_error
from .rewards import check_ground_truth, reward
from .validation import Fields, RequestError

_SKILLS = {"query": "answer", "point": "points", "detect": "objects"}
_SCATTER = 0.1  # standard deviation of coordinates before training, at temperature 1; 0..1 of the image
_DOWNLOAD_LIFETIME = 3600  # seconds


@attrs.define(eq=False)
class Checkpoint:
    """A saved checkpoint."""

    checkpoint_id: str
    finetune_id: str
    step: int
    created_at_ms: int
    is_deleted: bool = False

    def to_json(self) -> Fields:
        """Return the fields of the response."""
        fields = attrs.asdict(self, filter=attrs.filters.exclude("is_deleted"))
        return {**fields, "updated_at_ms": self.created_at_ms}


@attrs.define(eq=False)
class Finetune:
    """A finetune; `step` is the number of training steps."""

    finetune_id: str
    name: str
    rank: int
    created_at_ms: int
    updated_at_ms: int
    step: int = 0
    is_stuck: bool = False
    checkpoints: dict[int, Checkpoint] = attrs.field(factory=dict[int, Checkpoint])
    metrics: dict[int, dict[str, float]] = attrs.field(factory=dict[int, dict[str, float]])

    def to_json(self) -> Fields:
        """Return the fields of the response."""
        return attrs.asdict(self, filter=attrs.filters.exclude("step", "is_stuck", "checkpoints", "metrics"))


@attrs.define(eq=False)
class Tuning:
    """The tuning API of one sandbox.

    Args:
        run_skill: Runs a skill, to answer rollouts.
    """

    run_skill: RunSkill
    finetunes: dict[str, Finetune] = attrs.field(factory=dict[str, Finetune])
    _signer: UrlSigner = attrs.field(factory=UrlSigner)
    _secret: bytes = attrs.field(factory=lambda: secrets.token_bytes(16))

    def routes(self, admit: Admit) -> list[Route]:
        """Return the routes; `admit` adds the API key, the rate limit and the faults to each."""
        finetune, checkpoints = "/finetunes/{id}", "/finetunes/{id}/checkpoints"
        table: list[tuple[str, str, dict[str, Handler]]] = [
            ("finetunes", "/finetunes", {"POST": self._create, "GET": self._list}),
            ("finetunes", finetune, {"GET": self._retrieve, "DELETE": self._delete}),
            ("metrics", f"{finetune}/metrics", {"POST": self._metrics}),
            ("checkpoints", checkpoints, {"GET": self._list_checkpoints}),
            ("checkpoints", f"{checkpoints}/save", {"POST": self._save}),
            ("checkpoints", f"{checkpoints}/{{step:int}}", {"DELETE": self._delete_checkpoint}),
            ("checkpoints", f"{checkpoints}/{{step:int}}/download", {"GET": self._download}),
            ("rollouts", "/rollouts", {"POST": self._rollouts}),
            ("train_step", "/train_step", {"POST": self._train_step}),
        ]
        weights = Route("/weights/{id}", self._weights)
        return [weights] + [
            Route(f"/v1/tuning{path}", admit(name, _dispatch(handlers)), methods=list(handlers))
            for name, path, handlers in table
        ]

    def knows_model(self, model: str) -> bool:
        """Return whether `base/finetune@step` is a saved checkpoint."""
        match = re.fullmatch(r"[^/@]+/([^/@]+)@(\d+)", model)
        finetune = self.finetunes.get(match[1]) if match else None
        checkpoint = finetune.checkpoints.get(int(match[2])) if match and finetune else None
        return checkpoint is not None and not checkpoint.is_deleted

    def check_model(self, data: Fields) -> None:
        """Raise `RequestError` if the request names a checkpoint that was not saved."""
        model = data.get("model")
        if isinstance(model, str) and "@" in model and not self.knows_model(model):
            raise RequestError(f"There is no saved checkpoint {model!r}", "model", status=404, code="not_found")

    async def _create(self, request: Request, faults: Faults) -> Response:
        data = validation.parse_object(await request.body())
        name, rank = data.get("name"), data.get("rank")
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            raise RequestError("name must be alphanumeric, with dots, hyphens and underscores")
        if not isinstance(rank, int) or rank not in (8, 16, 24, 32):
            raise RequestError("rank must be 8, 16, 24 or 32", "rank")
        finetune = next((each for each in self.finetunes.values() if each.name == name), None)
        if finetune is not None and finetune.rank != rank:
            raise RequestError(f"There is a finetune {name!r} of rank {finetune.rank}", status=409, code="conflict")
        if finetune is None:
            finetune = Finetune(new_id(), name, rank, _now(), _now())
            self.finetunes[finetune.finetune_id] = finetune
        return JSONResponse({"finetune_id": finetune.finetune_id})

    async def _list(self, request: Request, faults: Faults) -> Response:
        return paginate(request, "finetunes", list(self.finetunes.values()), Finetune.to_json, 20)

    async def _retrieve(self, request: Request, faults: Faults) -> Response:
        return JSONResponse({"finetune": self._finetune_at(request).to_json()})

    async def _delete(self, request: Request, faults: Faults) -> Response:
        del self.finetunes[self._finetune_at(request).finetune_id]
        return JSONResponse({"ok": True})

    async def _metrics(self, request: Request, faults: Faults) -> Response:
        finetune, data = self._finetune_at(request), validation.parse_object(await request.body())
        step, metrics = data.get("step"), data.get("metrics")
        if not _is_step(step) or not is_object(metrics) or not _are_numbers(metrics.values()):
            raise RequestError("step must be a number, metrics an object of numbers")
        finetune.metrics.setdefault(cast("int", step), {}).update(metrics)
        return JSONResponse({"ok": True, "step": step, "logged_count": len(metrics)})

    async def _list_checkpoints(self, request: Request, faults: Faults) -> Response:
        finetune = self._finetune_at(request)
        saved = [each for _, each in sorted(finetune.checkpoints.items()) if not each.is_deleted]
        return paginate(request, "checkpoints", saved, Checkpoint.to_json, 20)

    async def _save(self, request: Request, faults: Faults) -> Response:
        finetune = self._finetune_at(request)
        if not finetune.step:
            raise RequestError(
                "No checkpoint is available: the finetune was never trained", status=404, code="not_found"
            )
        step = finetune.step
        checkpoint = finetune.checkpoints.get(step)
        if checkpoint is None or checkpoint.is_deleted:
            checkpoint = finetune.checkpoints[step] = Checkpoint(new_id(), finetune.finetune_id, step, _now())
        return JSONResponse({"ok": True, "checkpoint": checkpoint.to_json()})

    async def _delete_checkpoint(self, request: Request, faults: Faults) -> Response:
        finetune = self._finetune_at(request)
        self._checkpoint_of(finetune, request).is_deleted = True
        finetune.is_stuck = request.path_params["step"] == max(finetune.checkpoints)
        return JSONResponse({"ok": True})

    async def _download(self, request: Request, faults: Faults) -> Response:
        finetune = self._finetune_at(request)
        checkpoint = self._checkpoint_of(finetune, request)
        url = self._signer.sign(request, f"/weights/{checkpoint.checkpoint_id}", _DOWNLOAD_LIFETIME)
        return JSONResponse({"url": url, "expires_in": _DOWNLOAD_LIFETIME})

    async def _weights(self, request: Request) -> Response:
        all_checkpoints = (each for finetune in self.finetunes.values() for each in finetune.checkpoints.values())
        checkpoint = next((each for each in all_checkpoints if each.checkpoint_id == request.path_params["id"]), None)
        error = self._signer.check(request)
        if error is not None or checkpoint is None or checkpoint.is_deleted:
            return error or store_error("NoSuchKey", 404)
        return Response(json.dumps({"step": checkpoint.step}), media_type="application/octet-stream")

    async def _rollouts(self, request: Request, faults: Faults) -> Response:
        data = validation.parse_object(await request.body())
        finetune = self._finetune(data.get("finetune_id"))
        count, skill_request = data.get("num_rollouts"), data.get("request")
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 16:
            raise RequestError("num_rollouts must be from 1 to 16", "num_rollouts")
        skill = _parse_skill(skill_request)
        truth = data.get("ground_truth")
        if truth is not None and skill == "query":
            raise RequestError("ground_truth is not supported for query")
        if truth is not None:
            check_ground_truth(truth, ("boxes",) if skill == "detect" else ("points", "boxes"))
        rollouts = await anyio.to_thread.run_sync(self._sample, finetune, cast("Fields", skill_request), count)
        rewards = None if truth is None else [reward(rollout["output"], truth) for rollout in rollouts]
        return JSONResponse({"request": skill_request, "rollouts": rollouts, "rewards": rewards})

    def _sample(self, finetune: Finetune, request: Fields, count: int) -> list[Fields]:
        skill = request["skill"]
        settings = validation.parse_settings(request)
        limit = {"max_tokens": 128} if skill == "query" else {"max_objects": 50}
        fields = {name: value for name, value in request.items() if name != "skill"}
        result, _ = self.run_skill(skill, {**fields, "settings": {**limit, **settings}})
        scatter = _SCATTER * settings.get("temperature", 1.0) / (1 + finetune.step)
        return [self._rollout(skill, _scatter(skill, result, scatter)) for _ in range(count)]

    def _rollout(self, skill: str, output: Fields) -> Fields:
        tokens = list(json.dumps(output).encode()[:32])
        rollout: Fields = {
            "skill": skill,
            "finish_reason": "stop",
            "output": output,
            "answer_tokens": tokens,
            "thinking_tokens": [],
            "has_answer_separator": False,
            "coords": [],
            "sizes": [],
        }
        return {**rollout, "seal": self._seal(rollout)}

    def _seal(self, rollout: Fields) -> str:
        """Return a MAC of a rollout, by which `train_step` detects changes."""
        return hmac.new(self._secret, json.dumps(rollout, sort_keys=True).encode(), hashlib.sha256).hexdigest()[:16]

    async def _train_step(self, request: Request, faults: Faults) -> Response:
        data = validation.parse_object(await request.body())
        finetune = self._finetune(data.get("finetune_id"))
        if finetune.is_stuck:
            raise RequestError(
                "The latest checkpoint was deleted: it cannot be trained on", status=409, code="conflict"
            )
        groups = data.get("groups")
        if not is_list(groups) or not groups:
            raise RequestError("groups must be a non-empty array", "groups")
        rate = data.get("lr", 2e-4)
        if not isinstance(rate, (int, float)) or isinstance(rate, bool) or rate <= 0:
            raise RequestError("lr must be a number above 0", "lr")
        rewards: list[float] = []
        examples = 0
        for group in groups:
            mode = group.get("mode") if is_object(group) else None
            if mode == "rl":
                rewards += self._rewards(group)
            elif mode == "sft":
                await anyio.to_thread.run_sync(_check_example, group)
                examples += 1
            else:
                raise RequestError("A group's mode must be 'rl' or 'sft'", "groups")
        spread = pstdev(rewards) if rewards else 0.0
        learns = examples > 0 or spread > 0  # rollouts with equal rewards teach nothing
        finetune.step, finetune.updated_at_ms = finetune.step + 1, _now()
        return JSONResponse(
            {
                "step": finetune.step,
                "applied": learns,
                "kl": 0.01 * finetune.step if rewards else None,
                "router_kl": 0.001 * finetune.step if rewards else None,
                "grad_norm": round(spread + examples / (1 + finetune.step), 6) if learns else 0.0,
                "reward_mean": fmean(rewards) if rewards else None,
                "reward_std": spread if rewards else None,
                "sft_loss": round(2.0 / (1 + finetune.step), 6) if examples else None,
            }
        )

    def _rewards(self, group: Fields) -> list[float]:
        _parse_skill(group.get("request"))
        rollouts, rewards = group.get("rollouts"), group.get("rewards")
        if not is_list(rollouts) or not is_list(rewards) or not _are_numbers(rewards):
            raise RequestError("An rl group needs rollouts and rewards", "groups")
        if not rollouts or len(rollouts) != len(rewards):
            raise RequestError("There must be one reward for each rollout", "rewards")
        for rollout in rollouts:
            fields = dict(rollout) if is_object(rollout) else {}
            if fields.pop("seal", None) != self._seal(fields):
                raise RequestError("A rollout is not as it was given", "rollouts")
        return rewards

    def _finetune_at(self, request: Request) -> Finetune:
        return self._finetune(request.path_params["id"])

    def _finetune(self, name: object) -> Finetune:
        finetune = self.finetunes.get(str(name))
        if finetune is None:
            raise RequestError("There is no such finetune", "finetune_id", status=404, code="not_found")
        return finetune

    def _checkpoint_of(self, finetune: Finetune, request: Request) -> Checkpoint:
        checkpoint = finetune.checkpoints.get(request.path_params["step"])
        if checkpoint is None:
            raise RequestError("There is no such checkpoint", "step", status=404, code="not_found")
        if checkpoint.is_deleted:
            raise RequestError("The checkpoint was deleted", "step", status=410, code="gone")
        return checkpoint


def _dispatch(handlers: dict[str, Handler]) -> Handler:
    return lambda request, faults: handlers[request.method](request, faults)


def _parse_skill(request: object) -> str:
    skill = request.get("skill") if is_object(request) else None
    if not isinstance(skill, str) or skill not in _SKILLS:
        raise RequestError("request.skill must be query, point or detect", "request")
    return skill


def _check_example(group: Fields) -> None:
    skill, target = _parse_skill(group.get("request")), group.get("target")
    request: Fields = group["request"]
    validation.require_text(request, "question" if skill == "query" else "object")
    validation.parse_settings(request)
    if skill != "query" or request.get("image_url") is not None:
        validation.load_scene(request)
    if not is_object(target):
        raise RequestError("An sft group needs a target", "target")
    if skill != "query":
        check_ground_truth(target, ("boxes",) if skill == "detect" else ("points", "boxes"))
        return
    reasons = request.get("reasoning") is True
    if not isinstance(target.get("answer"), str) or reasons != isinstance(target.get("reasoning"), dict):
        raise RequestError("The target is not one of query", "target")


def _scatter(skill: str, result: Fields, scatter: float) -> Fields:
    """Return the result with its coordinates scattered."""
    name = _SKILLS[skill]
    if skill == "query":
        return {key: value for key, value in result.items() if key in ("answer", "reasoning")}
    rng = random.Random(secrets.token_bytes(8))  # noqa: S311

    def shift(value: float) -> float:
        return min(1.0, max(0.0, value + rng.gauss(0, scatter)))

    def sort_box(box: dict[str, float]) -> dict[str, float]:
        (x_min, x_max), (y_min, y_max) = (sorted((box[f"{axis}_min"], box[f"{axis}_max"])) for axis in "xy")
        return {"x_min": x_min, "y_min": y_min, "x_max": x_max, "y_max": y_max}

    entries = [{key: shift(value) for key, value in entry.items()} for entry in result[name]]
    return {name: entries if skill == "point" else [sort_box(entry) for entry in entries]}


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_numbers(values: Any) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _now() -> int:
    return int(time.time() * 1000)
