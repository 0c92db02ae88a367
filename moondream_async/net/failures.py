"""What httpx, httpcore and the operating system raise -> our errors and the retry's view of them."""

from __future__ import annotations

import httpcore
import httpx

from ..config import Timeouts
from ..errors import APIConnectionError, APITimeoutError, ConfigurationError, MoondreamError
from ..wire.retry import Failure

CONNECT_TIMEOUTS = (httpx.ConnectTimeout, httpcore.ConnectTimeout)
TIMEOUTS = (httpx.TimeoutException, httpcore.TimeoutException)
MISUSE = (httpx.UnsupportedProtocol, httpx.InvalidURL, httpcore.UnsupportedProtocol, UnicodeError)
BROKEN = (
    httpx.HTTPError,
    httpx.StreamError,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.ProxyError,
    httpcore.ConnectionNotAvailable,
    OSError,
)
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpcore.ConnectError, httpcore.ConnectTimeout)
"""What can only be raised before anything of the request has gone out."""

TRANSPORT_ERRORS = (*TIMEOUTS, *MISUSE, *BROKEN)
"""Everything a request can raise, short of a programming error."""


def explain(exc: BaseException, *, base_url: str, timeouts: Timeouts) -> tuple[MoondreamError, Failure | None]:
    """The error for the user, and how a retry sees it (None: not to be tried again)."""
    via = "".join(getattr(exc, "__notes__", ()))  # which proxy it went through
    if isinstance(exc, CONNECT_TIMEOUTS):
        message = f"No connection to {base_url}{via} within {timeouts.connect:g} s."
        return APITimeoutError(message), Failure("timeout")
    if isinstance(exc, TIMEOUTS):
        message = f"{base_url}{via} sent nothing for {timeouts.idle:g} s (Timeouts.idle)."
        return APITimeoutError(message), Failure("timeout")
    if isinstance(exc, MISUSE):
        return ConfigurationError(f"{base_url} cannot be called: {exc}"), None
    reason = str(exc) or type(exc).__name__
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return APIConnectionError(f"The certificate of {base_url} is not trusted: {reason}"), None
    return APIConnectionError(f"The connection to {base_url}{via} failed: {reason}{_hint(exc, base_url)}"), Failure(
        "connection"
    )


def doubtful(error: MoondreamError) -> MoondreamError:
    """The error of a request that may have been accepted, and must not be sent twice."""
    error.message += " (The request may have been accepted all the same, and is not sent again.)"
    return error


def total_timeout(seconds: float, name: str) -> APITimeoutError:
    """The error for an attempt, or a whole call, that took too long."""
    return APITimeoutError(f"No complete answer within {seconds:g} s ({name}).")


def _hint(exc: BaseException, base_url: str) -> str:
    if isinstance(exc, (httpx.ConnectError, httpcore.ConnectError)) and ":2020" in base_url:
        return ". Is Moondream Station (or `moondream-async sandbox`) running there?"
    return ""
