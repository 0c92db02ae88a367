"""`progress=` of `map` and `run`: the callback's figures, and the displays in a terminal and a notebook."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import sys
import types
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from moondream_async import AsyncClient, Client, ConfigurationError, RunSummary
from moondream_async._progress import displays
from moondream_async.bulk import Progress
from moondream_async.prices import Prices
from moondream_async.sandbox import Sandbox
from moondream_async.video import frames
from tests.support.films import film
from tests.support.pictures import tiny
from tests.support.sandboxes import PooledSandbox

ITEMS = [(n, tiny()) for n in range(6)]
PRICES = Prices(1, 10)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with PooledSandbox() as sandbox:
        yield sandbox


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[Client]:
    with Client(base_url=sandbox.base_url) as client:
        yield client


class Shell:
    """An IPython shell with a kernel, and its `display`, as far as a line needs them."""

    kernel = object()

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []
        self.displays = 0

    def display(self, data: dict[str, str], *, raw: bool, display_id: bool) -> Shell:
        assert raw
        assert display_id
        self.displays += 1
        self.shown.append(data)
        return self

    def update(self, data: dict[str, str], *, raw: bool) -> None:
        assert raw
        self.shown.append(data)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Shell:
    shell = Shell()
    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    ipython.display = types.SimpleNamespace(display=shell.display)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    return shell


class Terminal(io.StringIO):
    """A terminal as stderr."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def plain_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal, without rich."""
    terminal = Terminal()
    system = types.SimpleNamespace(stdout=sys.stdout, stderr=terminal, modules=sys.modules)
    monkeypatch.setattr(displays, "sys", system)  # pytest sets `sys.stderr` again after the fixtures
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(displays.PlainLine, "_width", lambda _: 200)
    return terminal


def test_run_calls_the_function_with_the_final_figures(client: Client, tmp_path: Path) -> None:
    seen: list[Progress] = []
    items: list[Any] = [*ITEMS, ("bad", b"no image"), ITEMS[0]]
    summary = client.run("caption", items, tmp_path / "a.jsonl", progress=seen.append, prices=PRICES)
    last = seen[-1]
    assert (last.done, last.total, last.succeeded, last.failed, last.repeated) == (8, 8, 6, 1, 1)
    assert (last.remaining, last.seconds_left, last.cost) == (0, 0, summary.cost)
    assert last.expected_cost == pytest.approx(summary.cost)
    assert (last.limit, last.limited_by) == (None, None)
    assert isinstance(last, RunSummary)
    client.run("caption", items, tmp_path / "a.jsonl", progress=seen.append, prices=PRICES)
    assert (seen[-1].done, seen[-1].skipped) == (8, 8)


def test_map_calls_the_function_with_the_final_figures(client: Client) -> None:
    seen: list[Progress] = []
    outcomes = list(client.map("caption", [*ITEMS, b"no image"], progress=seen.append, prices=PRICES))
    last = seen[-1]
    tokens = sum(outcome.result.metrics.output_tokens for outcome in outcomes if outcome.ok)
    assert (last.done, last.total, last.succeeded, last.failed, last.output_tokens) == (7, 7, 6, 1, tokens)
    assert last.cost is not None
    assert str(last).startswith("100% 7/7 - ")


async def test_the_function_may_be_async(sandbox: Sandbox) -> None:
    seen: list[Progress] = []

    async def keep(now: Progress) -> None:
        await asyncio.sleep(0.001)
        seen.append(now)

    async with AsyncClient(base_url=sandbox.base_url) as client:
        async for _ in client.map(["caption", "query"], ITEMS, question="?", progress=keep):
            pass
    assert seen[-1].succeeded == 6
    assert seen[-1].cost is None


