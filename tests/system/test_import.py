"""Importing the package is fast, and all public names exist."""

from __future__ import annotations

import importlib
import inspect
import pickle
import subprocess
import sys

import pytest

import moondream_async as md


def modules_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sorted(m.split('.')[0] for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_importing_loads_neither_httpx_nor_pillow() -> None:
    heavy = {"httpx", "httpcore", "PIL", "anyio", "starlette", "uvicorn", "asyncio", "ctypes", "cykooz_resizer"}
    assert not modules_after("import moondream_async") & heavy
    assert not modules_after("from moondream_async import AsyncClient, Client\nAsyncClient('k')") & {"httpx", "PIL"}


@pytest.mark.parametrize("name", md.__all__)
def test_every_public_name(name: str) -> None:
    assert getattr(md, name) is not None
    assert name in dir(md)


def test_unknown_names() -> None:
    with pytest.raises(AttributeError, match="Nonsense"):
        md.Nonsense  # noqa: B018


PUBLIC_MODULES = ["", "bulk", "fal", "sandbox", "vision"]


@pytest.mark.parametrize("public_module", PUBLIC_MODULES)
def test_public_classes_and_functions_name_their_public_module(public_module: str) -> None:
    module = importlib.import_module(f"moondream_async.{public_module}" if public_module else "moondream_async")
    exported = [getattr(module, name) for name in module.__all__]
    for value in exported:
        if inspect.isclass(value) or inspect.isfunction(value):
            assert "._" not in value.__module__, value
            assert pickle.loads(pickle.dumps(value)) is value


@pytest.mark.parametrize(
    ("name", "public_module"),
    [
        ("Sandbox", "sandbox"),
        ("annotate", "vision"),
        ("FalClient", "fal"),
        ("export", "bulk"),
        ("read_results", "bulk"),
        ("frames", "video"),
        ("opentelemetry", "otel"),
    ],
)
def test_the_error_for_a_name_of_another_module_names_it(name: str, public_module: str) -> None:
    with pytest.raises(ImportError, match=f"from moondream_async.{public_module} import {name}"):
        exec(f"from moondream_async import {name}")
    assert hasattr(importlib.import_module(f"moondream_async.{public_module}"), name)
