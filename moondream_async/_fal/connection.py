"""The way to fal.ai's own hosts: the key, which goes nowhere else, and how fal's errors are read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import attrs

from .._http.caller import Answer, Caller, ErrorDecoder, Request
from .._wire import errors
from .._wire.redact import Redactor
from ..config import FAL_KEYS_URL, Secret
from ..errors import ConfigurationError
from . import wire
from .wire import Hosts


@attrs.frozen(eq=False)
class FalConnection:
    """What a client, its handles and its uploads share.

    Attributes:
        caller: Sends.
        hosts: Where fal is.
        auth: The headers of every request to fal's API; their values are hidden.
        key: The key; None if there is none.
    """

    caller: Caller
    hosts: Hosts
    auth: dict[str, str]
    key: Secret | None = None

    async def send(
        self, method: str, url: str, *, last_word: bool = False, non_idempotent: bool = False, **more: Any
    ) -> Answer:
        """Send a request to one of fal's own hosts, with the key.

        Args:
            method: Of HTTP.
            url: Of fal's.
            last_word: Whether the answer is the endpoint's own, which asking again does not change.
            non_idempotent: Whether sending it twice could be billed twice.
            more: `body`, `headers`.

        Raises:
            ConfigurationError: The URL is not fal's.
        """
        if not self.hosts.may_have_key(url):
            raise ConfigurationError("This is no address of fal.ai's; the key is not sent there.")
        headers = {"Accept": "application/json", **self.auth, **more.pop("headers", {})}
        request = Request(method, url, headers, non_idempotent=non_idempotent, **more)
        return await self.caller.send(request, self.judge(last_word=last_word, non_idempotent=non_idempotent))

    def judge(self, *, last_word: bool = False, non_idempotent: bool = False) -> ErrorDecoder:
        """Read fal's errors of requests with the key, for the caller."""
        read = judge(last_word=last_word, non_idempotent=non_idempotent)

        def read_with_key(status: int, headers: Mapping[str, str], body: bytes, redactor: Redactor) -> Any:
            error, failure = read(status, headers, body, redactor)
            if "locked" not in error.message.lower():  # which is about the balance
                given_by = "set FAL_KEY or pass key=..."
                errors.explain_refused_key(error, self.key, given_by=given_by, keys_url=FAL_KEYS_URL)
            return error, failure

        return read_with_key


def judge(*, last_word: bool = False, non_idempotent: bool = False) -> ErrorDecoder:
    """Read fal's errors, for the caller."""

    def read(status: int, headers: Mapping[str, str], body: bytes, redactor: Redactor) -> Any:
        error = wire.error_of(status, headers, body, now=time.time(), redactor=redactor)
        return error, wire.failure_of(error, headers, last_word=last_word, non_idempotent=non_idempotent)

    return read
