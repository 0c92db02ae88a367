"""Rollouts ahead of the training that wants them: so many at once, so many waiting."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from contextlib import aclosing
from typing import Any

from ..bulk.items import Item
from ..bulk.mapping import AsyncMap
from ..errors import ConfigurationError, MoondreamError
from .types import Rollouts


async def prefetched(
    requests: Iterable[Any] | AsyncIterable[Any],
    ask: Callable[[object], Awaitable[Rollouts]],
    at_once: int,
    waiting: int,
) -> AsyncGenerator[tuple[Any, Rollouts]]:
    """The answers to `(context, request)`, each with its context, as they come.

    Args:
        requests: Taken as they are needed.
        ask: Answers one request.
        at_once: How many are asked at once.
        waiting: How many answers may wait.

    Raises:
        MoondreamError: The first failure, after all answers to what was begun.
    """

    async def work(item: Item) -> tuple[Any, int, MoondreamError | None]:
        try:
            return await ask(item.image), 1, None
        except MoondreamError as exc:
            return None, exc.attempts, exc

    answers: AsyncMap[Rollouts] = AsyncMap(
        _checked(requests),
        work,
        concurrency=at_once,
        ordered=False,
        max_failures=0,
        stop_when_pointless=True,
        room=at_once + waiting,
    )
    async with aclosing(answers):
        async for answer in answers:
            if answer.ok:
                yield answer.id, answer.unwrap()


def _checked(requests: Any) -> Any:
    if isinstance(requests, AsyncIterable):
        return _checked_async(requests)  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(requests, Iterable):
        return (_pair(number, one) for number, one in enumerate(requests))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    raise ConfigurationError(f"requests must be an iterable of (context, dict), not {type(requests).__name__}.")


async def _checked_async(requests: AsyncIterable[Any]) -> AsyncGenerator[Item]:
    number = 0
    async for one in requests:
        yield _pair(number, one)
        number += 1


def _pair(number: int, one: Any) -> Item:
    try:
        context, request = one
    except (TypeError, ValueError):
        problem = ConfigurationError("Each request must be (context, a dict of the arguments of rollouts()).")
    else:
        return Item(number, context, request, {})
    raise problem
