"""A proxy for browsers, which must not have your key: Moondream's API, and fal.ai's proxy contract.

```python
from fastapi import FastAPI, Request

from moondream_async.proxy import Proxy

sessions = {"token-of-ann": "ann"}  # your own


def authorize(request: Request) -> str | None:
    return sessions.get(request.cookies.get("session", ""))  # the visitor's name admits the request


app = FastAPI()
app.mount("/moondream", Proxy(authorize=authorize))
```

Or run it: `moondream-async proxy --port 8080`. Needs the extra `proxy`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._extras import check_extra

if TYPE_CHECKING:
    from ._proxy.app import Proxy

__all__ = ["Proxy"]


def __getattr__(name: str) -> Any:
    if name != "Proxy":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    check_extra("proxy", "The proxy")
    from ._proxy.app import Proxy

    return Proxy
