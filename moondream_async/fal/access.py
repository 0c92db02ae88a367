"""The way to fal.ai's own hosts: the key, which goes nowhere else, and how fal's errors are read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import attrs

from ..errors import ConfigurationError
from ..net.caller import Answer, Caller, Judge, Request
from . import wire
from .wire import Hosts


class SecretHeaders(dict[str, str]):
    """Headers that hold a key or a token: not shown in a repr, and so not in logs or traceback locals."""

    def __repr__(self) -> str:
        return f"<headers: {', '.join(self)}>"


@attrs.frozen(eq=False)
class Access:
    """What a client, its handles and its uploads share.

    Attributes:
        caller: Sends.
        hosts: Where fal is.
        auth: The headers of every request to fal's API.
    """

    caller: Caller
    hosts: Hosts
    auth: SecretHeaders

    async def send(
        self, method: str, url: str, *, last_word: bool = False, unrepeatable: bool = False, **more: Any
    ) -> Answer:
        """Send a request to one of fal's own hosts, with the key.

        Args:
            method: Of HTTP.
            url: Of fal's.
            last_word: Whether the answer is the endpoint's own, which asking again does not change.
            unrepeatable: Whether sending it twice could be billed twice.
            more: `body`, `headers`.

        Raises:
            ConfigurationError: The URL is not fal's.
        """
        if not self.hosts.may_have_key(url):
            raise ConfigurationError("This is no address of fal.ai's; the key is not sent there.")
        headers = SecretHeaders({"Accept": "application/json", **self.auth, **more.pop("headers", {})})
        request = Request(method, url, headers, unrepeatable=unrepeatable, **more)
        return await self.caller.send(request, judge(last_word=last_word, unrepeatable=unrepeatable))


def judge(*, last_word: bool = False, unrepeatable: bool = False) -> Judge:
    """Reads fal's errors, for the caller."""

    def read(status: int, headers: Mapping[str, str], body: bytes) -> Any:
        error = wire.error_of(status, headers, body, now=time.time())
        return error, wire.failure_of(error, headers, last_word=last_word, unrepeatable=unrepeatable)

    return read
