"""Fetching an image that a user names by its URL: without the key, within limits, from public addresses."""

from __future__ import annotations

import time

import anyio
import httpx

from .._concurrency.loop_local import LoopLocal
from .._version import __version__
from .._wire.retry import RetryCause, parse_retry_after
from ..config import RetryPolicy, Timeouts
from ..errors import APITimeoutError, ImageError
from . import transport_errors
from .proxies import is_proxied
from .public_network import NotPublicError
from .retrying import FailedAttempt, delay_by_policy, run_with_retries
from .transport import PooledTransport

LARGEST_DOWNLOAD = 64 * 1024 * 1024
"""Bytes of an image that is fetched; a larger one is refused."""

LONGEST_DOWNLOAD = 60.0
"""Seconds one attempt to fetch may take, redirects included; less where `Timeouts.total` is less."""

_MAX_REDIRECTS = 5
_MAX_AT_ONCE = 16  # downloads in one event loop
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = {
    "User-Agent": f"moondream-async/{__version__}",
    "Accept": "image/*",
    "Accept-Encoding": "identity",
}


class Downloads:
    """Fetches images, from any number of loops; keeps its own connections, which never carry the key."""

    def __init__(self) -> None:
        self.public_transport = PooledTransport(public_only=True)
        self._any = PooledTransport()
        self._limiters = LoopLocal(lambda: anyio.CapacityLimiter(_MAX_AT_ONCE))

    async def fetch(self, url: str, *, allow_private: bool, timeouts: Timeouts, retry: RetryPolicy) -> bytes:
        """The bytes behind an http(s) URL.

        Args:
            url: Where the image is.
            allow_private: Whether it may lead to an address that is not public.
            timeouts: Bounds of each attempt; `total` is at most 60 s here.
            retry: When to try again.

        Raises:
            ImageError: It cannot be fetched, is too large, or leads where it must not.
        """
        started = time.monotonic()
        try:
            async with self._limiters.get():
                data, _ = await run_with_retries(
                    lambda _: self._attempt(url, allow_private, timeouts),
                    retry,
                    lambda failed, attempt: delay_by_policy(retry, failed, attempt, time.monotonic() - started),
                )
        except APITimeoutError as exc:  # RetryPolicy.deadline
            error = _refused(exc.message.rstrip("."))
            error.attempts = exc.attempts
        else:
            return data
        raise error

    async def aclose(self) -> None:
        """Close this loop's connections."""
        await self.public_transport.aclose()
        await self._any.aclose()

    async def _attempt(self, url: str, allow_private: bool, timeouts: Timeouts) -> bytes | FailedAttempt:
        target = _checked(url)
        longest = min(timeouts.total, LONGEST_DOWNLOAD)
        with anyio.move_on_after(longest):
            return await self._follow(target, allow_private, timeouts)
        return FailedAttempt(_refused(f"{_shown(target)} was not there within {longest:g} s"), RetryCause("timeout"))

    async def _follow(self, url: httpx.URL, allow_private: bool, timeouts: Timeouts) -> bytes | FailedAttempt:
        for _ in range(_MAX_REDIRECTS + 1):
            try:
                found = await self._look(url, allow_private, timeouts)
            except NotPublicError as exc:
                host = str(exc)
            except transport_errors.TRANSPORT_ERRORS as exc:
                error, failure = transport_errors.explain(exc, address=_shown(url), timeouts=timeouts)
                return FailedAttempt(_refused(error.message.rstrip(".")), failure)
            else:
                if not isinstance(found, httpx.URL):
                    return found
                url = found
                continue
            raise _refused(
                f"{host} has no public address, and private ones are not fetched from; "
                "ImageOptions(allow_private_urls=True) allows it"
            )
        raise _refused(f"{_shown(url)} is more than {_MAX_REDIRECTS} redirects away")

    async def _look(self, url: httpx.URL, allow_private: bool, timeouts: Timeouts) -> bytes | FailedAttempt | httpx.URL:
        """What is at a URL: the image, a failure, or where to look next."""
        response = await self._get(url, allow_private, timeouts)
        try:
            if response.status_code == 200:
                return await _read(response, url)
            if response.status_code not in _REDIRECTS or "location" not in response.headers:
                return _failed(response, url)
            return _checked(str(url.join(response.headers["location"])))
        finally:
            await response.aclose()

    async def _get(self, url: httpx.URL, allow_private: bool, timeouts: Timeouts) -> httpx.Response:
        wire_timeouts = httpx.Timeout(connect=timeouts.connect, read=timeouts.idle, write=timeouts.idle, pool=None)
        request = httpx.Request("GET", url, headers=_HEADERS, extensions={"timeout": wire_timeouts.as_dict()})
        if not allow_private and is_proxied(str(url)):
            raise _refused(
                f"a proxy is set for {_shown(url)}, and where it leads cannot be checked; fetch it yourself, or "
                "allow any address with ImageOptions(allow_private_urls=True)"
            )
        return await (self._any if allow_private else self.public_transport).handle_async_request(request)


def _checked(url: str) -> httpx.URL:
    """The URL, if it is one that is fetched; asked again of every redirect."""
    try:
        parsed = httpx.URL(url.strip())
        host = parsed.host  # which reads the name, and may find it to be none
    except (httpx.InvalidURL, ValueError) as exc:
        problem = str(exc)
    else:
        if parsed.scheme not in ("http", "https") or not host:
            raise _refused("it leads to something else than http(s)")
        if parsed.port is not None and parsed.port > 65_535:
            raise _refused("its URL names a port that there is not")
        if parsed.userinfo:
            raise _refused("its URL holds a user name or password; fetch it yourself and pass the bytes")
        return parsed
    raise _refused(f"its URL is not one: {problem}")


async def _read(response: httpx.Response, url: httpx.URL) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        # Not what was asked for; and unpacking is where 265 bytes become gigabytes.
        raise _refused(f"{_shown(url)} is compressed for transport ({response.headers['content-encoding'][:40]})")
    announced = response.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > LARGEST_DOWNLOAD:
        raise _refused(f"{_shown(url)} has {int(announced):,} bytes; at most {LARGEST_DOWNLOAD:,} are fetched")
    data = bytearray()
    async for chunk in response.aiter_raw():
        data += chunk
        if len(data) > LARGEST_DOWNLOAD:
            raise _refused(f"{_shown(url)} has more than {LARGEST_DOWNLOAD:,} bytes")
    return bytes(data)


def _failed(response: httpx.Response, url: httpx.URL) -> FailedAttempt:
    wait = parse_retry_after(response.headers, now=time.time())
    status = response.status_code
    return FailedAttempt(_refused(f"{_shown(url)} answered with status {status}"), RetryCause("status", status, wait))


def _refused(problem: str) -> ImageError:
    return ImageError(f"The image cannot be fetched: {problem}.")


def _shown(url: httpx.URL) -> str:
    """The URL without its query, which may hold a signature."""
    shown = str(url.copy_with(query=None, fragment=None))
    return shown if len(shown) <= 200 else shown[:199] + "…"
