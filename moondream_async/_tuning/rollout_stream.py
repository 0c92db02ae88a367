"""Prefetch rollouts while training, with bounded concurrency and buffering."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, Generic, Self, TypeVar, cast

from .._bulk.items import Item
from .._bulk.map import AsyncMap
from .._bulk.stopping import StopPolicy
from .._concurrency.closing import AsyncClosing
from .._log import log
from ..errors import ConfigurationError, MoondreamError
from .models import Rollouts

C = TypeVar("C")


class AsyncRollouts(AsyncClosing, Generic[C]):
    """Rollouts with their contexts, as they complete: `async for context, rollouts in finetune.rollout_stream(...)`.

    Breaking out of the loop cancels requests in flight; use `async with` to wait until they have stopped. After a
    timeout while waiting for the next rollouts, the iteration can continue.
    """

    def __init__(self, outcomes: AsyncMap[Rollouts]) -> None:
        self._outcomes = outcomes

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[C, Rollouts]:
        """Return the next context and its rollouts.

        Raises:
            MoondreamError: The first error, after the results of all requests that were already sent.
        """
        while True:
            outcome = await self._outcomes.next_outcome()
            if outcome.ok:
                return cast("C", outcome.id), outcome.unwrap()

    async def aclose(self) -> None:
        """Cancel requests in flight. Safe to call more than once."""
        await self._outcomes.aclose()


def prefetch(
    requests: Iterable[Any] | AsyncIterable[Any],
    get_rollouts: Callable[[object], Awaitable[Rollouts]],
    concurrency: int,
    buffer_size: int,
) -> AsyncMap[Rollouts]:
    """Return the outcomes of requests as they complete, each with the request's context as its id.

    Args:
        requests: `(context, request)`, read on demand.
        get_rollouts: Sends one request.
        concurrency: Maximum number of concurrent requests.
        buffer_size: Maximum number of outcomes that wait to be read.
    """

    async def work(item: Item) -> tuple[Any, int, MoondreamError | None]:
        try:
            return await get_rollouts(item.image), 1, None
        except MoondreamError as exc:
            return None, exc.attempts, exc
        except Exception as exc:  # a bug, or a user object that raises
            log.exception("A request for rollouts failed unexpectedly.")
            return None, 0, MoondreamError(f"Unexpected {type(exc).__name__}: {exc}")

    return AsyncMap(
        _check_requests(requests),
        work,
        concurrency=concurrency,
        ordered=False,
        policy=StopPolicy(max_failures=0),
        room=concurrency + buffer_size,
    )


def _check_requests(requests: Any) -> Any:
    if isinstance(requests, AsyncIterable):
        return _check_async(requests)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(requests, Iterable):
        return (_item(index, pair) for index, pair in enumerate(requests))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    raise ConfigurationError(f"requests must be an iterable of (context, dict), not {type(requests).__name__}.")


async def _check_async(requests: AsyncIterable[Any]) -> AsyncGenerator[Item]:
    index = 0
    async for pair in requests:
        yield _item(index, pair)
        index += 1


def _item(index: int, pair: Any) -> Item:
    try:
        context, request = pair
    except (TypeError, ValueError):
        raise ConfigurationError("Each request must be (context, a dict of the arguments of rollouts()).") from None
    return Item(index, context, request, {})
