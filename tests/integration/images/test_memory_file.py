"""Encoding falls back to a buffer if the system has no in-memory files."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from PIL import Image

from moondream_async._images.prepare import encode

PICTURE = Image.new("RGB", (64, 48), "red")


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="Linux only")
@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSYS, errno.EMFILE, errno.EPERM, errno.ENOMEM])
def test_denied(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    expected = encode(PICTURE).data

    def deny(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "memfd_create", deny)
    assert encode(PICTURE).data == expected


def test_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    assert encode(PICTURE).media_type == "image/jpeg"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_write_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        return os.open("/dev/full", os.O_RDWR)

    monkeypatch.setattr(os, "memfd_create", full, raising=False)
    assert encode(PICTURE).media_type == "image/jpeg"