def test_it_is_called_only_as_often_as_documented(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moondream_async._progress.reporter._INTERVAL", 1e9)
    seen: list[Progress] = []
    list(client.map("caption", ITEMS, progress=seen.append))
    assert [each.done for each in seen] == [6]


def test_what_limits_the_rate(tmp_path: Path) -> None:
    seen: list[Progress] = []
    with PooledSandbox() as sandbox, Client(base_url=sandbox.base_url, rate_limit=500) as client:
        client.run("caption", ITEMS, tmp_path / "a.jsonl", progress=seen.append)
    assert (seen[-1].limit, seen[-1].limited_by) == (500, "rate_limit")
    with PooledSandbox(status=429, times=1, retry_after=-1) as sandbox, Client(base_url=sandbox.base_url) as client:
        client.run("caption", ITEMS, tmp_path / "b.jsonl", progress=seen.append)
    assert seen[-1].limited_by == "server limit"
    assert "/s (server limit)" in str(seen[-1])


def test_an_error_in_the_function_is_logged(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: Progress) -> None:
        raise RuntimeError("my error")

    with caplog.at_level(logging.ERROR, logger="moondream_async"):
        assert len(list(client.map("caption", ITEMS, progress=fail))) == 6
    assert "my error" in caplog.text


@pytest.mark.parametrize("progress", [1, "yes", [print]])
def test_other_values_are_refused(client: Client, tmp_path: Path, progress: Any) -> None:
    calls: list[Callable[[], object]] = [
        lambda: client.map("caption", ITEMS, progress=progress),
        lambda: client.run("caption", ITEMS, tmp_path / "a.jsonl", progress=progress),
        lambda: client.batches.create(ITEMS, "caption", folder=tmp_path / "job", progress=progress),
        lambda: client.batches.wait("a-batch", progress=progress),
    ]
    for call in calls:
        with pytest.raises(ConfigurationError, match="progress must be True, False or a function"):
            call()


@pytest.mark.parametrize("progress", [True, False, None])
def test_nothing_is_shown_without_a_terminal(
    client: Client, tmp_path: Path, progress: bool | None, capfd: pytest.CaptureFixture[str]
) -> None:
    client.run("caption", ITEMS, tmp_path / "a.jsonl", progress=progress)
    list(client.map("caption", ITEMS, progress=progress))
    job = client.batches.create(ITEMS, "caption", folder=tmp_path / "job", progress=progress)
    client.batches.wait(job, progress=progress)
    assert capfd.readouterr() == ("", "")


def test_a_plain_line_without_rich(client: Client, tmp_path: Path, plain_terminal: Terminal) -> None:
    client.run("caption", ITEMS, tmp_path / "a.jsonl", progress=True, prices=PRICES)
    *_, last = plain_terminal.getvalue().split("\r")
    assert re.fullmatch(r"100% 6/6 - [\d.]+/s - \$0\.00\d+ of ~\$0\.00\d+ *\n", last)


def test_the_count_and_the_rate_if_the_total_is_not_known(client: Client, plain_terminal: Terminal) -> None:
    list(client.map("caption", iter(ITEMS), progress=True))
    *_, last = plain_terminal.getvalue().split("\r")
    assert re.fullmatch(r"6 - [\d.]+/s - [\d,]+ tokens *\n", last)


def test_frames_of_a_film(client: Client, tmp_path: Path) -> None:
    seen: list[Progress] = []
    path = film(tmp_path / "film.mp4")
    count = len(list(client.map("caption", frames(path), progress=seen.append)))
    assert (seen[-1].done, seen[-1].total, seen[-1].seconds_left) == (count, None, None)


@pytest.mark.parametrize("end", ["break", "error", "cancel"])
async def test_a_display_is_closed_however_a_map_ends(sandbox: Sandbox, plain_terminal: Terminal, end: str) -> None:
    started = asyncio.Event()

    async def items() -> AsyncIterator[Any]:
        yield ITEMS[0]
        started.set()
        if end == "error":
            raise RuntimeError("no more")
        await asyncio.Event().wait()

    async def consume() -> None:
        async with AsyncClient(base_url=sandbox.base_url) as client, client.map("caption", items(), progress=True) as m:
            async for _ in m:
                if end == "break":
                    break

    task = asyncio.create_task(consume())
    await started.wait()
    if end == "cancel":
        task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert plain_terminal.getvalue().endswith("\n")


def test_breaking_out_of_a_sync_map_closes_the_display(client: Client, plain_terminal: Terminal) -> None:
    with client.map("caption", iter(ITEMS), progress=True, concurrency=1) as outcomes:
        next(outcomes)
    assert plain_terminal.getvalue().endswith("\n")


def test_a_line_in_a_notebook(client: Client, tmp_path: Path, notebook: Shell) -> None:
    client.run("caption", ITEMS, tmp_path / "a.jsonl", progress=True)
    assert notebook.displays == 1
    assert re.fullmatch(r"100% 6/6 - [\d.]+/s - [\d,]+ tokens", notebook.shown[-1]["text/plain"])
    assert notebook.shown[-1]["text/html"].startswith('<progress value="6" max="6"></progress> <code>100% 6/6')
    list(client.map("caption", iter(ITEMS), progress=True))
    assert "<progress" not in notebook.shown[-1]["text/html"]


def test_batches_in_a_notebook(client: Client, tmp_path: Path, notebook: Shell) -> None:
    job = client.batches.create(ITEMS, "caption", folder=tmp_path / "job", progress=True)
    assert notebook.shown[-1]["text/plain"].endswith("MB - uploading")
    client.batches.wait(job, progress=True)
    assert notebook.shown[-1]["text/plain"] == "100% 6/6 lines - completed, 0 failed"
    assert notebook.displays == 2
