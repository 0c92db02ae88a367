"""Use a blocking resource in a thread of its own, by one call at a time."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import anyio

from .._concurrency.closing import Closing
from .._concurrency.threads import result_of, run_in_thread
from ..errors import MoondreamError

T = TypeVar("T")

_MAX_WAIT = 30.0  # seconds to wait for another call, which may have been cancelled, to close the same resource
_POLL = 0.02  # seconds
_held: dict[str, object] = {}  # the holder of each real path in this process

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_held.clear)


R = TypeVar("R", bound=Closing)


class ResourceThread(Generic[R]):
    """Opens, uses and closes a blocking resource in one thread, in order.

    Work that was started is finished even if its caller is cancelled. The resource is closed only after that, and
    only then can another call of this process open it.

    Args:
        path: The file or folder to hold.
        make: Opens the resource; blocking.
        in_use: The error to raise if another call holds it for too long.
    """

    def __init__(self, path: str | os.PathLike[str], make: Callable[[], R], in_use: MoondreamError) -> None:
        self._path = path
        self._make = make
        self._in_use = in_use
        self._key: str | None = None
        self._resource: R | None = None
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="moondream-async-job")

    async def open(self) -> R:
        """Open the resource as soon as no other call of this process holds it.

        Raises:
            MoondreamError: The resource cannot be opened, or another call holds it.
        """
        key = await run_in_thread(_real, self._path)
        deadline = anyio.current_time() + _MAX_WAIT
        while _held.setdefault(key, self) is not self:
            if anyio.current_time() > deadline:
                raise self._in_use
            await anyio.sleep(_POLL)
        self._key = key
        return await self.run(self._open)

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """Call a blocking function in the thread, after the calls before it."""
        return await result_of(self._submit(work, *args))

    async def aclose(self) -> None:
        """Close the resource, and wait until it is closed."""
        try:
            with anyio.CancelScope(shield=True):
                await self.run(self._close)
        finally:
            self.close()

    def close(self) -> None:
        """Close the resource after the calls before it, without waiting."""
        self._submit(self._release)
        self._executor.shutdown(wait=False)

    def _submit(self, work: Callable[..., T], *args: object) -> Future[T]:
        try:
            return self._executor.submit(work, *args)
        except RuntimeError:  # at interpreter exit no thread can be started
            return _done(work, *args)

    def _open(self) -> R:
        self._resource = self._make()
        return self._resource

    def _close(self) -> None:
        resource, self._resource = self._resource, None
        if resource is not None:
            resource.close()

    def _release(self) -> None:
        try:
            self._close()
        finally:
            if self._key is not None:
                _held.pop(self._key, None)


def _done(work: Callable[..., T], *args: object) -> Future[T]:
    future: Future[T] = Future()
    try:
        future.set_result(work(*args))
    except Exception as exc:
        future.set_exception(exc)
    return future


def _real(path: str | os.PathLike[str]) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):  # opening it will raise a better error
        return os.fspath(path)
