"""Chat, in OpenAI's shape: messages in, answers and stream events out (reference: moondream-api.md 1.8)."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from ..config import SamplingSettings
from ..errors import ConfigurationError
from ..types import ChatDelta, ChatResult, Meta, Metrics, Reasoning, Result
from . import checks, responses
from .responses import InvalidResponse

Object = dict[str, Any]

DEFAULT_MODEL = "moondream3.1-9B-A2B"
"""The endpoint wants a model named."""

_IMAGE: Object = {}
"""Stands for an image in a message, until it is prepared."""

_ROLES = ("system", "user", "assistant")
_NOT_IN_EXTRA = frozenset({"id", "choices", "usage"})


EncodeAll = Callable[[list[Any]], Awaitable[list[str]]]
"""Makes data URIs of images, side by side."""


async def prepared(messages: object, encode: EncodeAll) -> list[Object]:
    """The messages as they are sent: checked, every image a data URI; those given are left as they are.

    Args:
        messages: Dicts of `role` and `content`: a text, or a list of texts, images, and parts in OpenAI's shape; or an
            answer, a `ChatResult`.
        encode: Prepares the images.

    Raises:
        ConfigurationError: One is of another shape.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence) or not messages:
        raise ConfigurationError("messages must be a list of dicts such as {'role': 'user', 'content': 'Hello'}.")
    images: list[Any] = []
    read = [_message(number, each, images) for number, each in enumerate(cast("Sequence[Any]", messages))]
    ready = iter(await encode(images))
    return [_with_images(message, ready) for message in read]


def _with_images(message: Object, ready: Iterator[str]) -> Object:
    content = message["content"]
    if isinstance(content, str):
        return message
    return {**message, "content": [_image(next(ready)) if part is _IMAGE else part for part in content]}


def body(
    messages: list[Object],
    *,
    stream: bool,
    settings: SamplingSettings | None,
    reasoning: bool | None,
    model: str | None,
) -> bytes:
    """The body of `/chat/completions`."""
    checked = checks.settings(settings) if settings is not None else {}
    if "max_tokens" in checked:
        if "max_completion_tokens" in checked:
            raise ConfigurationError("settings must have max_tokens or max_completion_tokens, not both.")
        checked["max_completion_tokens"] = checked.pop("max_tokens")
    fields: Object = {**checked, "model": model or DEFAULT_MODEL, "messages": messages}
    fields["stream"] = checks.flag("stream", stream)
    if stream:
        fields["stream_options"] = {"include_usage": True}
    if reasoning is not None:
        fields["reasoning"] = checks.flag("reasoning", reasoning)
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
        raise InvalidResponse("it has no list 'choices' with an answer in it")
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
        self._whole_reasoning: Reasoning | None = None
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

    @property
    def may_end(self) -> bool:
        """Whether an end without `[DONE]` is one all the same: the answer has said why it ends."""
        return self._finish_reason is not None

    def feed(self, event: Object) -> ChatDelta | None:
        """Take one chunk; return what it adds, or None if it adds nothing."""
        if event.get("completed") and "choices" not in event:
            self.completed = True
            return None
        self._fields |= {name: value for name, value in event.items() if name not in _NOT_IN_EXTRA}
        self._fields.setdefault("id", event.get("id"))
        self._metrics = _usage(event) or self._metrics
        choice = _choice(event)
        if choice is None or choice.get("index"):  # the chunk that tells the usage; another answer beside the first
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
            reasoning=self._whole_reasoning or (Reasoning(text=thoughts) if thoughts else None),
            request_id=_optional(self._fields.get("id")),
            finish_reason=self._finish_reason,
            metrics=self._metrics,
            meta=meta,
            extra={name: value for name, value in self._fields.items() if name != "id"},
        )

    def _whole(self, event: Object) -> ChatDelta:
        found = result(event, Meta(status=200))
        self._finish_reason, self.completed = found.finish_reason, True
        self._metrics, self._whole_reasoning = found.metrics, found.reasoning
        self._content.append(found.content)
        thought = found.reasoning.text if found.reasoning is not None else ""
        self._thoughts.append(thought)
        return ChatDelta(content=found.content, reasoning=thought or None)


def _message(number: int, message: Any, images: list[Any]) -> Object:
    if isinstance(message, ChatResult):
        return {"role": message.role, "content": message.content}
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
        fields["content"] = [_part(f"messages[{number}]", part, images) for part in parts]
    elif not isinstance(content, str):
        raise ConfigurationError(f"messages[{number}] must have a content: a text, or a list of texts and images.")
    return fields


def _part(where: str, part: Any, images: list[Any]) -> Object:
    """A part as it is sent; an image is put aside, and marked."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, Mapping):
        images.append(part)
        return _IMAGE
    fields = cast("Mapping[str, Any]", part)
    kind = fields.get("type")
    if kind == "text" and isinstance(fields.get("text"), str):
        return dict(fields)
    if kind in ("image_url", "image"):
        given = fields.get(kind)
        nested = cast("Mapping[str, Any]", given).get("url") if isinstance(given, Mapping) else given
        if nested is not None:
            images.append(nested)
            return _IMAGE
    raise ConfigurationError(
        f"A part of {where} must be a text, an image, {{'type': 'text', 'text': ...}} or "
        f"{{'type': 'image_url', 'image_url': {{'url': ...}}}}."
    )


def _image(uri: str) -> Object:
    return {"type": "image_url", "image_url": {"url": uri}}


def _choice(fields: Object) -> Object | None:
    choices = fields.get("choices")
    return responses.object_of(cast("list[Any]", choices)[0]) if isinstance(choices, list) and choices else None


def _reasoning(message: Object) -> Reasoning | None:
    thoughts = message.get("reasoning")
    if thoughts is None:
        return None
    details = message.get("reasoning_details")
    grounding = cast("Object", details).get("grounding") if isinstance(details, dict) else None
    told: Object = cast("Object", thoughts) if isinstance(thoughts, dict) else {"text": _text(thoughts)}
    try:
        return responses.reasoning({"grounding": grounding or [], **told})
    except responses.PARSE_ERRORS:  # the answer is worth more than what its thoughts point at
        return Reasoning(text=_text(told.get("text")))


def _usage(fields: Object) -> Metrics | None:
    usage = fields.get("usage")
    if not isinstance(usage, dict):
        return None
    counts = cast("Object", usage)
    named = {"input_tokens": counts.get("prompt_tokens"), "output_tokens": counts.get("completion_tokens")}
    return responses.metrics({"metrics": named})


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):  # OpenAI's parts
        parts = [cast("Object", part) for part in cast("list[Any]", value) if isinstance(part, dict)]
        return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    if not isinstance(value, str):
        raise InvalidResponse("its content is not text")
    return value


def _optional(value: Any) -> str | None:
    return None if value is None else str(value)
