"""Fixtures that every room's tests use."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from typing import Any

import pytest

from moondream_async import EncodedImage
from tests.support import pictures

# Where bytecode is not kept, each worker, and each interpreter that a test starts, compiles every module anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests see no key, login, server or proxy of the machine they run on."""
    for name in ("MOONDREAM_API_KEY", "MOONDREAM_BASE_URL", "MOONDREAM_ENDPOINT", "MOONDREAM_MODEL", "MOONDREAM_LOG"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", os.devnull)  # no login is saved there


@pytest.fixture(autouse=True)
def _no_lookups(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks the machine's name server, which may take seconds to know nothing."""
    resolve = socket.getaddrinfo

    def local(host: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and name != "localhost":
            try:
                ipaddress.ip_address(name)
            except ValueError:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known") from None
        return resolve(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", local)


@pytest.fixture(scope="session")
def scene() -> bytes:
    """A PNG: white, 640 x 480, a red square, a blue circle, a green triangle."""
    return pictures.scene()


@pytest.fixture(scope="session")
def tiny() -> EncodedImage:
    """A valid 1 x 1 image, for calls whose image does not matter."""
    return pictures.tiny()
