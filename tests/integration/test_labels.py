"""`detect` and `point` over several labels."""

from __future__ import annotations

from typing import Any

import pytest

from moondream_async import AsyncClient, BadRequestError, BoundingBox, Client, ConfigurationError, EncodedImage, Point
from tests.support.loopback import Exchange, serve


@pytest.mark.parametrize("labels", [["red", "blue", "pink"], ("red", "blue", "pink")])
async def test_results_are_merged_and_labeled(labels: Any, scene: bytes, moondream_sandbox: Any) -> None:
    async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
        found = await client.detect(scene, labels)
        one_by_one = {label: await client.detect(scene, label) for label in ("red", "blue", "pink")}
    assert [box.label for box in found.objects] == ["red", "blue"]
    assert found.by_label is not None
    assert list(found.by_label) == ["red", "blue", "pink"]
    assert {label: result.objects for label, result in found.by_label.items()} == {
        label: result.objects for label, result in one_by_one.items()
    }
    assert found["objects"][0] == {**one_by_one["red"]["objects"][0], "label": "red"}
    assert "by_label" not in dict(found)
    assert found.metrics is not None
    assert found.metrics.input_tokens == sum(r.metrics.input_tokens for r in one_by_one.values() if r.metrics)
    assert found.meta.attempts == 1  # the most of one label
    assert found.finish_reason == "stop"
    assert found.request_id is None
    assert all(result.request_id for result in found.by_label.values())


async def test_point_encodes_the_image_once(
    scene: bytes, moondream_sandbox: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moondream_async._images import encoder

    encoded: list[object] = []
    encode = encoder.encode
    monkeypatch.setattr(
        encoder, "encode", lambda image, **options: (encoded.append(image), encode(image, **options))[1]
    )
    async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
        found = await client.point(scene, ["red", "green"])
    assert [point.label for point in found.points] == ["red", "green"]
    assert len(encoded) == 1


async def test_duplicate_labels_are_requested_once(tiny: EncodedImage) -> None:
    async with serve(nothing_found) as server, AsyncClient("k" * 20, base_url=server.base_url) as client:
        assert (await client.detect(tiny, ["face", "face"])).objects == ()
        assert server.requests == 1


async def nothing_found(exchange: Exchange) -> None:
    await exchange.answer({"objects": []})


async def test_one_failed_label_fails_the_call(tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.json["object"] == "bad":
            await exchange.answer({"error": "no such thing"}, status=400)
        else:
            await exchange.answer({"objects": []})

    async with serve(handler) as server, AsyncClient("k" * 20, base_url=server.base_url) as client:
        with pytest.raises(BadRequestError, match="no such thing"):
            await client.detect(tiny, ["face", "bad", "hand"])


@pytest.mark.parametrize(
    "labels", [[], [""], ["a", " "], [1], [["a"]], {"a": 1}, {"a", "b"}, iter(["a"]), None, b"a", 5]
)
def test_invalid_labels(labels: Any, tiny: EncodedImage) -> None:
    with Client("k" * 20) as client, pytest.raises(ConfigurationError, match="object"):
        client.detect(tiny, labels)


async def test_labeled_boxes_and_points_as_references(tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer({"answer": str(exchange.json["spatial_refs"])})

    refs = [BoundingBox(0.1, 0.2, 0.3, 0.4, "face"), Point(0.5, 0.6, "hand")]
    async with serve(handler) as server, AsyncClient("k" * 20, base_url=server.base_url) as client:
        assert (await client.query(tiny, "?", spatial_refs=refs)).answer == "[[0.1, 0.2, 0.3, 0.4], [0.5, 0.6]]"
