"""What an agent, or a picture that instructs it, must not be able to do: read other files, call inside, spend more."""

from __future__ import annotations

import asyncio
import gc
import os
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest

from moondream_async import AsyncClient, ConfigurationError, RetryPolicy
from moondream_async._http import public_network
from moondream_async.mcp import create_server
from moondream_async.prices import Prices
from tests.integration.mcp.conftest import Start, each_protocol
from tests.support.loopback import Exchange, serve
from tests.support.pictures import scene

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links and pipes")
TOOLS_OF_ONE_IMAGE: dict[str, dict[str, Any]] = {
    "caption": {},
    "query": {"question": "what?"},
    "read_text": {},
    "detect": {"object": "red"},
    "point": {"object": "red"},
    "segment": {"object": "red"},
    "annotate": {"object": "red"},
    "crop": {"object": "red"},
}


async def test_hostile_paths(start: Start, root: Path, tmp_path: Path) -> None:
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    (root / "above").symlink_to(tmp_path)
    (root / "environ.png").symlink_to("/proc/self/environ")
    (root / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(root / "pipe.png")
    paths = ["../secret.png", str(tmp_path / "secret.png"), "out.png", "above/secret.png", "environ.png", "zero.png"]
    paths += ["/proc/self/environ", "/etc/passwd", "pipe.png", "a\0b.png", "\\\\server\\share\\a.png", "//server/a.png"]
    paths += ["file:///etc/passwd", "file://localhost" + str(root / "scene.png"), "x" * 4096, "~/a.png", ".", " "]
    async with start() as agent:
        for name, arguments in TOOLS_OF_ONE_IMAGE.items():
            for path in paths if name == "caption" else ["../secret.png", "out.png"]:
                problem = await agent.fail(name, image=path, **arguments)
                assert "PATH=" not in problem
                assert "root:" not in problem
                assert len(problem) < 600
        assert "at most 4096" in await agent.fail("caption", image="x" * 4097)
        assert "not in a folder" in await agent.fail("query", image=["scene.png", "../secret.png"], question="what?")
        for path in ("..", "above", "/etc", "/proc/self/fd", "file:///etc", str(tmp_path)):
            for name, arguments in (("find_in_folder", {"object": "red"}), ("estimate_cost", {})):
                assert "Use another image" in await agent.fail(name, folder=path, **arguments)
        found = await agent.ask("find_in_folder", folder=".", object="red")
        assert {Path(each["image"]).name for each in found["found"]} == {"scene.png", "sideways.jpg", "pipe.png"}
        assert agent.sandbox.requests == 2


async def test_hostile_urls(start: Start) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer(scene(), headers="Content-Type: image/png\r\n")

    hosts = ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]", "0.0.0.0"]
    urls = [
        *(f"http://{host}:{{port}}/a.png" for host in hosts),
        "HTTP://127.0.0.1:{port}/",
        " http://127.0.0.1:{port}/",
    ]
    urls += ["http://169.254.169.254/latest/meta-data", "http://10.0.0.1/a.png", "http://192.168.0.1/"]
    urls += ["http://user:pw@example.com/a.png", "http://", "https://", "http://[", "http://exa mple/"]
    urls += ["http://127.0.0.1:99999999/", "ftp://example.com/a.png", "gopher://127.0.0.1:1/", "javascript:alert(1)"]
    urls += ["file://127.0.0.1/etc/passwd", "data:image/png;base64,iVBORw0KGgo="]
    async with serve(handler) as server, start(retry=RetryPolicy(attempts=1)) as agent:
        port = server.base_url.rsplit(":", 1)[1].split("/")[0]
        for url in urls:
            problem = await agent.fail("caption", image=url.format(port=port))
            assert "ImageOptions" not in problem
            assert "user:pw" not in problem
        assert server.connections == 0
        assert agent.sandbox.requests == 0


