"""Test your own code without a key or a network, by the fixture `moondream_sandbox`.

    pip install 'moondream-async[sandbox]' pytest
    pytest test_my_code.py

The sandbox finds regions of color on drawn pictures, so your tests know what is right. It fails on request, too.
"""

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from moondream_async import Client, ImageError, RateLimitError, StreamInterruptedError
from moondream_async.sandbox import Sandbox

# Your code


def count_parts(client: Client, photo: Path, color: str) -> int:
    return len(client.detect(photo, f"{color} part").objects)


def describe(client: Client, photo: Path) -> str:
    """Return a description; if the connection breaks, what came until then."""
    try:
        return "".join(client.caption(photo, stream=True))
    except StreamInterruptedError as exc:
        return f"{exc.partial} [interrupted]"


# Your tests


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture of two red parts and a blue one."""
    image = Image.new("RGB", (640, 480), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((50, 50, 200, 200), fill="red")
    draw.rectangle((300, 50, 450, 200), fill="red")
    draw.ellipse((300, 280, 450, 430), fill="blue")
    path = tmp_path / "photo.png"
    image.save(path)
    return path


def client_for(sandbox: Sandbox, fault: str = "") -> Client:
    return Client(base_url=sandbox.base_url, retry=3, headers={"X-Sandbox-Fault": fault} if fault else None)


@pytest.mark.parametrize(("color", "count"), [("red", 2), ("blue", 1), ("green", 0)])
def test_parts_are_counted(moondream_sandbox: Sandbox, photo: Path, color: str, count: int) -> None:
    with client_for(moondream_sandbox) as client:
        assert count_parts(client, photo, color) == count


def test_a_short_outage_goes_unnoticed(moondream_sandbox: Sandbox, photo: Path) -> None:
    with client_for(moondream_sandbox, "status=503; times=2; id=outage; retry_after=0") as client:
        assert count_parts(client, photo, "red") == 2
        assert client.stats.retries == 2


def test_a_long_outage_is_an_error(moondream_sandbox: Sandbox, photo: Path) -> None:
    client = client_for(moondream_sandbox, "status=429; times=0; retry_after=0")
    with client, pytest.raises(RateLimitError):
        count_parts(client, photo, "red")


def test_a_broken_stream_keeps_what_came(moondream_sandbox: Sandbox, photo: Path) -> None:
    with client_for(moondream_sandbox, "cut=3") as client:
        assert describe(client, photo) == "An image of 640 by 480 pixels with a [interrupted]"


def test_a_damaged_photo_is_an_error(moondream_sandbox: Sandbox, photo: Path) -> None:
    photo.write_bytes(photo.read_bytes()[:200])
    with client_for(moondream_sandbox) as client, pytest.raises(ImageError, match=r"photo\.png"):
        count_parts(client, photo, "red")
