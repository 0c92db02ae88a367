"""A folder of images, and a server with the official client, in this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from mcp import Client
from mcp_types import CallToolResult, ListRootsResult, Root
from PIL import Image

from moondream_async import AsyncClient
from moondream_async.mcp import create_server
from tests.support.pictures import file, scene
from tests.support.sandboxes import PooledSandbox

MAX_ANSWER = 25_000  # bytes, and so at most as many tokens


class Agent:
    """The official client, which checks every answer against the tool's schema; and the server behind it.

    Attributes:
        client: The client of the protocol.
        moondream: The SDK's client that the server uses.
        sandbox: The model's server.
        tools: The tools by name.
    """

    def __init__(self, client: Client, moondream: AsyncClient, sandbox: PooledSandbox, tools: dict[str, Any]) -> None:
        self.client, self.moondream, self.sandbox, self.tools = client, moondream, sandbox, tools

    async def call(self, name: str, progress: Any = None, /, **arguments: Any) -> CallToolResult:
        """Call a tool, and check what all answers have in common."""
        result = await self.client.call_tool(name, arguments, progress_callback=progress)
        text = "".join(block.text for block in result.content if block.type == "text")
        assert text
        structured = result.structured_content
        assert len(text.encode()) + len(str(structured).encode()) <= MAX_ANSWER
        if not result.is_error:
            jsonschema.validate(structured, self.tools[name].output_schema)
        return result

    async def ask(self, name: str, **arguments: Any) -> dict[str, Any]:
        """Return the structured content of a tool that succeeds."""
        result = await self.call(name, **arguments)
        assert not result.is_error, result.content
        assert result.structured_content is not None
        return result.structured_content

    async def fail(self, name: str, **arguments: Any) -> str:
        """Return the text of a tool that fails."""
        result = await self.call(name, **arguments)
        assert result.is_error, result.content
        assert result.content[0].type == "text"
        return result.content[0].text


each_protocol = pytest.mark.parametrize("protocol", ["auto", "legacy"])
Start = Callable[..., AbstractAsyncContextManager[Agent]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder that the server may read, next to a file that it may not."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "scene.png").write_bytes(scene())
    sideways = Image.new("RGB", (300, 200), "white")
    sideways.paste("red", (0, 0, 100, 50))  # the top left corner of the file; the top right one of the picture
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    (folder / "sideways.jpg").write_bytes(file(sideways, "JPEG", quality=95, exif=exif))
    (tmp_path / "secret.png").write_bytes(scene())
    return folder


@pytest.fixture
def protocol() -> str:
    """The newest; `each_protocol` also tests the one before, in which requests and cancellations are others."""
    return "auto"


@pytest.fixture
def start(protocol: str, root: Path, tmp_path: Path) -> Start:
    """Start a server and a client."""

    @asynccontextmanager
    async def started(
        of_client: Sequence[Path] | None = None, *, api_key: str | None = None, faults: Any = None, **options: Any
    ) -> AsyncGenerator[Agent]:
        async def list_roots(_: Any) -> ListRootsResult:
            return ListRootsResult(roots=[Root(uri=each.as_uri()) for each in of_client or ()])  # type: ignore[arg-type]

        with PooledSandbox(**(faults or {})) as sandbox:
            own = {name: options.pop(name, None) for name in ("model", "retry")}
            async with AsyncClient(api_key, base_url=sandbox.base_url, **own) as moondream:
                options = {"output": tmp_path / "output", "roots": [root], **options}
                server = create_server(moondream, **options)
                callback = None if of_client is None else list_roots
                async with Client(server, mode=protocol, list_roots_callback=callback) as client:
                    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
                    yield Agent(client, moondream, sandbox, tools)

    return started