@each_protocol
async def test_redirects_to_private_addresses(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(exchange: Exchange) -> None:
        if "/start" in exchange.head:
            await exchange.answer(b"", status=302, headers="Location: http://169.254.169.254/latest\r\n")
        else:
            await exchange.answer(scene(), headers="Content-Type: image/png\r\n")

    monkeypatch.setattr(public_network, "is_public", lambda address: address == "127.0.0.1")
    async with serve(handler) as server, start() as agent:
        host = server.base_url.removesuffix("/v1")
        assert "no public address" in await agent.fail("caption", image=f"{host}/start")
        found = await agent.ask("annotate", image=f"{host}/a.png?signature=secret", object="red")
        assert found["image"] == f"{host}/a.png"  # without the query
        assert "secret" not in str(found)


async def test_nothing_is_written_but_in_output(start: Start, root: Path, tmp_path: Path) -> None:
    def contents() -> set[Path]:
        return {path for path in tmp_path.rglob("*") if tmp_path / "output" not in (path, *path.parents)}

    before = contents()
    async with start() as agent:
        for name, arguments in TOOLS_OF_ONE_IMAGE.items():
            await agent.ask(name, image="scene.png", **arguments)
        found = await agent.ask("find_in_folder", folder=".", object="red")
        assert Path(found["results_file"]).parent == (tmp_path / "output").resolve()
    assert contents() == before


async def test_a_planted_link_is_not_written_to(start: Start, tmp_path: Path) -> None:
    async with start() as agent:
        file = Path((await agent.ask("find_in_folder", folder=".", object="red"))["results_file"])
        file.unlink()
        file.symlink_to(tmp_path / "victim")
        assert "is a link" in await agent.fail("find_in_folder", folder=".", object="red")
    assert not (tmp_path / "victim").exists()


async def test_files_of_the_output_are_readable_only_if_they_are_ours(start: Start, tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "other.png").write_bytes(scene())
    async with start() as agent:
        assert "not in a folder" in await agent.fail("caption", image=str(tmp_path / "output" / "other.png"))


@each_protocol
async def test_the_roots_of_the_client(start: Start, root: Path, tmp_path: Path, monkeypatch: Any) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "b.png").write_bytes(scene())
    monkeypatch.chdir(root)
    async with start([other], roots=None) as agent:
        assert (await agent.ask("caption", image="b.png"))["text"]
        assert "not in a folder" in await agent.fail("caption", image=str(root / "scene.png"))
        assert (await agent.ask("find_in_folder", folder=str(other), object="red"))["total"] == 1
    async with start([], roots=None) as agent:
        assert "there is no such folder" in await agent.fail("caption", image="scene.png")
    async with start([other]) as agent:  # the user's count, not the client's
        assert (await agent.ask("caption", image="scene.png"))["text"]
        assert "not in a folder" in await agent.fail("caption", image=str(other / "b.png"))
    async with start(None, roots=None) as agent:  # a client without roots
        assert (await agent.ask("caption", image="scene.png"))["text"]
        assert "not in a folder" in await agent.fail("caption", image=str(other / "b.png"))
    monkeypatch.setenv("HOME", str(root))
    async with start(None, roots=None) as agent:
        assert "there is no such folder" in await agent.fail("caption", image="scene.png")


@each_protocol
async def test_fifty_calls_at_once_keep_the_number_of_calls(start: Start) -> None:
    async with start(max_calls=20) as agent:
        calls = [agent.call("detect", image="scene.png", object="red") for _ in range(50)]
        found = await asyncio.gather(*calls)
        assert Counter(bool(each.is_error) for each in found) == {False: 20, True: 30}
        assert agent.sandbox.requests == 20
        refused = next(each for each in found if each.is_error)
        assert "no call of 20 is left" in refused.content[0].text  # type: ignore[union-attr]
        assert "higher --max-calls" in await agent.fail("caption", image="scene.png")


async def test_fifty_calls_at_once_keep_the_cost(start: Start) -> None:
    async with start(max_cost=0.02, prices=Prices(1, 1)) as agent:  # 0.0015 for the longest answer, 0.0007 for these
        found = await asyncio.gather(*(agent.call("detect", image="scene.png", object="red") for _ in range(50)))
        done = sum(not each.is_error for each in found)
        assert 13 <= done == agent.sandbox.requests <= 27
        left = (await agent.ask("estimate_cost"))["cost_left"]
        assert left == pytest.approx(0.02 - done * 0.000734)
        while left >= 0.0015:  # what was reserved and not used is free again
            left = (await agent.ask("detect", image="scene.png", object="red"))["usage"]["cost_left"]
        problem = await agent.fail("detect", image="scene.png", object="red")
        assert f"${left:.6f} of $0.02 is left" in problem
        assert "higher --max-cost" in problem
        spent = agent.moondream.stats.input_tokens + agent.moondream.stats.output_tokens
        assert spent / 1e6 <= 0.02


async def test_fifty_calls_at_once_all_answer(start: Start) -> None:
    async with start() as agent:
        names = ("caption", "detect", "annotate", "crop", "find_in_folder")
        arguments = {"find_in_folder": {"folder": ".", "question": "what?"}, "caption": {"image": "scene.png"}}
        default = {"image": "scene.png", "object": "red"}
        found = await asyncio.gather(
            *(agent.call(names[number % 5], **arguments.get(names[number % 5], default)) for number in range(50))
        )
        failed = [each.content[0].text for each in found if each.is_error]  # type: ignore[union-attr]
        assert all("call" in text or "use" in text for text in failed)
        assert len(failed) <= 9  # of ten runs with the same results file, one holds it
        files = [file for each in found if each.structured_content for file in each.structured_content.get("files", [])]
        assert len(files) == len(set(files)) == 20


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"roots": "photos"}, "must be a list of folders"),
        ({"roots": ["/nope"]}, "is not a folder"),
        ({"max_calls": -1}, "max_calls"),
        ({"max_cost": 1.0}, "needs prices"),
        ({"output": "/proc/nope"}, "cannot be used"),
    ],
)
async def test_options_that_are_not_valid(options: dict[str, Any], problem: str) -> None:
    async with AsyncClient(base_url="http://localhost:1/v1") as client:
        with pytest.raises(ConfigurationError, match=problem):
            create_server(client, **options)


async def test_the_temporary_output_is_deleted_with_the_server(root: Path) -> None:
    async with AsyncClient(base_url="http://localhost:1/v1") as client:
        server: Any = create_server(client, roots=[root])
        path: Path = server.workspace.output.path
        assert path.stat().st_mode & 0o077 == 0
        del server
        with anyio.fail_after(5):
            while path.exists():
                gc.collect()
                await anyio.sleep(0.01)
