"""The largest images need bounded memory and CPU time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.effort import scaled

BOMBS = """
import io, resource, struct, sys, warnings, zlib
warnings.simplefilter("ignore")
from moondream_async import ImageError
from moondream_async._images.prepare import encode
resource.setrlimit(resource.RLIMIT_AS, (3_000_000_000,) * 2)  # bytes
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))  # seconds; stops images that never end

def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

def png(width, height, kind):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
    rows = zlib.compressobj()
    channels = {0: 1, 2: 3, 6: 4}[kind]
    data = b"".join(rows.compress(bytes(1 + width * channels)) for _ in range(height)) + rows.flush()
    return b"\\x89PNG\\r\\n\\x1a\\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")

for kind in KINDS:
    data = png(13_000, 13_000, kind)
    for full in (False, True):
        image = encode(data, full_resolution=full)
        print(image, image.original_size)
for data in (png(50_000, 10, 2)[:33] + b"x" * 50, b"GIF89a" + b"\\xff" * 60, b"BM" + b"\\x7f" * 200,
             b"II*\\0\\x08\\0\\0\\0\\xff\\xff" + b"\\xff" * 300, b"P6 13000 13000 255\\n" + b"x" * 100):
    try:
        encode(data)
    except ImageError as exc:
        print(exc)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs the process limits of Linux")
def test_the_largest_images_need_bounded_memory() -> None:
    kinds = (0, 2, 6)[: scaled(1, 3)]
    done = subprocess.run(
        [sys.executable, "-c", f"KINDS = {kinds}\n{BOMBS}"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum("(13000, 13000)" in line for line in lines) == 2 * len(kinds)
    assert len(lines) == 2 * len(kinds) + 5
