"""Rollouts ahead of the training that wants them: so many at once, so many waiting."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, Generic, Self, TypeVar, cast

from .._bulk.items import Item
from .._bulk.map import AsyncMap
from .._concurrency.closing import AsyncClosing
from .._log import log
from ..errors import ConfigurationError, MoondreamError
from .models import Rollouts

C = TypeVar("C")


class AsyncRollouts(AsyncClosing, Generic[C]):
    """Rollouts with their contexts, as they come: `async for context, rollouts in finetune.rollout_stream(...)`.

    Leaving the loop stops what is under way; with `async with`, it has stopped when the block is left. Who is cancelled
    while waiting for the next, by a timeout of an item's, may ask again.
    """

    def __init__(self, answers: AsyncMap[Rollouts]) -> None:
        self._answers = answers

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[C, Rollouts]:
        """The next.

        Raises:
            MoondreamError: The first failure, after all answers to what was begun.
        """
        while True:
            answer = await self._answers.next_outcome()
            if answer.ok:
                return cast("C", answer.id), answer.unwrap()

    async def aclose(self) -> None:
        """Stop what is under way; safe to call again."""
        await self._answers.aclose()


def prefetched(
    requests: Iterable[Any] | AsyncIterable[Any],
    ask: Callable[[object], Awaitable[Rollouts]],
    at_once: int,
    waiting: int,
) -> AsyncMap[Rollouts]:
    """The answers to `(context, request)`, each with its context as its id, as they come.

    Args:
        requests: Taken as they are needed.
        ask: Answers one request.
        at_once: How many are asked at once.
        waiting: How many answers may wait.
    """

    async def work(item: Item) -> tuple[Any, int, MoondreamError | None]:
        try:
            return await ask(item.image), 1, None
        except MoondreamError as exc:
            return None, exc.attempts, exc
        except Exception as exc:  # a fault of ours, or of what the user passed
            log.exception("A request for rollouts failed unexpectedly.")
            return None, 0, MoondreamError(f"Unexpected {type(exc).__name__}: {exc}")

    return AsyncMap(
        _checked(requests),
        work,
        concurrency=at_once,
        ordered=False,
        max_failures=0,
        stop_on_auth_error=True,
        room=at_once + waiting,
    )


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
