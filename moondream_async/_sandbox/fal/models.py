"""fal.ai's Moondream endpoints, with answers computed from pixels, and two endpoints for tests: echo and fail."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import attrs

from ..._fal.inputs import BATCHED_MODELS
from ..._wire.responses import is_list, is_object
from .. import engine
from ..validation import Fields, RequestError

Load = Callable[[str], tuple[bytes, str] | None]

ECHO, FAIL = "sandbox/echo", "sandbox/fail"
_PREVIEW = "fal-ai/moondream3-preview/"
_MAX_INPUTS = 32


@attrs.frozen
class Reply:
    """The status and body of a request's result."""

    status: int
    body: Any


def answer(endpoint: str, arguments: Any, load: Load) -> Reply:
    """Compute an endpoint's result; blocking.

    Args:
        endpoint: Full id of the endpoint.
        arguments: Input of the endpoint.
        load: Returns the bytes and media type of a stored file by its URL; None if there is no such file.
    """
    try:
        return Reply(200, _run_endpoint(endpoint, arguments, load))
    except _EndpointError as exc:
        return Reply(exc.status, {"detail": [exc.detail]})


def is_endpoint(endpoint: str) -> bool:
    """Return whether the endpoint exists."""
    known = ("fal-ai/moondream/batched", ECHO, FAIL)
    return endpoint in known or (endpoint.startswith(_PREVIEW) and endpoint.removeprefix(_PREVIEW) in engine.SKILLS)


class _EndpointError(Exception):
    def __init__(self, status: int, kind: str, where: list[str], message: str) -> None:
        super().__init__(message)
        self.status = status
        url = f"https://docs.fal.ai/errors#{kind}"
        self.detail = {"loc": ["body", *where], "msg": message, "type": kind, "url": url}


def _run_endpoint(endpoint: str, arguments: Any, load: Load) -> Any:
    if not is_object(arguments):
        raise _EndpointError(422, "dict_type", [], "Input should be a valid dictionary")
    if endpoint == ECHO:
        return {"arguments": arguments}
    if endpoint == FAIL:
        status = arguments.get("status", 422)
        if not isinstance(status, int) or not 400 <= status <= 599:
            raise _EndpointError(422, "less_than_equal", ["status"], "Input should be from 400 to 599")
        raise _EndpointError(status, arguments.get("type", "value_error"), ["prompt"], "requested failure")
    if endpoint.startswith(_PREVIEW):
        return _preview_skill(endpoint.removeprefix(_PREVIEW), arguments, load)
    return _batched(arguments, load)


def _batched(fields: Fields, load: Load) -> Any:
    inputs = fields.get("inputs")
    if not is_list(inputs) or not inputs:
        raise _EndpointError(422, "missing", ["inputs"], "Field required")
    if len(inputs) > _MAX_INPUTS:
        raise _EndpointError(422, "sequence_too_long", ["inputs"], f"At most {_MAX_INPUTS} inputs")
    if fields.get("model_id", BATCHED_MODELS[0]) not in BATCHED_MODELS:
        expected = " or ".join(repr(name) for name in BATCHED_MODELS)
        raise _EndpointError(422, "literal_error", ["model_id"], f"Input should be {expected}")
    outputs: list[str] = []
    settings = {name: fields[name] for name in ("max_tokens", "temperature", "top_p") if name in fields}
    for number, item in enumerate(inputs):
        if not is_object(item):
            raise _EndpointError(422, "dict_type", ["inputs", str(number)], "Input should be a valid dictionary")
        request = {"image_url": _image_url(item, load, "inputs", str(number)), "settings": settings}
        if item.get("prompt"):
            result = _run_skill("query", {**request, "question": item["prompt"]})
        else:
            result = _run_skill("caption", {**request, "length": "short"})
        outputs.append(str(result.value))
    return {"outputs": outputs, "partial": False, "timings": {"total": 0.01 * len(outputs)}}


def _preview_skill(name: str, fields: Fields, load: Load) -> Any:
    settings: Any = fields.get("settings") or {}
    if not is_object(settings):
        raise _EndpointError(422, "dict_type", ["settings"], "Input should be a valid dictionary")
    request: Fields = {"image_url": _image_url(fields, load), "settings": dict(settings)}
    request["settings"] |= {key: fields[key] for key in ("temperature", "top_p") if key in fields}
    if name == "caption":
        request["length"] = fields.get("length", "normal")
    elif name == "query":
        request |= {"question": _require_text(fields, "prompt"), "reasoning": fields.get("reasoning", True)}
    else:
        request["object"] = _require_text(fields, "object" if name == "segment" else "prompt")
    if "spatial_references" in fields:
        refs = fields["spatial_references"]
        request["spatial_refs"] = list(map(_parse_ref, refs)) if is_list(refs) else refs
    result = _run_skill(name, request)
    usage = engine.metrics(request, result, 0.01)
    common = {"finish_reason": result.finish_reason, "usage_info": usage, **result.extra}
    if name in ("caption", "query"):
        return {"output": result.value, **common}
    if name == "segment" and result.value == "":
        return {"path": None, "bbox": None, **common}
    return {result.field: result.value, **common}


def _run_skill(skill: str, fields: Fields) -> engine.SkillResult:
    try:
        return engine.SKILLS[skill](fields)
    except RequestError as exc:
        kind = "image_load_error" if exc.param == "image_url" else "value_error"
        raise _EndpointError(422, kind, [exc.param or ""], exc.message) from None


def _image_url(fields: Fields, load: Load, *where: str) -> str:
    value = fields.get("image_url")
    if not isinstance(value, str) or not value:
        raise _EndpointError(422, "missing", [*where, "image_url"], "Field required")
    if value.startswith("data:"):
        return value
    file = load(value)
    if file is None:
        raise _EndpointError(422, "file_download_error", [*where, "image_url"], "Failed to download the file")
    data, media_type = file
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def _require_text(fields: Fields, name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        raise _EndpointError(422, "missing", [name], "Field required")
    return value


def _parse_ref(value: Any) -> Any:
    return [value.get("x"), value.get("y")] if is_object(value) else value


def as_json(value: Any) -> bytes:
    """Encode as JSON in UTF-8."""
    return json.dumps(value).encode()
