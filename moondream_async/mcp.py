"""An MCP server, which gives Moondream's skills to agents and assistants.

Run it: `moondream-async mcp`. Or embed it:

```python
import asyncio

from moondream_async import AsyncClient
from moondream_async.mcp import create_server


async def main() -> None:
    async with AsyncClient() as client:
        await create_server(client, roots=["photos"], max_calls=100).run_stdio_async()


asyncio.run(main())
```

Needs the extra `mcp`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._extras import import_extra

if TYPE_CHECKING:
    from ._mcp.server import create_app, create_server

__all__ = ["create_app", "create_server"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_extra("mcp.server.mcpserver", "mcp", "The MCP server")
    from ._mcp import server

    return getattr(server, name)
