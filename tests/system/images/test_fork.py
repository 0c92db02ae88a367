"""Processes that are forked after images were prepared can prepare images."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FORKS = """
import io, multiprocessing, os, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from PIL import Image
from moondream_async import Client
from moondream_async._images.prepare import encode

def prepare(number=0):
    return encode(Image.new("RGB", (1920 + number, 1080), "red")).width

stop = threading.Event()
def work():
    while not stop.is_set():
        prepare()

client = Client("k")
client.encode_image(Image.new("RGB", (1920, 1080), "red"))
prepare()
thread = threading.Thread(target=work)
thread.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        os._exit(0 if prepare() == 1176 else 1)
    print(os.waitpid(child, 0)[1])
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(set(pool.map(prepare, [0] * 8)))
stop.set()
thread.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forks() -> None:
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == ["0"] * 5 + ["{1176}"]
