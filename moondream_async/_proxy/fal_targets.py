"""Which of fal.ai's URLs a browser may call through the proxy (pure).

A URL is accepted only in its plain form: what no client of fal's writes (escapes, dots, ports, user names, other
cases) is refused rather than interpreted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl

import attrs

from .._fal.wire import Endpoint, Hosts
from ..errors import ConfigurationError
from .refusals import Refusal

MOONDREAM_ENDPOINTS = (
    "fal-ai/moondream/batched",
    "fal-ai/moondream2",
    "fal-ai/moondream2/*",
    "fal-ai/moondream3-preview/*",
    "fal-ai/moondream-next",
    "fal-ai/moondream-next/*",
)
"""Moondream's endpoints at fal. `/*` at the end stands for all endpoints below."""

_URL = re.compile(r"https://(queue\.fal\.run|fal\.run|rest\.fal\.ai)(/[A-Za-z0-9_./~-]+)(?:\?([A-Za-z0-9_.~&=-]*))?")
_JOB = re.compile(r"/(.+)/requests/([A-Za-z0-9-]{1,64})(/status|/status/stream|/cancel)?")
_JOB_METHODS = {"": "GET", "/status": "GET", "/status/stream": "GET", "/cancel": "PUT"}
_JOB_OPERATIONS = {"": "result", "/status": "status", "/status/stream": "stream", "/cancel": "cancel"}
_STORAGE_PATHS = (
    "/storage/upload/initiate",
    "/storage/upload/initiate-multipart",
    "/storage/upload/complete-multipart",
)
_QUERY = {"queue": ("logs", "fal_max_queue_length"), "run": (), "rest": ("storage_type",)}


@attrs.frozen
class FalTarget:
    """A request to fal that is allowed.

    Attributes:
        operation: What it does: `submit`, `run`, `status`, `stream`, `result`, `cancel` or `initiate`.
        url: Where it goes.
        costs: Whether it may cost something.
    """

    operation: str
    url: str
    costs: bool


class FalTargets:
    """The requests to fal that are allowed.

    Args:
        hosts: fal's hosts, or those of the server that stands in for them.
        endpoints: The endpoints that may be called, such as `fal-ai/moondream/batched` or `fal-ai/moondream2/*`.

    Raises:
        ConfigurationError: An endpoint is not valid.
    """

    def __init__(self, hosts: Hosts, endpoints: Sequence[str]) -> None:
        self._bases = {"queue.fal.run": hosts.queue, "fal.run": hosts.run, "rest.fal.ai": hosts.rest}
        self._endpoints = {Endpoint.of(name).id for name in endpoints if not name.endswith("/*")}
        above = [Endpoint.of(name[:-2]) for name in endpoints if name.endswith("/*")]
        self._prefixes = tuple(f"{endpoint.id}/" for endpoint in above)
        self._apps = {Endpoint.of(name).app for name in self._endpoints} | {endpoint.app for endpoint in above}

    def find(self, method: str, url: str) -> FalTarget:
        """Return the target that a browser's request names.

        Args:
            method: The request's method.
            url: The value of its header `x-fal-target-url`.

        Raises:
            Refusal: It is not allowed.
        """
        match = _URL.fullmatch(url)
        if match is None or any(part in ("", ".", "..") for part in match[2].split("/")[1:]):
            raise Refusal(400, "x-fal-target-url must be a plain https URL of queue.fal.run, fal.run or rest.fal.ai.")
        host, path, query = match.groups()
        kind = {"queue.fal.run": "queue", "fal.run": "run", "rest.fal.ai": "rest"}[host]
        for name, _ in parse_qsl(query or "", keep_blank_values=True):
            if name not in _QUERY[kind]:
                raise Refusal(403, f"The query parameter {name!r} is not allowed.")
        find = self._find_storage if kind == "rest" else self._find_endpoint
        operation, costs = find(kind, method, path)
        return FalTarget(operation, f"{self._bases[host]}{path}{f'?{query}' if query else ''}", costs)

    def _find_endpoint(self, kind: str, method: str, path: str) -> tuple[str, bool]:
        job = _JOB.fullmatch(path)
        if kind == "queue" and job is not None:
            action = job[3] or ""
            if job[1] not in self._apps:
                raise Refusal(403, f"The endpoint {job[1]!r} is not allowed.")
            if method != _JOB_METHODS[action]:
                raise Refusal(405, f"{method} is not allowed here.")
            return _JOB_OPERATIONS[action], False
        if method != "POST":
            raise Refusal(405, f"{method} is not allowed here.")
        self._check_endpoint(path.strip("/"))
        return ("submit" if kind == "queue" else "run"), True

    def _check_endpoint(self, text: str) -> None:
        try:
            name = Endpoint.of(text).id
        except ConfigurationError:
            name = ""
        if not name or not (name in self._endpoints or name.startswith(self._prefixes)):
            raise Refusal(403, f"The endpoint {text!r} is not allowed.")

    def _find_storage(self, _kind: str, method: str, path: str) -> tuple[str, bool]:
        if path not in _STORAGE_PATHS:
            raise Refusal(403, f"{path} is not allowed.")
        if method != "POST":
            raise Refusal(405, f"{method} is not allowed here.")
        return "initiate", True
