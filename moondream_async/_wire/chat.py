"""Build requests and read responses of chat, in OpenAI's format (reference: moondream-api.md 1.8)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from ..config import SamplingSettings
from ..errors import ConfigurationError
from ..types import ChatDelta, ChatResult, Meta, Metrics, Reasoning, Result
from . import checks, responses
from .checks import is_mapping, is_sequence
from .events import Reducer
from .responses import InvalidResponse, is_list, is_object, optional_text

Object = dict[str, Any]

DEFAULT_MODEL = "moondream3.1-9B-A2B"
"""The model to name if the user names none: the endpoint requires one."""

_IMAGE_PLACEHOLDER: Object = {}
"""Stands for an image in a message until it is encoded."""

_ROLES = ("system", "user", "assistant")
_NOT_IN_EXTRA = frozenset({"id", "choices", "usage"})


EncodeAll = Callable[[list[Any]], Awaitable[list[str]]]
"""Encodes images as data URIs, concurrently."""


async def prepare_messages(messages: object, encode: EncodeAll) -> list[Object]:
    """Check messages and return them as they are sent, with images as data URIs; the originals are not changed.

    Args:
        messages: Dicts of `role` and `content`: a text, or a list of texts, images and parts in OpenAI's format. A
            `ChatResult` can be passed as a message, too.
        encode: Encodes the images.

    Raises:
        ConfigurationError: A message has another format.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence) or not messages:
        raise ConfigurationError("messages must be a list of dicts such as {'role': 'user', 'content': 'Hello'}.")
    images: list[Any] = []
    checked = [_check_message(number, each, images) for number, each in enumerate(cast("Sequence[Any]", messages))]
    uris = iter(await encode(images))
    return [_insert_images(message, uris) for message in checked]


def _insert_images(message: Object, uris: Iterator[str]) -> Object:
    content = message["content"]
    if isinstance(content, str):
        return message
    return {**message, "content": [_image_part(next(uris)) if part is _IMAGE_PLACEHOLDER else part for part in content]}


def body(
    messages: list[Object],
    *,
    stream: bool,
    settings: SamplingSettings | None,
    reasoning: bool | None,
    model: str | None,
) -> bytes:
    """Return the body of a request to `/chat/completions`."""
    fields: Object = checks.settings(settings) if settings is not None else {}
    if "max_tokens" in fields:
        if "max_completion_tokens" in fields:
            raise ConfigurationError("settings must have max_tokens or max_completion_tokens, not both.")
        fields["max_completion_tokens"] = fields.pop("max_tokens")
    fields |= {"model": model or DEFAULT_MODEL, "messages": messages}
    fields["stream"] = checks.flag("stream", stream)
    if stream:
        fields["stream_options"] = {"include_usage": True}
    if reasoning is not None:
        fields["reasoning"] = checks.flag("reasoning", reasoning)
    return checks.json_bytes(fields, "messages and settings must hold plain JSON values")


def result(data: Any, meta: Meta) -> ChatResult:
    """Read a complete response."""
    fields = responses.object_of(data)
    choice = _choice(fields)
    if choice is None:
        raise InvalidResponse("it has no list 'choices' with an answer")
    message = responses.object_of(choice.get("message"))
    return ChatResult(
        content=_text(message.get("content")),
        role=str(message.get("role") or "assistant"),
        reasoning=_reasoning(message),
        request_id=optional_text(fields, "id"),
        finish_reason=optional_text(choice, "finish_reason"),
        metrics=_metrics(fields),
        meta=meta,
        extra=fields,
    )


