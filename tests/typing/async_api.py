"""The types of all calls of `AsyncClient`; checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import Any, assert_type

import httpx
import httpx2

import moondream_async as md


async def skills(client: md.AsyncClient, image: bytes, flag: bool) -> None:
    assert_type(await client.query(image, "?"), md.QueryResult)
    assert_type(await client.query(image, "?", stream=False), md.QueryResult)
    assert_type(await client.query(question="?", stream=True), md.AsyncTextStream[md.QueryResult])
    assert_type(await client.query(image, "?", stream=flag), md.QueryResult | md.AsyncTextStream[md.QueryResult])
    assert_type(await client.query(image, "?", flag), md.QueryResult | md.AsyncTextStream[md.QueryResult])
    assert_type(await client.caption(image, "short"), md.CaptionResult)
    assert_type(await client.caption(image, stream=True), md.AsyncTextStream[md.CaptionResult])
    assert_type(await client.caption(image, stream=flag), md.CaptionResult | md.AsyncTextStream[md.CaptionResult])
    assert_type(await client.detect(image, "cat", settings={"max_objects": 3}), md.DetectResult)
    assert_type(await client.detect(image, ["cat", "dog"]), md.DetectResult)
    assert_type(await client.point(image, ("cat", "dog")), md.PointResult)
    assert_type(await client.chat([{"role": "user", "content": "Hello"}]), md.ChatResult)
    assert_type(await client.chat([{"role": "user", "content": "Hello"}], stream=True), md.AsyncChatStream)
    assert_type(await client.ask_yes_no(image, "?"), bool)
    assert_type(await client.run("caption", [image], "results.jsonl", length="short"), md.RunSummary)
    assert_type(await client.point(image, "cat", spatial_refs=[(0.1, 0.2), [0, 0, 1, 1]]), md.PointResult)
    assert_type(await client.segment(image, "cat"), md.SegmentResult)
    assert_type(await client.segment(image, "cat", stream=True), md.AsyncSegmentStream)
    assert_type(await client.segment(image, "cat", stream=flag), md.SegmentResult | md.AsyncSegmentStream)
    assert_type(await client.encode_image(image), md.EncodedImage)
    assert_type(await client.models(), list[md.Model])
    assert_type(client.with_options(model="m"), md.AsyncClient)


async def results(client: md.AsyncClient, image: md.EncodedImage) -> None:
    async with await client.caption(image, stream=True) as stream:
        async for piece in stream:
            assert_type(piece, str)
    assert_type(stream.text, str)
    assert_type(await stream.result(), md.CaptionResult)
    async for update in await client.segment(image, "cat", stream=True):
        assert_type(update, md.SegmentUpdate)
        assert_type(update.bbox, md.BoundingBox | None)
    detected = await client.detect(image, "cat")
    assert_type(detected.objects, tuple[md.BoundingBox, ...])
    assert_type(detected.objects[0].x_min, float)
    assert_type(detected.metrics, md.Metrics | None)
    assert_type((await client.query(image, "?")).reasoning, md.Reasoning | None)


async def many(client: md.AsyncClient, images: list[md.EncodedImage]) -> None:
    async for outcome in client.map("detect", images, object="cat"):
        assert_type(outcome, md.Outcome[md.DetectResult])
        assert_type(outcome.result, md.DetectResult | None)
        assert_type(outcome.unwrap().objects[0].x_min, float)
        assert_type(outcome.error, md.MoondreamError | None)
    assert_type(
        client.map("segment", [("id", images[0]), ("id", images[0], {"object": "x"})]), md.AsyncMap[md.SegmentResult]
    )
    assert_type(client.stats, md.Stats)


async def batches(client: md.AsyncClient, images: list[bytes]) -> None:
    job = await client.batches.create(images, "detect", object="cat", folder="job")
    assert_type(job, md.BatchJob)
    assert_type(await client.batches.submit("ready.jsonl"), md.BatchJob)
    assert_type(await client.batches.wait(job, timeout=3), md.BatchJob)
    assert_type(await client.batches.retrieve(job.id), md.Batch)
    assert_type(await client.batches.save(job, "results.jsonl"), md.RunSummary)
    assert_type(await client.batches.cancel(job), bool)
    async for batch in client.batches.list():
        assert_type(batch, md.Batch)
    async for outcome in client.batches.results(job.id):
        assert_type(outcome, md.Outcome[Any])


async def tuning(client: md.AsyncClient, image: bytes) -> None:
    finetune = await client.tuning.create("name", rank=8)
    assert_type(finetune, md.AsyncFinetune)
    rollouts = await finetune.rollouts("detect", image=image, object="cat", num_rollouts=2)
    assert_type(rollouts, md.Rollouts)
    assert_type(await finetune.train_step([rollouts.group([1.0, 0.0])], lr=1e-4), md.TrainStep)
    async for context, each in finetune.rollout_stream([(image, {"skill": "query", "question": "?"})]):
        assert_type(context, bytes)
        assert_type(each, md.Rollouts)
    async for checkpoint in finetune.list_checkpoints():
        assert_type(checkpoint, md.Checkpoint)
    assert_type(finetune.model(3), str)


def own_clients(name: str) -> None:
    md.AsyncClient(http_client=httpx.AsyncClient())
    md.AsyncClient(http_client=httpx.AsyncHTTPTransport())
    md.AsyncClient(http_client=httpx2.AsyncClient())
    md.AsyncClient(http_client=httpx2.AsyncHTTPTransport())
    md.AsyncClient(http_client=httpx2.Client())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    md.AsyncClient(http_client=name)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
