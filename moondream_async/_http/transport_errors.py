"""What httpx, httpcore and the operating system raise -> our errors and the retry's view of them."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import httpcore
import httpx

from .._wire.redact import Redactor
from .._wire.retry import RetryCause
from ..config import Timeouts
from ..errors import APIConnectionError, APITimeoutError, ConfigurationError, MoondreamError
from .public_network import NotPublicError


class UnexpectedError(httpx.TransportError):
    """What a transport raised is not an error of HTTP: a closed loop, the interpreter's end, a bug in a user's own."""


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

_LONGEST_REASON = 500  # characters
_USERINFO = re.compile(r"(?<=://)[^\s/@]*@")


def explain(exc: BaseException, *, address: str, timeouts: Timeouts) -> tuple[MoondreamError, RetryCause | None]:
    """Make the error for the user, and say how a retry sees it (None: not to be tried again).

    Args:
        exc: One of `TRANSPORT_ERRORS`.
        address: What was called, without a query or credentials.
        timeouts: Those that were set.
    """
    via = "".join(getattr(exc, "__notes__", ()))  # which proxy it went through
    if isinstance(exc, CONNECT_TIMEOUTS):
        message = f"No connection to {address}{via} within {timeouts.connect:g} s (Timeouts.connect)."
        return APITimeoutError(message), RetryCause("timeout")
    if isinstance(exc, TIMEOUTS):
        message = f"{address}{via} sent nothing for {timeouts.idle:g} s (Timeouts.idle)."
        return APITimeoutError(message), RetryCause("timeout")
    reason = _reason(exc)
    if isinstance(exc, MISUSE):
        return ConfigurationError(f"{address} cannot be called: {reason}"), None
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return APIConnectionError(f"The certificate of {address} is not trusted: {reason}"), None
    error = APIConnectionError(f"The connection to {address}{via} failed: {reason}{_hint(exc, address)}")
    return error, None if isinstance(exc, UnexpectedError) else RetryCause("connection")


def from_transport(exc: BaseException) -> BaseException:
    """Return what to raise in place of what a transport raised.

    Errors that are not of HTTP become `UnexpectedError`; cancellation, and what a test asserts, stay as they are.
    """
    kept = (*TRANSPORT_ERRORS, MoondreamError, NotPublicError, AssertionError)
    if isinstance(exc, Exception) and not isinstance(exc, kept):
        return UnexpectedError(f"{type(exc).__name__}: {exc}{_place(exc)}")
    return exc


def drop_frames(exc: BaseException, outer: BaseException | None) -> None:
    """Drop the frames of a transport from a traceback: their locals hold the request as it is sent, with the key.

    Args:
        exc: What the transport raised.
        outer: What was being handled before; that, and what led to it, is not the transport's.
    """
    link: BaseException | None = exc
    while link is not None and link is not outer and link.__traceback__ is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__


def ambiguous(error: MoondreamError) -> MoondreamError:
    """Return the error of a request that may have been accepted, and must not be sent twice."""
    error.message += " (The request may have been accepted all the same, and is not sent again.)"
    return error


def total_timeout(seconds: float, name: str, address: str = "") -> APITimeoutError:
    """Make the error for an attempt, or a whole call, that took too long."""
    return APITimeoutError(f"No complete answer{f' from {address}' if address else ''} within {seconds:g} s ({name}).")


def without_proxy_credentials(text: str) -> str:
    """Redact the user names and passwords of the environment's proxies."""
    return Redactor(_proxy_secrets()).text(_USERINFO.sub("", text))


def _reason(exc: BaseException) -> str:
    reason = str(exc)[:_LONGEST_REASON] or type(exc).__name__
    return without_proxy_credentials(reason)


def _proxy_secrets() -> Iterator[str]:
    for url in urllib.request.getproxies().values():
        userinfo = url.rpartition("@")[0].rpartition("//")[2]
        password = userinfo.partition(":")[2]
        yield from (userinfo, unquote(userinfo), password, unquote(password))


def _place(exc: BaseException) -> str:
    """Where the error was raised: what is left to a user whose own transport has a bug."""
    frame = exc.__traceback__
    if frame is None:
        return ""
    while frame.tb_next is not None:
        frame = frame.tb_next
    return f" ({Path(frame.tb_frame.f_code.co_filename).name}, line {frame.tb_lineno})"


def _hint(exc: BaseException, address: str) -> str:
    if isinstance(exc, (httpx.ConnectError, httpcore.ConnectError)) and ":2020" in address:
        return ". Is Moondream Station (or `moondream-async sandbox`) running there?"
    return ""
