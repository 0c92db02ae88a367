"""Why a request is refused, before anything is sent upstream."""

from __future__ import annotations

from collections.abc import Mapping


class Refusal(Exception):
    """A request that is refused.

    Attributes:
        status: The HTTP status of the response.
        message: What is wrong, for the person who wrote the page.
        headers: Headers of the response.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})
