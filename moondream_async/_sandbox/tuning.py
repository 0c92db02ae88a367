"""Tuning: finetunes with a toy state that obeys the documented rules.

What a finetune learns here is steadiness: its attempts scatter around what the pixels say, the less so the more steps
it was trained.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from statistics import fmean, pstdev
from typing import Any, TypeVar, cast

import anyio.to_thread
import attrs
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from . import reading
from .batches.lines import Answer
from .faults import Faults
from .paging import page, ulid
from .presigned import Signer, refused
from .reading import Fields, Refusal
from .rewards import check_truth, reward

Handler = Callable[[Request, Faults], Awaitable[Response]]
Admit = Callable[[str, Callable[[Request], Handler]], Callable[[Request], Awaitable[Response]]]
T = TypeVar("T")

_SKILLS = {"query": "answer", "point": "points", "detect": "objects"}
_SCATTER = 0.1  # of the image, of an attempt of a finetune that was never trained, at temperature 1
_DOWNLOAD_LASTS = 3600


@attrs.define(eq=False)
class Checkpoint:
    """A saved step."""

    id: str
    step: int
    created: int
    is_deleted: bool = False


@attrs.define(eq=False)
class Finetune:
    """One finetune; `step` counts its training."""

    id: str
    name: str
    rank: int
    created: int
    updated: int
    step: int = 0
    is_stuck: bool = False
    checkpoints: dict[int, Checkpoint] = attrs.field(factory=dict[int, Checkpoint])
    metrics: dict[int, dict[str, float]] = attrs.field(factory=dict[int, dict[str, float]])

    @property
    def told(self) -> Fields:
        """As it is on the wire."""
        return {
            "finetune_id": self.id,
            "name": self.name,
            "rank": self.rank,
            "created_at_ms": self.created,
            "updated_at_ms": self.updated,
        }


@attrs.define(eq=False)
class Tuning:
    """One sandbox's tuning API.

    Args:
        answer: Does the skills.
    """

    answer: Answer
    finetunes: dict[str, Finetune] = attrs.field(factory=dict[str, Finetune])
    _signer: Signer = attrs.field(factory=Signer)
    _secret: bytes = attrs.field(factory=lambda: secrets.token_bytes(16))

    def routes(self, admit: Admit) -> list[Route]:
        """All of them; `admit` puts the key, the rate limit and the faults before each."""
        one, saved = "/finetunes/{id}", "/finetunes/{id}/checkpoints"
        table: list[tuple[str, str, dict[str, Handler]]] = [
            ("finetunes", "/finetunes", {"POST": self._create, "GET": self._list}),
            ("finetunes", one, {"GET": self._retrieve, "DELETE": self._delete}),
            ("metrics", f"{one}/metrics", {"POST": self._metrics}),
            ("checkpoints", saved, {"GET": self._list_checkpoints}),
            ("checkpoints", f"{saved}/save", {"POST": self._save}),
            ("checkpoints", f"{saved}/{{step:int}}", {"DELETE": self._delete_checkpoint}),
            ("checkpoints", f"{saved}/{{step:int}}/download", {"GET": self._download}),
            ("rollouts", "/rollouts", {"POST": self._rollouts}),
            ("train_step", "/train_step", {"POST": self._train_step}),
        ]
        weights = Route("/weights/{id}", self._weights)
        return [weights] + [
            Route(f"/v1/tuning{path}", admit(name, _by_method(handlers)), methods=list(handlers))
            for name, path, handlers in table
        ]

    def knows_model(self, model: str) -> bool:
        """Whether `base/finetune@step` is a saved checkpoint."""
        found = re.fullmatch(r"[^/@]+/([^/@]+)@(\d+)", model)
        finetune = self.finetunes.get(found[1]) if found else None
        saved = finetune.checkpoints.get(int(found[2])) if found and finetune else None
        return saved is not None and not saved.is_deleted

    def check_model(self, data: Fields) -> None:
        """Refuse a request of a checkpoint that was not saved."""
        model = data.get("model")
        if isinstance(model, str) and "@" in model and not self.knows_model(model):
            raise Refusal(404, f"There is no saved checkpoint {model!r}", code="not_found", param="model")

    async def _create(self, request: Request, faults: Faults) -> Response:
        data = reading.fields(await request.body())
        name, rank = data.get("name"), data.get("rank")
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            raise Refusal(400, "name must be alphanumeric, with dots, hyphens and underscores", code="invalid_request")
        if not isinstance(rank, int) or rank not in (8, 16, 24, 32):
            raise Refusal(400, "rank must be 8, 16, 24 or 32", code="invalid_request", param="rank")
        known = next((one for one in self.finetunes.values() if one.name == name), None)
        if known is not None and known.rank != rank:
            raise Refusal(409, f"There is a finetune {name!r} of rank {known.rank}", code="conflict")
        if known is None:
            known = Finetune(ulid(), name, rank, _now(), _now())
            self.finetunes[known.id] = known
        return JSONResponse({"finetune_id": known.id})

    async def _list(self, request: Request, faults: Faults) -> Response:
        return page(request, "finetunes", list(self.finetunes.values()), lambda one: one.told, 20)

    async def _retrieve(self, request: Request, faults: Faults) -> Response:
        return JSONResponse({"finetune": self._of(request).told})

    async def _delete(self, request: Request, faults: Faults) -> Response:
        del self.finetunes[self._of(request).id]
        return JSONResponse({"ok": True})

    async def _metrics(self, request: Request, faults: Faults) -> Response:
        finetune, data = self._of(request), reading.fields(await request.body())
        step, metrics = data.get("step"), data.get("metrics")
        if not _is_step(step) or not isinstance(metrics, dict) or not _are_numbers(metrics.values()):  # pyright: ignore[reportUnknownMemberType]
            raise Refusal(400, "step must be a number, metrics an object of numbers", code="invalid_request")
        finetune.metrics.setdefault(cast("int", step), {}).update(cast("dict[str, float]", metrics))
        return JSONResponse({"ok": True, "step": step, "logged_count": len(cast("Fields", metrics))})

    async def _list_checkpoints(self, request: Request, faults: Faults) -> Response:
        finetune = self._of(request)
        shown = sorted((one for one in finetune.checkpoints.values() if not one.is_deleted), key=lambda one: one.step)
        return page(request, "checkpoints", shown, lambda one: _told(finetune, one), 20)

    async def _save(self, request: Request, faults: Faults) -> Response:
        finetune = self._of(request)
        if not finetune.step:
            raise Refusal(404, "No checkpoint is available: the finetune was never trained", code="not_found")
        kept = finetune.checkpoints.get(finetune.step)
        if kept is None or kept.is_deleted:
            kept = finetune.checkpoints[finetune.step] = Checkpoint(ulid(), finetune.step, _now())
        return JSONResponse({"ok": True, "checkpoint": _told(finetune, kept)})

    async def _delete_checkpoint(self, request: Request, faults: Faults) -> Response:
        finetune = self._of(request)
        self._checkpoint_of(finetune, request).is_deleted = True
        finetune.is_stuck = request.path_params["step"] == max(finetune.checkpoints)
        return JSONResponse({"ok": True})

    async def _download(self, request: Request, faults: Faults) -> Response:
        finetune = self._of(request)
        kept = self._checkpoint_of(finetune, request)
        url = self._signer.address(request, f"/weights/{kept.id}", _DOWNLOAD_LASTS)
        return JSONResponse({"url": url, "expires_in": _DOWNLOAD_LASTS})

    async def _weights(self, request: Request) -> Response:
        kept = {one.id: one for finetune in self.finetunes.values() for one in finetune.checkpoints.values()}
        found = kept.get(request.path_params["id"])
        refusal = self._signer.refusal(request)
        if refusal is not None or found is None or found.is_deleted:
            return refusal or refused("NoSuchKey", 404)
        return Response(json.dumps({"step": found.step}), media_type="application/octet-stream")

    async def _rollouts(self, request: Request, faults: Faults) -> Response:
        data = reading.fields(await request.body())
        finetune = self._named(data)
        count, wanted = data.get("num_rollouts"), data.get("request")
        if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 16:
            raise Refusal(400, "num_rollouts must be from 1 to 16", code="invalid_request", param="num_rollouts")
        skill = _skill_of(wanted)
        truth = data.get("ground_truth")
        if truth is not None and skill == "query":
            raise Refusal(400, "ground_truth is not supported for query", code="invalid_request")
        if truth is not None:
            check_truth(truth, ("boxes",) if skill == "detect" else ("points", "boxes"))
        found = await anyio.to_thread.run_sync(self._attempts, finetune, cast("Fields", wanted), count)
        rewards = None if truth is None else [reward(one["output"], truth) for one in found]
        return JSONResponse({"request": wanted, "rollouts": found, "rewards": rewards})

    def _attempts(self, finetune: Finetune, wanted: Fields, count: int) -> list[Fields]:
        skill = wanted["skill"]
        settings = reading.settings(wanted)
        limit = {"max_tokens": 128} if skill == "query" else {"max_objects": 50}
        fields = {name: value for name, value in wanted.items() if name != "skill"}
        result, _ = self.answer(skill, {**fields, "settings": {**limit, **settings}})
        scatter = _SCATTER * settings.get("temperature", 1.0) / (1 + finetune.step)
        return [self._attempt(skill, _scattered(skill, result, scatter)) for _ in range(count)]

    def _attempt(self, skill: str, output: Fields) -> Fields:
        tokens = list(json.dumps(output).encode()[:32])
        attempt: Fields = {
            "skill": skill,
            "finish_reason": "stop",
            "output": output,
            "answer_tokens": tokens,
            "thinking_tokens": [],
            "has_answer_separator": False,
            "coords": [],
            "sizes": [],
        }
        return {**attempt, "seal": self._seal(attempt)}

    def _seal(self, attempt: Fields) -> str:
        """By which it is known again, unchanged."""
        return hmac.new(self._secret, json.dumps(attempt, sort_keys=True).encode(), hashlib.sha256).hexdigest()[:16]

    async def _train_step(self, request: Request, faults: Faults) -> Response:
        data = reading.fields(await request.body())
        finetune = self._named(data)
        if finetune.is_stuck:
            raise Refusal(409, "The latest checkpoint was deleted: it cannot be trained on", code="conflict")
        groups = data.get("groups")
        if not isinstance(groups, list) or not groups:
            raise Refusal(400, "groups must be a non-empty array", code="invalid_request", param="groups")
        rate = data.get("lr", 2e-4)
        if not isinstance(rate, (int, float)) or isinstance(rate, bool) or rate <= 0:
            raise Refusal(400, "lr must be a number above 0", code="invalid_request", param="lr")
        rewards: list[float] = []
        examples = 0
        for group in cast("list[Any]", groups):
            mode = cast("Fields", group).get("mode") if isinstance(group, dict) else None
            if mode == "rl":
                rewards += self._rewards(cast("Fields", group))
            elif mode == "sft":
                await anyio.to_thread.run_sync(_check_example, cast("Fields", group))
                examples += 1
            else:
                raise Refusal(400, "A group's mode must be 'rl' or 'sft'", code="invalid_request", param="groups")
        spread = pstdev(rewards) if rewards else 0.0
        learns = examples > 0 or spread > 0  # of attempts that are all as good, nothing can be learnt
        finetune.step, finetune.updated = finetune.step + 1, _now()
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
        _skill_of(group.get("request"))
        attempts, rewards = group.get("rollouts"), group.get("rewards")
        if not isinstance(attempts, list) or not isinstance(rewards, list) or not _are_numbers(rewards):
            raise Refusal(400, "An rl group needs rollouts and rewards", code="invalid_request", param="groups")
        if not attempts or len(cast("list[Any]", attempts)) != len(cast("list[Any]", rewards)):
            raise Refusal(400, "There must be one reward for each rollout", code="invalid_request", param="rewards")
        for attempt in cast("list[Any]", attempts):
            fields = dict(cast("Fields", attempt)) if isinstance(attempt, dict) else {}
            if fields.pop("seal", None) != self._seal(fields):
                raise Refusal(400, "A rollout is not as it was given", code="invalid_request", param="rollouts")
        return cast("list[float]", rewards)

    def _of(self, request: Request) -> Finetune:
        return self._known(request.path_params["id"])

    def _named(self, data: Fields) -> Finetune:
        return self._known(data.get("finetune_id"))

    def _known(self, name: object) -> Finetune:
        finetune = self.finetunes.get(str(name))
        if finetune is None:
            raise Refusal(404, "There is no such finetune", code="not_found", param="finetune_id")
        return finetune

    def _checkpoint_of(self, finetune: Finetune, request: Request) -> Checkpoint:
        kept = finetune.checkpoints.get(request.path_params["step"])
        if kept is None:
            raise Refusal(404, "There is no such checkpoint", code="not_found", param="step")
        if kept.is_deleted:
            raise Refusal(410, "The checkpoint was deleted", code="gone", param="step")
        return kept


def _by_method(handlers: dict[str, Handler]) -> Callable[[Request], Handler]:
    return lambda request: handlers[request.method]


def _skill_of(wanted: object) -> str:
    skill = cast("Fields", wanted).get("skill") if isinstance(wanted, dict) else None
    if not isinstance(skill, str) or skill not in _SKILLS:
        raise Refusal(400, "request.skill must be query, point or detect", code="invalid_request", param="request")
    return skill


def _check_example(group: Fields) -> None:
    skill, target = _skill_of(group.get("request")), group.get("target")
    request = cast("Fields", group["request"])
    reading.text(request, "question" if skill == "query" else "object")
    reading.settings(request)
    reading.scene(request, required=skill != "query")
    if not isinstance(target, dict):
        raise Refusal(400, "An sft group needs a target", code="invalid_request", param="target")
    given = cast("Fields", target)
    if skill != "query":
        check_truth(given, ("boxes",) if skill == "detect" else ("points", "boxes"))
        return
    thinks = request.get("reasoning") is True
    if not isinstance(given.get("answer"), str) or thinks != isinstance(given.get("reasoning"), dict):
        raise Refusal(400, "The target is not one of query", code="invalid_request", param="target")


def _scattered(skill: str, result: Fields, scatter: float) -> Fields:
    """An attempt at the right answer."""
    name = _SKILLS[skill]
    if skill == "query":
        return {key: value for key, value in result.items() if key in ("answer", "reasoning")}
    dice = random.Random(secrets.token_bytes(8))  # noqa: S311

    def moved(value: float) -> float:
        return min(1.0, max(0.0, value + dice.gauss(0, scatter)))

    def sorted_box(box: dict[str, float]) -> dict[str, float]:
        (x_min, x_max), (y_min, y_max) = (sorted((box[f"{axis}_min"], box[f"{axis}_max"])) for axis in "xy")
        return {"x_min": x_min, "y_min": y_min, "x_max": x_max, "y_max": y_max}

    things = [{side: moved(value) for side, value in thing.items()} for thing in result[name]]
    return {name: things if skill == "point" else [sorted_box(thing) for thing in things]}


def _told(finetune: Finetune, kept: Checkpoint) -> Fields:
    return {
        "checkpoint_id": kept.id,
        "finetune_id": finetune.id,
        "step": kept.step,
        "created_at_ms": kept.created,
        "updated_at_ms": kept.created,
    }


def _is_step(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _are_numbers(values: Any) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)


def _now() -> int:
    return int(time.time() * 1000)
