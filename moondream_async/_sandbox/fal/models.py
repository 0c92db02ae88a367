"""fal.ai's Moondream endpoints, answered from pixels; and two that answer whatever they are told."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, cast

import attrs

from ..._fal.inputs import BATCHED_MODELS
from .. import engine
from ..reading import Fields, Refusal

Load = Callable[[str], tuple[bytes, str] | None]

ECHO, FAIL = "sandbox/echo", "sandbox/fail"
_PREVIEW = "fal-ai/moondream3-preview/"
_MAX_INPUTS = 32


@attrs.frozen
class Reply:
    """What an endpoint answers: the status and body that its result will have."""

    status: int
    body: Any


class UnknownEndpointError(Exception):
    """There is no such endpoint."""


def answer(endpoint: str, arguments: Any, load: Load) -> Reply:
    """Do an endpoint's work; blocking.

    Args:
        endpoint: Its full id.
        arguments: Its input.
        load: Gives the bytes and media type of a file of the store, by its URL.
    """
    try:
        return Reply(200, _work(endpoint, arguments, load))
    except _Fault as fault:
        return Reply(fault.status, {"detail": [fault.detail]})


def knows(endpoint: str) -> bool:
    """Whether there is such an endpoint."""
    known = ("fal-ai/moondream/batched", ECHO, FAIL)
    return endpoint in known or (endpoint.startswith(_PREVIEW) and endpoint.removeprefix(_PREVIEW) in engine.SKILLS)


class _Fault(Exception):
    def __init__(self, status: int, kind: str, where: list[str], message: str) -> None:
        super().__init__(message)
        self.status = status
        url = f"https://docs.fal.ai/errors#{kind}"
        self.detail = {"loc": ["body", *where], "msg": message, "type": kind, "url": url}


def _work(endpoint: str, arguments: Any, load: Load) -> Any:
    if not isinstance(arguments, dict):
        raise _Fault(422, "dict_type", [], "Input should be a valid dictionary")
    fields = cast("Fields", arguments)
    if endpoint == ECHO:
        return {"arguments": fields}
    if endpoint == FAIL:
        status = fields.get("status", 422)
        if not isinstance(status, int) or not 400 <= status <= 599:
            raise _Fault(422, "less_than_equal", ["status"], "Input should be from 400 to 599")
        raise _Fault(status, fields.get("type", "value_error"), ["prompt"], "told to fail")
    if endpoint.startswith(_PREVIEW):
        return _skill(endpoint.removeprefix(_PREVIEW), fields, load)
    return _batched(fields, load)


def _batched(fields: Fields, load: Load) -> Any:
    inputs = fields.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise _Fault(422, "missing", ["inputs"], "Field required")
    entries = cast("list[Any]", inputs)
    if len(entries) > _MAX_INPUTS:
        raise _Fault(422, "sequence_too_long", ["inputs"], f"At most {_MAX_INPUTS} inputs")
    if fields.get("model_id", BATCHED_MODELS[0]) not in BATCHED_MODELS:
        expected = " or ".join(repr(name) for name in BATCHED_MODELS)
        raise _Fault(422, "literal_error", ["model_id"], f"Input should be {expected}")
    outputs: list[str] = []
    settings = {name: fields[name] for name in ("max_tokens", "temperature", "top_p") if name in fields}
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise _Fault(422, "dict_type", ["inputs", str(number)], "Input should be a valid dictionary")
        given = cast("Fields", entry)
        asked = {"image_url": _image(given, load, "inputs", str(number)), "settings": settings}
        skill, more = (
            ("query", {"question": given["prompt"]}) if given.get("prompt") else ("caption", {"length": "short"})
        )
        outputs.append(str(_done(skill, {**asked, **more}).value))
    return {"outputs": outputs, "partial": False, "timings": {"total": 0.01 * len(outputs)}}


def _skill(name: str, fields: Fields, load: Load) -> Any:
    settings: Any = fields.get("settings") or {}
    if not isinstance(settings, dict):
        raise _Fault(422, "dict_type", ["settings"], "Input should be a valid dictionary")
    asked: Fields = {"image_url": _image(fields, load), "settings": dict(cast("Fields", settings))}
    asked["settings"] |= {key: fields[key] for key in ("temperature", "top_p") if key in fields}
    if name == "caption":
        asked["length"] = fields.get("length", "normal")
    elif name == "query":
        asked |= {"question": _prompt(fields, "prompt"), "reasoning": fields.get("reasoning", True)}
    else:
        asked["object"] = _prompt(fields, "object" if name == "segment" else "prompt")
    if "spatial_references" in fields:
        given: Any = fields["spatial_references"]
        asked["spatial_refs"] = list(map(_reference, cast("list[Any]", given))) if isinstance(given, list) else given
    done = _done(name, asked)
    usage = engine.metrics(asked, done, 0.01)
    found = {"finish_reason": done.finish_reason, "usage_info": usage, **done.more}
    if name in ("caption", "query"):
        return {"output": done.value, **found}
    if name == "segment" and done.value == "":
        return {"path": None, "bbox": None, **found}
    return {done.field: done.value, **found}


def _done(skill: str, fields: Fields) -> engine.Done:
    try:
        return engine.SKILLS[skill](fields)
    except Refusal as refusal:
        kind = "image_load_error" if refusal.param == "image_url" else "value_error"
        error = _Fault(422, kind, [refusal.param or ""], refusal.message)
    raise error


def _image(fields: Fields, load: Load, *where: str) -> str:
    value = fields.get("image_url")
    if not isinstance(value, str) or not value:
        raise _Fault(422, "missing", [*where, "image_url"], "Field required")
    if value.startswith("data:"):
        return value
    file = load(value)
    if file is None:
        raise _Fault(422, "file_download_error", [*where, "image_url"], "Failed to download the file")
    data, media_type = file
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def _prompt(fields: Fields, name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        raise _Fault(422, "missing", [name], "Field required")
    return value


def _reference(value: Any) -> Any:
    if isinstance(value, dict):
        point = cast("Fields", value)
        return [point.get("x"), point.get("y")]
    return value


def as_json(value: Any) -> bytes:
    """JSON in UTF-8."""
    return json.dumps(value).encode()
