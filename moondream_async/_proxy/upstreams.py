"""The services behind the proxy: how a browser's request becomes one with the key, and what errors look like."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

import attrs
from starlette.requests import Request

from .._client.async_client import AsyncClient
from .._fal.async_client import AsyncFalClient
from .._http.client import HttpClient
from .._http.request import Request as UpstreamRequest
from ..web import error_body
from .fal_targets import FalTargets
from .refusals import Refusal

TARGET_HEADER = "x-fal-target-url"
_OWN_FAL_HEADERS = (TARGET_HEADER, "x-fal-client-proxy")
_MAX_HEADER = 1000  # characters of the browser's headers that are passed on


@attrs.frozen(eq=False)
class Call:
    """What a browser's request asks for.

    Attributes:
        operation: Its name in the log.
        costs: Whether it may cost something.
        has_body: Whether its body is passed on.
    """

    operation: str
    costs: bool
    has_body: bool
    target: Any = None


class Upstream(Protocol):
    """A service behind the proxy."""

    @property
    def http(self) -> HttpClient:
        """Sends its requests."""
        ...

    def find(self, request: Request) -> Call:
        """Return what a browser's request asks for.

        Raises:
            Refusal: It is not allowed.
        """
        ...

    def build(self, request: Request, call: Call, body: bytes) -> UpstreamRequest:
        """Return the request to send, with the key, and without the browser's own headers."""
        ...

    def refusal(self, message: str, status: int) -> dict[str, Any]:
        """Return the body of a response that says why a request is refused."""
        ...

    def failure(self, exc: Exception) -> dict[str, Any]:
        """Return the body of a response that says why the service did not answer."""
        ...


class MoondreamUpstream:
    """Moondream's API.

    Args:
        client: The client whose server, key and model are used.
        skills: The names of the skills that may be called; `chat` is one.
        models: The models that a request may name, besides the client's; None for all.
    """

    def __init__(self, client: AsyncClient, skills: Sequence[str], models: Sequence[str] | None) -> None:
        self._api = client._api  # pyright: ignore[reportPrivateUsage]
        self._skills = frozenset(skills)
        self._models = None if models is None else frozenset(models)

    @property
    def http(self) -> HttpClient:
        """Sends its requests."""
        return self._api.http

    def find(self, request: Request) -> Call:
        """Return the skill of a request."""
        path = request.path_params["skill"]
        name = {"chat/completions": "chat", "chat": ""}.get(path, path)
        if name not in self._skills:
            raise Refusal(403, f"{path!r} is not a skill that may be called.")
        return Call(name, costs=True, has_body=True, target=path)

    def build(self, request: Request, call: Call, body: bytes) -> UpstreamRequest:
        """Return the request with the client's key, and its model if the body has none.

        Raises:
            Refusal: The body names a model that may not be used.
        """
        if self._models is not None:
            body = self._check_model(body, self._models)
        body = _with_model(body, self._api.model)
        return self._api.requests.skill(call.target, body, stream=_streams(request), bearer=call.operation == "chat")

    def _check_model(self, body: bytes, models: frozenset[str]) -> bytes:
        """Return the body anew, so that what is checked is what is sent: a JSON object may have a field twice."""
        try:
            fields: Any = json.loads(body)
        except (ValueError, RecursionError):
            raise Refusal(400, "The body is not valid JSON.") from None
        if not isinstance(fields, dict):
            raise Refusal(400, "The body must be a JSON object.")
        model: Any = fields.get("model")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if model is not None and model != self._api.model and not (isinstance(model, str) and model in models):
            raise Refusal(403, "This model may not be used.")
        return json.dumps(fields).encode("ascii")

    def refusal(self, message: str, status: int) -> dict[str, Any]:
        """Return an error in the form of Moondream's API."""
        kind = "rate_limit_error" if status == 429 else "invalid_request_error"
        return {"error": {"type": kind, "message": message, "code": "refused_by_proxy"}}

    def failure(self, exc: Exception) -> dict[str, Any]:
        """Return an error in the form of Moondream's API."""
        return error_body(exc)


class FalUpstream:
    """fal.ai's API, by the contract of its own proxies: the header `x-fal-target-url` has the address.

    Args:
        client: The client whose key and hosts are used.
        endpoints: The endpoints that may be called.
    """

    def __init__(self, client: AsyncFalClient, endpoints: Sequence[str]) -> None:
        self._connection = client._connection  # pyright: ignore[reportPrivateUsage]
        self._targets = FalTargets(self._connection.hosts, endpoints)

    @property
    def http(self) -> HttpClient:
        """Sends its requests."""
        return self._connection.http

    def find(self, request: Request) -> Call:
        """Return the target of a request."""
        urls = request.headers.getlist(TARGET_HEADER)
        if len(urls) != 1:
            raise Refusal(400, f"Invalid request: it needs one header {TARGET_HEADER}.")
        target = self._targets.find(request.method, urls[0])
        return Call(target.operation, costs=target.costs, has_body=request.method == "POST", target=target.url)

    def build(self, request: Request, call: Call, body: bytes) -> UpstreamRequest:
        """Return the request with the key, and those of the browser's headers that are fal's."""
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.startswith("x-fal-") and name not in _OWN_FAL_HEADERS and _is_plain(value)
        }
        return self._connection.request(
            call.operation,
            request.method,
            call.target,
            body=body,
            headers=headers,
            non_idempotent=call.costs,  # never sent twice, even over a connection that the server had closed
            accept="text/event-stream" if call.operation == "stream" else "application/json",
        )

    def refusal(self, message: str, status: int) -> dict[str, Any]:
        """Return an error in the form of fal's API."""
        return {"detail": message}

    def failure(self, exc: Exception) -> dict[str, Any]:
        """Return an error in the form of fal's API."""
        return {"detail": error_body(exc)["error"]["message"]}


def _streams(request: Request) -> bool:
    return "text/event-stream" in request.headers.get("accept", "")


def _is_plain(value: str) -> bool:
    return len(value) <= _MAX_HEADER and value.isascii() and value.isprintable()


def _with_model(body: bytes, model: str | None) -> bytes:
    """Add the client's model to a JSON object. If the object has one, that comes later, and so counts."""
    rest = body.lstrip()
    if model is None or not rest.startswith(b"{"):
        return body
    rest = rest[1:].lstrip()
    separator = b"" if rest.startswith(b"}") else b", "
    return b'{"model": ' + json.dumps(model).encode("ascii") + separator + rest
