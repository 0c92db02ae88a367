"""`detect` and `point` in tiles."""

from __future__ import annotations

import base64
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from PIL import Image, ImageDraw

from moondream_async import (
    APIConnectionError,
    AsyncClient,
    AuthenticationError,
    Client,
    ConfigurationError,
    ImageError,
    ImageOptions,
    Prices,
    ServerError,
    Tiles,
    TilesError,
)
from moondream_async.bulk import read_results

BASE = "http://localhost:2020/v1"
SIZE = 2600, 2000
OBJECTS = [
    (60, 60, 110, 120),
    (700, 300, 760, 350),
    (1240, 900, 1330, 1010),  # at seams
    (2300, 1800, 2380, 1860),
    (1500, 1200, 2500, 1700),  # large
]


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    image = Image.new("RGB", SIZE, "white")
    pen = ImageDraw.Draw(image)
    for left, top, right, bottom in OBJECTS:
        pen.rectangle((left, top, right - 1, bottom - 1), fill="red")
    pen.rectangle((300, 1500, 380, 1560), fill="blue")
    return image


@pytest.fixture(scope="module")
def large(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=92)
    return file.getvalue()


def in_pixels(boxes: Any, size: tuple[int, int] = SIZE) -> list[tuple[int, ...]]:
    return sorted(box.to_pixels(*size) for box in boxes)


def near(found: list[tuple[int, ...]], expected: list[tuple[int, ...]], tolerance: int = 6) -> bool:
    return len(found) == len(expected) and all(
        abs(a - b) <= tolerance
        for pair in zip(found, sorted(expected), strict=True)
        for a, b in zip(*pair, strict=True)
    )


async def test_small_objects_are_found_in_coordinates_of_the_whole(large: bytes, moondream_sandbox: Any):
    async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
        found = await client.detect(large, "red", tiles="auto")
        without = await client.detect(large, "red")
        stats = client.stats
    assert near(in_pixels(found.objects), OBJECTS)
    assert len(without.objects) < len(OBJECTS)
    assert found.image_size == SIZE
    assert found.tiles is not None
    assert found.tiles.calls == found.tiles.columns * found.tiles.rows + 1 == stats.requests - 1
    assert found.tiles.failed == ()
    assert found.truncated is False
    assert found.metrics is not None
    assert without.metrics is not None
    assert found.metrics.input_tokens == found.tiles.calls * (without.metrics.input_tokens or 0)
    assert "tiles" not in found.to_dict()
    assert pickle.loads(pickle.dumps(found)) == found


async def test_labels_and_points(large: bytes, moondream_sandbox: Any):
    async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
        boxes = await client.detect(large, ["red", "blue", "green"], tiles=(3, 2))
        points = await client.point(large, ["red", "blue"], tiles=Tiles(3, 2, whole=False))
    assert boxes.by_label is not None
    assert {label: len(each.objects) for label, each in boxes.by_label.items()} == {"red": 5, "blue": 1, "green": 0}
    assert [box.label for box in boxes.objects] == ["red"] * 5 + ["blue"]
    assert boxes.tiles is not None
    assert boxes.tiles.calls == 3 * 7
    assert sum(point.label == "blue" for point in points.points) == 1
    (blue,) = (point for point in points.points if point.label == "blue")
    assert (blue.x * SIZE[0], blue.y * SIZE[1]) == pytest.approx((340, 1530), abs=6)


async def test_a_small_image_is_not_cut(scene: bytes, moondream_sandbox: Any):
    async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
        found = await client.detect(scene, "red", tiles="auto")
        assert found.objects == (await client.detect(scene, "red")).objects
    assert found.tiles is not None
    assert (found.tiles.columns, found.tiles.rows, found.tiles.calls) == (1, 1, 1)


@pytest.mark.parametrize("kind", ["path", "file", "PIL", "array", "rotated"])
async def test_all_kinds_of_images(
    kind: str, large: bytes, picture: Image.Image, tmp_path: Path, moondream_sandbox: Any
):
    image: Any
    if kind == "path":
        image = tmp_path / "large.jpg"
        image.write_bytes(large)
    elif kind == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6
        image = tmp_path / "rotated.jpg"
        picture.transpose(Image.Transpose.ROTATE_90).save(image, exif=exif, quality=95)
    elif kind == "array":
        import numpy as np

        image = np.asarray(picture)
    else:
        image = io.BytesIO(large) if kind == "file" else picture
    async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
        found = await client.detect(image, "red", tiles="auto")
    assert found.image_size == SIZE
    assert near(in_pixels(found.objects), OBJECTS)


