"""Convert errors of httpx and the operating system to `MoondreamError`s and retry causes."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import httpx

from .._wire.redact import Redactor
from .._wire.retry import RetryCause
from ..config import Timeouts
from ..errors import APIConnectionError, APITimeoutError, ConfigurationError, MoondreamError
from .public_network import NotPublicError


class UnexpectedError(httpx.TransportError):
    """A transport raised an unrelated error: a closed event loop, interpreter exit, a bug in a user's own transport."""


MISUSE = (httpx.UnsupportedProtocol, httpx.InvalidURL, UnicodeError)
BROKEN = (httpx.HTTPError, httpx.StreamError, OSError)
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout)
"""Errors that are raised only before any of the request was sent."""

TRANSPORT_ERRORS = (*MISUSE, *BROKEN)
"""All errors that a request can raise, except programming errors."""

_RELATED = ("httpcore", "httpcore2", "httpx2")  # their errors have the names of httpx's
_MAX_REASON = 500  # characters
_USERINFO = re.compile(r"(?<=://)[^\s/@]*@")


def explain(exc: BaseException, *, address: str, timeouts: Timeouts) -> tuple[MoondreamError, RetryCause | None]:
    """Return the error for the user, and the cause for the retry policy (None: do not retry).

    Args:
        exc: One of `TRANSPORT_ERRORS`.
        address: The URL that was called, without its query and credentials.
        timeouts: The timeouts of the request.
    """
    via = "".join(getattr(exc, "__notes__", ()))  # the proxy that it went through
    if isinstance(exc, httpx.ConnectTimeout):
        message = f"No connection to {address}{via} within {timeouts.connect:g} s (Timeouts.connect)."
        return APITimeoutError(message), RetryCause("timeout")
    if isinstance(exc, httpx.TimeoutException):
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
    """Return the exception to raise in place of one that a transport raised.

    Errors of httpcore and httpx2 become those of httpx, and unrelated ones `UnexpectedError`. Cancellation and
    assertions of tests are returned unchanged.
    """
    if isinstance(exc, Exception):
        exc = as_httpx_error(exc)
    unchanged = (*TRANSPORT_ERRORS, MoondreamError, NotPublicError, AssertionError)
    if isinstance(exc, Exception) and not isinstance(exc, unchanged):
        return UnexpectedError(f"{type(exc).__name__}: {exc}{_location(exc)}")
    return exc


def as_httpx_error(exc: Exception) -> Exception:
    """Return the error of httpx with the same name for one of httpcore or httpx2; others unchanged."""
    for base in type(exc).__mro__:
        is_related = base.__module__.partition(".")[0] in _RELATED
        counterpart = getattr(httpx, base.__name__, None) if is_related else None
        if isinstance(counterpart, type) and issubclass(counterpart, Exception):
            return counterpart.__new__(counterpart, *exc.args)  # without __init__, whose parameters differ
    return exc


def drop_frames(exc: BaseException, outer: BaseException | None) -> None:
    """Remove the frames of a transport from a traceback: their locals hold the request, with the key.

    Args:
        exc: The exception that the transport raised.
        outer: The exception that was being handled before; it and its causes are left unchanged.
    """
    link: BaseException | None = exc
    while link is not None and link is not outer and link.__traceback__ is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__


def ambiguous(error: MoondreamError) -> MoondreamError:
    """Return the error of a non-idempotent request that the server may have accepted, with a note that says so."""
    error.message += " (The request may have been accepted, so it is not sent again.)"
    return error


def total_timeout(seconds: float, name: str, address: str = "") -> APITimeoutError:
    """Return the error for an attempt, or a whole call, that exceeded its timeout."""
    source = f" from {address}" if address else ""
    return APITimeoutError(f"No complete response{source} within {seconds:g} s ({name}).")


def _reason(exc: BaseException) -> str:
    """Return the error's text, without the user names and passwords of the environment's proxies."""
    reason = str(exc)[:_MAX_REASON] or type(exc).__name__
    return Redactor(_proxy_secrets()).text(_USERINFO.sub("", reason))


def _proxy_secrets() -> Iterator[str]:
    for url in urllib.request.getproxies().values():
        userinfo = url.rpartition("@")[0].rpartition("//")[2]
        password = userinfo.partition(":")[2]
        yield from (userinfo, unquote(userinfo), password, unquote(password))


def _location(exc: BaseException) -> str:
    """Return where the error was raised, for users whose own transport has a bug."""
    frame = exc.__traceback__
    if frame is None:
        return ""
    while frame.tb_next is not None:
        frame = frame.tb_next
    return f" ({Path(frame.tb_frame.f_code.co_filename).name}, line {frame.tb_lineno})"


def _hint(exc: BaseException, address: str) -> str:
    if isinstance(exc, httpx.ConnectError) and ":2020" in address:
        return ". Is Moondream Station (or `moondream-async sandbox`) running there?"
    return ""