class ChatReducer(Reducer[ChatDelta, ChatResult]):
    """Collects the chunks of a chat stream, up to `[DONE]`; its text is the content without the reasoning."""

    def __init__(self) -> None:
        super().__init__()
        self._thoughts: list[str] = []
        self._finish_reason: str | None = None
        self._reasoning: Reasoning | None = None
        self._metrics: Metrics | None = None

    @property
    def may_end(self) -> bool:
        """Whether the stream may end without `[DONE]`: the finish reason has arrived."""
        return self._finish_reason is not None

    def feed(self, event: Object) -> ChatDelta | None:
        """Add a chunk; return its new text, or None if it has none."""
        if event.get("completed") and "choices" not in event:
            self.completed = True
            return None
        self._fields |= {name: value for name, value in event.items() if name not in _NOT_IN_EXTRA}
        self._fields.setdefault("id", event.get("id"))
        self._metrics = _metrics(event) or self._metrics
        choice = _choice(event)
        if choice is None or choice.get("index"):  # the chunk with the usage, or an alternative answer
            return None
        if isinstance(choice.get("message"), dict):  # the complete response of a server that does not stream
            return self._feed_response(event)
        self._finish_reason = optional_text(choice, "finish_reason") or self._finish_reason
        delta = responses.object_of(choice.get("delta") or {})
        content, thought = _text(delta.get("content")), _text(delta.get("reasoning"))
        if not content and not thought:
            return None
        self._pieces.append(content)
        self._thoughts.append(thought)
        return ChatDelta(content=content or None, reasoning=thought or None)

    @property
    def summary(self) -> Result:
        """Request id, finish reason and metrics of the call so far."""
        return Result(
            request_id=optional_text(self._fields, "id"), finish_reason=self._finish_reason, metrics=self._metrics
        )

    def result(self, meta: Meta) -> ChatResult:
        """Return the typed result of all chunks so far."""
        thoughts = "".join(self._thoughts)
        return ChatResult(
            content=self.text,
            reasoning=self._reasoning or (Reasoning(text=thoughts) if thoughts else None),
            request_id=optional_text(self._fields, "id"),
            finish_reason=self._finish_reason,
            metrics=self._metrics,
            meta=meta,
            extra={name: value for name, value in self._fields.items() if name != "id"},
        )

    def _feed_response(self, event: Object) -> ChatDelta:
        response = result(event, Meta(status=200))
        self._finish_reason, self.completed = response.finish_reason, True
        self._metrics, self._reasoning = response.metrics, response.reasoning
        self._pieces.append(response.content)
        thought = response.reasoning.text if response.reasoning is not None else ""
        self._thoughts.append(thought)
        return ChatDelta(content=response.content, reasoning=thought or None)


def _check_message(number: int, message: Any, images: list[Any]) -> Object:
    if isinstance(message, ChatResult):
        return {"role": message.role, "content": message.content}
    if not is_mapping(message):
        raise ConfigurationError(f"messages[{number}] must be a dict, not {type(message).__name__}.")
    fields = dict(message)
    if fields.get("role") not in _ROLES:
        raise ConfigurationError(
            f"messages[{number}] must have a role: {', '.join(_ROLES)}; not {fields.get('role')!r}."
        )
    content = fields.get("content")
    if is_sequence(content):
        fields["content"] = [_check_part(f"messages[{number}]", part, images) for part in content]
    elif not isinstance(content, str):
        raise ConfigurationError(f"messages[{number}] must have a content: a text, or a list of texts and images.")
    return fields


def _check_part(where: str, part: Any, images: list[Any]) -> Object:
    """Return a part as it is sent; an image is added to `images`, and replaced by a placeholder."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not is_mapping(part):
        images.append(part)
        return _IMAGE_PLACEHOLDER
    kind = part.get("type")
    if kind == "text" and isinstance(part.get("text"), str):
        return dict(part)
    if kind in ("image_url", "image"):
        value = part.get(kind)
        image = value.get("url") if is_mapping(value) else value
        if image is not None:
            images.append(image)
            return _IMAGE_PLACEHOLDER
    raise ConfigurationError(
        f"A part of {where} must be a text, an image, {{'type': 'text', 'text': ...}} or "
        f"{{'type': 'image_url', 'image_url': {{'url': ...}}}}."
    )


def _image_part(uri: str) -> Object:
    return {"type": "image_url", "image_url": {"url": uri}}


def _choice(fields: Object) -> Object | None:
    choices = fields.get("choices")
    return responses.object_of(choices[0]) if is_list(choices) and choices else None


def _reasoning(message: Object) -> Reasoning | None:
    thoughts = message.get("reasoning")
    if thoughts is None:
        return None
    details = message.get("reasoning_details")
    grounding = details.get("grounding") if is_object(details) else None
    reasoning = thoughts if is_object(thoughts) else {"text": _text(thoughts)}
    try:
        return responses.reasoning({"grounding": grounding or [], **reasoning})
    except responses.PARSE_ERRORS:  # do not lose the answer because of invalid grounding
        return Reasoning(text=_text(reasoning.get("text")))


def _metrics(fields: Object) -> Metrics | None:
    usage = fields.get("usage")
    if not is_object(usage):
        return None
    named = {"input_tokens": usage.get("prompt_tokens"), "output_tokens": usage.get("completion_tokens")}
    return responses.metrics({"metrics": named})


def _text(value: Any) -> str:
    if value is None:
        return ""
    if is_list(value):  # parts in OpenAI's format
        parts = [part for part in value if is_object(part)]
        return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    if not isinstance(value, str):
        raise InvalidResponse("its content is not text")
    return value