def test_sync(large: bytes, moondream_sandbox: Any):
    with Client(base_url=moondream_sandbox.base_url) as client:
        found = client.detect(large, "red", tiles="auto")
        plan = client.plan("detect", large, object="red", tiles="auto")
    assert found.tiles is not None
    assert plan.calls == found.tiles.calls


Respond = Callable[[dict[str, Any], Image.Image], httpx.Response]


def tiles_of(respond: Respond) -> list[tuple[int, int]]:
    """Answer calls by the size of their image; return the sizes, filled as calls come."""
    sizes: list[tuple[int, int]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        assert "tiles" not in body
        image = Image.open(io.BytesIO(base64.b64decode(body["image_url"].partition(",")[2])))
        sizes.append(image.size)
        return respond(body, image)

    respx.post(url__startswith=BASE).mock(side_effect=answer)
    return sizes


def boxes(count: int) -> httpx.Response:
    side = 0.004
    places = [(0.1 + 0.005 * (n % 100), 0.1 + 0.05 * (n // 100)) for n in range(count)]
    return httpx.Response(
        200, json={"objects": [{"x_min": x, "y_min": y, "x_max": x + side, "y_max": y + side} for x, y in places]}
    )


@respx.mock
async def test_truncated_tiles_are_split(large: bytes):
    sizes = tiles_of(lambda _, image: boxes(50 if image.width > 1000 else 2))
    async with AsyncClient(base_url=BASE) as client:
        found = await client.detect(large, "x", tiles=Tiles(2, 1, whole=False))
    assert found.truncated is False
    assert found.tiles is not None
    assert found.tiles.calls == len(sizes) == 2 + 2 * 4
    assert found.metrics is None


@respx.mock
@pytest.mark.parametrize(
    ("options", "calls"), [({"splits": 0}, 2), ({"splits": 1}, 10), ({"max_tiles": 8}, 6), ({"max_tiles": 2}, 2)]
)
async def test_splits_are_bounded(options: dict[str, Any], calls: int, large: bytes):
    sizes = tiles_of(lambda *_: boxes(50))
    async with AsyncClient(base_url=BASE) as client:
        found = await client.detect(large, "x", tiles=Tiles(2, 1, whole=False, **options))
    assert len(sizes) == calls
    assert found.truncated is True
    assert "there may be more" in str(found)


@respx.mock
async def test_the_whole_image_may_be_truncated(large: bytes):
    tiles_of(lambda _, image: boxes(50 if image.width / image.height > 1.2 else 2))
    async with AsyncClient(base_url=BASE) as client:
        found = await client.detect(large, "x", tiles=(3, 1))
    assert found.truncated is False  # the tiles show all that it lacks


def fail_first(status: int) -> Respond:
    calls = 0

    def respond(*_: Any) -> httpx.Response:
        nonlocal calls
        calls += 1
        return httpx.Response(status, json={"error": {"message": "No."}}) if calls == 1 else boxes(1)

    return respond


@respx.mock
async def test_strict_errors_keep_what_was_paid_for(large: bytes):
    tiles_of(fail_first(500))
    async with AsyncClient(base_url=BASE, retry=1) as client:
        with pytest.raises(TilesError, match=r"1 of 7 calls for tiles failed.*No\.") as caught:
            await client.detect(large, "x", tiles=(3, 2))
    (where, error), result = caught.value.failed[0], caught.value.partial
    assert isinstance(error, ServerError)
    assert (where.x_min, where.y_min) == (0, 0)
    assert result.tiles.calls == 6
    assert len(result.objects) >= 5
    copy = pickle.loads(pickle.dumps(caught.value))
    assert copy.partial == result
    assert str(copy.failed[0][1]) == str(error)


@respx.mock
async def test_partial_results_on_request(large: bytes):
    tiles_of(fail_first(500))
    async with AsyncClient(base_url=BASE, retry=1) as client:
        found = await client.detect(large, "x", tiles=Tiles(3, 2, strict=False))
    assert found.tiles is not None
    assert len(found.tiles.failed) == 1


@respx.mock
@pytest.mark.parametrize("strict", [True, False])
async def test_errors_that_concern_all_tiles(large: bytes, strict: bool):
    tiles = Tiles(3, 2, strict=strict)
    async with AsyncClient(base_url=BASE, retry=1) as client:
        tiles_of(fail_first(401))
        with pytest.raises(AuthenticationError):
            await client.detect(large, "x", tiles=tiles)
        respx.post(url__startswith=BASE).mock(side_effect=httpx.ConnectError("refused"))
        with pytest.raises(APIConnectionError):
            await client.detect(large, "x", tiles=tiles)


@respx.mock
async def test_wrong_arguments_send_nothing(large: bytes):
    sizes = tiles_of(lambda *_: boxes(1))
    async with AsyncClient(base_url=BASE) as client:
        call: Any = client.detect
        for image, label, options in (
            (large, "x", {"tiles": "huge"}),
            (large, "", {"tiles": "auto"}),
            (large, [], {"tiles": "auto"}),
            (large, "x", {"tiles": "auto", "settings": {"max_objects": 0}}),
        ):
            with pytest.raises(ConfigurationError):
                await call(image, label, **options)
        with pytest.raises(ConfigurationError, match="spatial_refs"):
            await client.point(large, "x", spatial_refs=[(0.5, 0.5)], tiles="auto")
        with pytest.raises(ImageError, match=r"\[bytes"):
            await call(b"no image", "x", tiles="auto")
        with pytest.raises(ImageError, match=r"'nowhere.jpg'"):
            await call("nowhere.jpg", "x", tiles="auto")
        with pytest.raises(TypeError):
            await client.caption(large, tiles="auto")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
        with pytest.raises(ConfigurationError, match="caption takes no tiles"):
            client.map("caption", [large], tiles="auto")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    assert not sizes


@respx.mock
async def test_tiles_are_prepared_with_the_clients_options(large: bytes):
    sizes = tiles_of(lambda *_: boxes(1))
    async with AsyncClient(base_url=BASE, image_options=ImageOptions(resize=300)) as client:
        await client.detect(large, "x", tiles=(2, 2))
    assert max(max(size) for size in sizes) == 300


async def test_map_and_run(large: bytes, tmp_path: Path, moondream_sandbox: Any):
    path = tmp_path / "large.jpg"
    path.write_bytes(large)
    out = tmp_path / "out.jsonl"
    skills = {"detect": {"object": "red", "tiles": Tiles(3, 2)}, "point": {"object": "blue"}}
    async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
        (outcome,) = [each async for each in client.map("detect", [path], object="red", tiles="auto")]
        summary = await client.run(skills, [path], out)
        again = await client.run(skills, [path], out)
    assert len(outcome.result.objects) == len(OBJECTS)
    assert (summary.succeeded, again.skipped) == (1, 1)
    (read,) = read_results(out)
    assert len(read.result["detect"].objects) == len(OBJECTS)
    assert read.result["detect"].truncated is False


@respx.mock
async def test_a_file_of_results_says_what_was_truncated(large: bytes, tmp_path: Path):
    tiles_of(lambda *_: boxes(50))
    tiles = Tiles(2, 1, whole=False, splits=0)
    async with AsyncClient(base_url=BASE) as client:
        await client.run("detect", [("a", large)], tmp_path / "a.jsonl", object="x", tiles=tiles)
        await client.run(
            "detect", [("a", large)], tmp_path / "b.jsonl", object="x", tiles=tiles, settings={"max_objects": 60}
        )
    assert [each.result.truncated for name in "ab" for each in read_results(tmp_path / f"{name}.jsonl")] == [
        True,
        False,
    ]


async def test_plans(large: bytes):
    client = AsyncClient(base_url=BASE)
    prices = Prices(0.3, 2.5)
    plan = await client.plan("detect", large, object=["car", "tree"], tiles="auto", prices=prices)
    assert plan.calls == 2 * (plan.columns * plan.rows + 1)
    assert plan.cost == pytest.approx(prices.cost(plan))
    assert (await client.plan("caption")).calls == 1
    assert (await client.plan("detect", large, object="car")).calls == 1
    assert (await client.plan("detect", large, object="car", tiles=Tiles(2, 2, whole=False))).calls == 4
    with pytest.raises(ConfigurationError):
        await client.plan("paint", large)
    with pytest.raises(ConfigurationError):
        await client.plan("caption", large, tiles="auto")
    with pytest.raises(ImageError):
        await client.plan("detect", "nowhere.jpg", object="car", tiles="auto")


async def test_an_encoded_image_is_cut_as_it_is(picture: Image.Image, moondream_sandbox: Any):
    async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
        encoded = await client.encode_image(picture, ImageOptions(resize=2000))
        found = await client.detect(encoded, "red", tiles="auto")
    assert found.tiles is not None
    assert found.tiles.calls > 1
    assert found.image_size == SIZE
    assert near(in_pixels(found.objects), OBJECTS, tolerance=8)


@respx.mock
async def test_thousands_of_boxes_in_each_tile(large: bytes):
    tiles_of(lambda *_: boxes(1500))
    async with AsyncClient(base_url=BASE) as client:
        found = await client.detect(large, "x", tiles=Tiles(2, 1, whole=False))
    assert len(found.objects) > 1500
