"""Importing the package is cheap, and every public name is there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import moondream_async as md


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sorted(m.split('.')[0] for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_loads_neither_httpx_nor_pillow() -> None:
    heavy = {"httpx", "httpcore", "PIL", "anyio", "starlette", "uvicorn", "asyncio"}
    assert not modules_after("import moondream_async") & heavy
    assert not modules_after("from moondream_async import AsyncClient, Client\nAsyncClient('k')") & {"httpx", "PIL"}


@pytest.mark.parametrize("name", md.__all__)
def test_every_public_name(name: str) -> None:
    assert getattr(md, name) is not None
    assert name in dir(md)


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match="Nonsense"):
        md.Nonsense  # noqa: B018
