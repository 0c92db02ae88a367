"""The types of all calls of `AsyncClient`; checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import Any, assert_type

import httpx
import httpx2

import moondream_async as md
from moondream_async.bulk import Progress


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
        assert_type(outcome.unwrap().objects[0].x_min, float)
        assert_type(outcome.result, md.DetectResult)
        print(outcome.result.objects if outcome.ok else outcome.error.message)
        if outcome.ok:
            print(outcome.result.objects)
        if not outcome.ok:
            print(outcome.error.message)
        if outcome.error is None:
            print(outcome.result.objects)
        else:
            print(outcome.error.message)
        if isinstance(outcome, md.Done):
            assert_type(outcome, md.Done[md.DetectResult])
        else:
            assert_type(outcome, md.Failed)
            assert_type(outcome.error, md.MoondreamError)
    assert_type(client.stats, md.Stats)


async def show(now: Progress) -> None:
    assert_type(now.expected_cost, float | None)
    assert_type(now.limited_by, str | None)


def show_summary(now: md.RunSummary) -> None: ...


async def arguments_of_many(
    client: md.AsyncClient, images: list[md.EncodedImage], skills: list[str], skill: Any
) -> None:
    settings: md.SamplingSettings = {"temperature": 0.2}
    assert_type(client.map("query", images, question="?", reasoning=True), md.AsyncMap[md.QueryResult])
    assert_type(client.map("caption", images), md.AsyncMap[md.CaptionResult])
    assert_type(client.map("caption", images, length="short", settings=settings), md.AsyncMap[md.CaptionResult])
    assert_type(client.map("detect", images, object=["cat", "dog"], concurrency=3), md.AsyncMap[md.DetectResult])
    assert_type(client.map("point", images, object="cat", spatial_refs=[(0.1, 0.2)]), md.AsyncMap[md.PointResult])
    assert_type(client.map("segment", images, object="cat", ordered=True), md.AsyncMap[md.SegmentResult])
    assert_type(client.map("segment", [("id", images[0], {"object": "x"})]), md.AsyncMap[md.SegmentResult])
    assert_type(client.map(skills, images, object="cat", question="?"), md.AsyncMap[Any])
    client.map(skill, images, object="cat")
    assert_type(client.map({"caption": {}, "detect": {"object": "cat"}}, images), md.AsyncMap[Any])
    assert_type(await client.run("caption", images, "results.jsonl", length="short", resume=False), md.RunSummary)
    assert_type(await client.run(["caption", "query"], images, "results.jsonl", question="?"), md.RunSummary)
    assert_type(await client.run("detect", [(1, images[0], {"object": "x"})], "results.jsonl"), md.RunSummary)

    client.map("caption", images, progress=True)
    client.map("caption", images, progress=show)
    assert_type(await client.run("caption", images, "results.jsonl", progress=show_summary), md.RunSummary)
    client.map("caption", images, progress="yes")  # type: ignore[call-overload]  # pyright: ignore
    client.map("detect", images)  # type: ignore[call-overload]  # pyright: ignore
    client.map("query", images)  # type: ignore[call-overload]  # pyright: ignore
    client.map("describe", images)  # type: ignore[call-overload]  # pyright: ignore
    client.map("caption", images, object="cat")  # type: ignore[call-overload]  # pyright: ignore
    client.map("detect", images, object="cat", order=True)  # type: ignore[call-overload]  # pyright: ignore
    await client.run("detect", images, "results.jsonl")  # type: ignore[call-overload]  # pyright: ignore
    await client.run("describe", images, "results.jsonl")  # type: ignore[call-overload]  # pyright: ignore


class Scene:
    objects: list[str]


async def structured(client: md.AsyncClient, image: bytes) -> None:
    assert_type(await client.ask_json(image, "?", Scene), Scene)
    assert_type(await client.ask_json(image, "?", {"type": "object"}), Any)


async def batches(client: md.AsyncClient, images: list[bytes]) -> None:
    job = await client.batches.create(images, "detect", object="cat", folder="job", progress=True)
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
