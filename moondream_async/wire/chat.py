"""Chat, in OpenAI's shape: messages in, answers and stream events out (reference: moondream-api.md 1.8)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from ..config import SamplingSettings
from ..errors import ConfigurationError
from ..types import ChatDelta, ChatResult, Meta, Metrics, Reasoning, Result
from . import requests, responses
from .responses import Unusable

Object = dict[str, Any]

DEFAULT_MODEL = "moondream3.1-9B-A2B"
"""The endpoint wants a model named."""

_ROLES = ("system", "user", "assistant")
_NOT_IN_EXTRA = frozenset({"id", "choices", "usage"})


async def prepared(messages: object, encode: Callable[[Any], Awaitable[str]]) -> list[Object]:
    """The messages as they are sent: checked, every image a data URI.

    Args:
        messages: Dicts of `role` and `content`: a text, or a list of texts, images, and parts in OpenAI's shape.
        encode: Makes a data URI of an image.

    Raises:
        ConfigurationError: One is of another shape.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence) or not messages:
        raise ConfigurationError("messages must be a list of dicts such as {'role': 'user', 'content': 'Hello'}.")
    return [await _message(number, each, encode) for number, each in enumerate(cast("Sequence[Any]", messages))]


def body(
    messages: list[Object],
    *,
    stream: bool,
    settings: SamplingSettings | None,
    reasoning: bool | None,
    model: str | None,
) -> bytes:
    """The body of `/chat/completions`."""
    checked = requests.sampling(settings) if settings is not None else {}
    if "max_tokens" in checked:
        checked["max_completion_tokens"] = checked.pop("max_tokens")
    fields: Object = {"model": model or DEFAULT_MODEL, "messages": messages, **checked}
    fields["stream"] = requests.flag("stream", stream)
    if stream:
        fields["stream_options"] = {"include_usage": True}
    if reasoning is not None:
        fields["reasoning"] = requests.flag("reasoning", reasoning)
    try:
        return json.dumps(fields, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        problem = str(exc)
    raise ConfigurationError(f"messages and settings must hold plain JSON values: {problem}.")


def result(data: Any, meta: Meta) -> ChatResult:
    """Read a whole answer."""
    fields = responses.object_of(data)
    choice = _choice(fields)
    if choice is None:
        raise Unusable("it has no 'choices'")
    message = responses.object_of(choice.get("message"))
    return ChatResult(
        content=_text(message.get("content")),
        role=str(message.get("role") or "assistant"),
        reasoning=_reasoning(message),
        request_id=_optional(fields.get("id")),
        finish_reason=_optional(choice.get("finish_reason")),
        metrics=_usage(fields),
        meta=meta,
        extra=fields,
    )


class ChatReducer:
    """Collects the chunks of a chat stream, up to `[DONE]`."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._thoughts: list[str] = []
        self._fields: Object = {}
        self._finish_reason: str | None = None
        self._metrics: Metrics | None = None
        self.completed = False

    @property
    def text(self) -> str:
        """The content so far."""
        return "".join(self._content)

    @property
    def partial(self) -> str:
        """What an interrupted stream leaves behind."""
        return self.text

    def feed(self, event: Object) -> ChatDelta | None:
        """Take one chunk; return what it adds, or None if it adds nothing."""
        if event.get("completed") and "choices" not in event:
            self.completed = True
            return None
        self._fields |= {name: value for name, value in event.items() if name not in _NOT_IN_EXTRA}
        self._fields.setdefault("id", event.get("id"))
        self._metrics = _usage(event) or self._metrics
        choice = _choice(event)
        if choice is None:  # the chunk that tells the usage
            return None
        if isinstance(choice.get("message"), dict):  # a server that does not stream answers all at once
            return self._whole(event)
        self._finish_reason = _optional(choice.get("finish_reason")) or self._finish_reason
        delta = responses.object_of(choice.get("delta") or {})
        content, thought = _text(delta.get("content")), _text(delta.get("reasoning"))
        if not content and not thought:
            return None
        self._content.append(content)
        self._thoughts.append(thought)
        return ChatDelta(content=content or None, reasoning=thought or None)

    @property
    def summary(self) -> Result:
        """What the chunks have said of the call."""
        return Result(
            request_id=_optional(self._fields.get("id")), finish_reason=self._finish_reason, metrics=self._metrics
        )

    def result(self, meta: Meta) -> ChatResult:
        """The typed result of all chunks."""
        thoughts = "".join(self._thoughts)
        return ChatResult(
            content=self.text,
            reasoning=Reasoning(text=thoughts) if thoughts else None,
            request_id=_optional(self._fields.get("id")),
            finish_reason=self._finish_reason,
            metrics=self._metrics,
            meta=meta,
            extra={name: value for name, value in self._fields.items() if name != "id"},
        )

    def _whole(self, event: Object) -> ChatDelta:
        found = result(event, Meta(status=200))
        self._finish_reason, self.completed = found.finish_reason, True
        self._metrics = found.metrics
        self._content.append(found.content)
        thought = found.reasoning.text if found.reasoning is not None else ""
        self._thoughts.append(thought)
        return ChatDelta(content=found.content, reasoning=thought or None)


async def _message(number: int, message: Any, encode: Callable[[Any], Awaitable[str]]) -> Object:
    if not isinstance(message, Mapping):
        raise ConfigurationError(f"messages[{number}] must be a dict, not {type(message).__name__}.")
    fields = dict(cast("Mapping[str, Any]", message))
    if fields.get("role") not in _ROLES:
        raise ConfigurationError(
            f"messages[{number}] must have a role: {', '.join(_ROLES)}; not {fields.get('role')!r}."
        )
    content = fields.get("content")
    if isinstance(content, (list, tuple)):
        parts = cast("Sequence[Any]", content)
        fields["content"] = [await _part(f"messages[{number}]", part, encode) for part in parts]
    elif not isinstance(content, str):
        raise ConfigurationError(f"messages[{number}] must have a content: a text, or a list of texts and images.")
    return fields


async def _part(where: str, part: Any, encode: Callable[[Any], Awaitable[str]]) -> Object:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, Mapping):
        return _image(await encode(part))
    fields = cast("Mapping[str, Any]", part)
    kind = fields.get("type")
    if kind == "text" and isinstance(fields.get("text"), str):
        return dict(fields)
    if kind in ("image_url", "image"):
        given = fields.get(kind)
        nested = cast("Mapping[str, Any]", given).get("url") if isinstance(given, Mapping) else given
        if nested is not None:
            return _image(await encode(nested))
    raise ConfigurationError(
        f"A part of {where} must be a text, an image, {{'type': 'text', 'text': ...}} or "
        f"{{'type': 'image_url', 'image_url': {{'url': ...}}}}."
    )


def _image(uri: str) -> Object:
    return {"type": "image_url", "image_url": {"url": uri}}


def _choice(fields: Object) -> Object | None:
    choices = fields.get("choices")
    if not isinstance(choices, list):
        raise Unusable("it has no list 'choices'")
    return responses.object_of(cast("list[Any]", choices)[0]) if choices else None


def _reasoning(message: Object) -> Reasoning | None:
    text = message.get("reasoning")
    if text is None:
        return None
    details = message.get("reasoning_details")
    grounding = cast("Object", details).get("grounding") if isinstance(details, dict) else None
    return responses.reasoning({"text": _text(text), "grounding": grounding or []})


def _usage(fields: Object) -> Metrics | None:
    usage = fields.get("usage")
    if not isinstance(usage, dict):
        return None
    counts = cast("Object", usage)
    return Metrics(input_tokens=counts.get("prompt_tokens"), output_tokens=counts.get("completion_tokens"))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unusable("its content is not text")
    return value


def _optional(value: Any) -> str | None:
    return None if value is None else str(value)
