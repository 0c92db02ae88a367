"""A local Moondream-compatible server for tests: a stand-in, not a model.

It serves Moondream Cloud's API on a real socket, and needs no API key and no network. Answers are computed from the
pixels it receives: dominant colors by name, connected regions, their outlines. A wrong, rotated or corrupted image
therefore changes the answer. Needs the extra `sandbox`.

```python
from moondream_async import Client
from moondream_async.sandbox import Sandbox

with Sandbox() as sandbox, Client(base_url=sandbox.base_url) as client:
    print(client.caption("photo.jpg").caption)
```
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._sandbox.app import NOTICE
    from ._sandbox.faults import Faults
    from ._sandbox.server import Sandbox

__all__ = ["NOTICE", "Faults", "Sandbox"]


_MODULES = {"NOTICE": "app", "Faults": "faults", "Sandbox": "server"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"._sandbox.{_MODULES[name]}", __package__), name)
