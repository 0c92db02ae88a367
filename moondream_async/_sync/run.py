"""`Client.run`: the async run, which can be interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._bulk.run import Run
    from .._client.async_client import AsyncClient
    from .._progress.figures import RunSummary
    from .portal import Portal


def run(portal: Portal, client: AsyncClient, *arguments: Any, **options: Any) -> RunSummary:
    """Execute a run with the arguments of `Run`; on Ctrl-C, add a note that says how to go on."""
    __tracebackhide__ = True
    started: list[Run] = []

    async def execute() -> RunSummary:
        from .._bulk.run import Run

        started.append(Run(client, *arguments, **options))
        return await started[0].run()

    try:
        return portal.call(execute)
    except KeyboardInterrupt as exc:
        for each in started:
            exc.add_note(_how_to_go_on(each))
        raise


def _how_to_go_on(interrupted: Run) -> str:
    summary = interrupted.summary
    total = "" if summary.total is None else f" of {summary.total:,}"
    failed = f" ({summary.failed:,} failed)" if summary.failed else ""
    return (
        f"Interrupted: {summary.seen:,}{total} items are done{failed}, and their results are in {interrupted.out!r}. "
        "Make the same call again to resume."
    )
