"""The types of all calls of `Client`; checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import Any, assert_type

import moondream_async as md
from moondream_async.bulk import Progress


def skills(client: md.Client, image: bytes, flag: bool) -> None:
    assert_type(client.query(image, "?"), md.QueryResult)
    assert_type(client.query(image, "?", stream=False), md.QueryResult)
    assert_type(client.query(question="?", stream=True), md.TextStream[md.QueryResult])
    assert_type(client.query(image, "?", stream=flag), md.QueryResult | md.TextStream[md.QueryResult])
    assert_type(client.query(image, "?", flag), md.QueryResult | md.TextStream[md.QueryResult])
    assert_type(client.caption(image, "short"), md.CaptionResult)
    assert_type(client.caption(image, stream=True), md.TextStream[md.CaptionResult])
    assert_type(client.caption(image, stream=flag), md.CaptionResult | md.TextStream[md.CaptionResult])
    assert_type(client.detect(image, "cat", settings={"max_objects": 3}), md.DetectResult)
    assert_type(client.detect(image, ["cat", "dog"]), md.DetectResult)
    assert_type(client.chat([{"role": "user", "content": "Hello"}]), md.ChatResult)
    assert_type(client.chat([{"role": "user", "content": "Hello"}], stream=True), md.ChatStream)
    assert_type(client.ask_number(image, "?"), float)
    assert_type(client.run("caption", [image], "results.jsonl", length="short"), md.RunSummary)
    assert_type(md.Prices(0.3, 2.5).cost(client.stats), float)
    assert_type(client.point(image, "cat", spatial_refs=[(0.1, 0.2), [0, 0, 1, 1]]), md.PointResult)
    assert_type(client.segment(image, "cat"), md.SegmentResult)
    assert_type(client.segment(image, "cat", stream=True), md.SegmentStream)
    assert_type(client.segment(image, "cat", stream=flag), md.SegmentResult | md.SegmentStream)
    assert_type(client.encode_image(image), md.EncodedImage)
    assert_type(client.models(), list[md.Model])
    assert_type(client.with_options(model="m"), md.Client)


def results(client: md.Client, image: md.EncodedImage) -> None:
    with client.caption(image, stream=True) as stream:
        for piece in stream:
            assert_type(piece, str)
    assert_type(stream.text, str)
    assert_type(stream.result(), md.CaptionResult)
    for update in client.segment(image, "cat", stream=True):
        assert_type(update, md.SegmentUpdate)
        assert_type(update.bbox, md.BoundingBox | None)
    detected = client.detect(image, "cat")
    assert_type(detected.objects, tuple[md.BoundingBox, ...])
    assert_type(detected.objects[0].x_min, float)
    assert_type(detected.metrics, md.Metrics | None)
    assert_type((client.query(image, "?")).reasoning, md.Reasoning | None)


def many(client: md.Client, images: list[md.EncodedImage]) -> None:
    for outcome in client.map("detect", images, object="cat"):
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


def show(now: Progress) -> None:
    assert_type(now.expected_cost, float | None)
    assert_type(now.limited_by, str | None)


def show_summary(now: md.RunSummary) -> None: ...


def arguments_of_many(client: md.Client, images: list[md.EncodedImage], skills: list[str], skill: Any) -> None:
    settings: md.SamplingSettings = {"temperature": 0.2}
    assert_type(client.map("query", images, question="?", reasoning=True), md.Map[md.QueryResult])
    assert_type(client.map("caption", images), md.Map[md.CaptionResult])
    assert_type(client.map("caption", images, length="short", settings=settings), md.Map[md.CaptionResult])
    assert_type(client.map("detect", images, object=["cat", "dog"], concurrency=3), md.Map[md.DetectResult])
    assert_type(client.map("point", images, object="cat", spatial_refs=[(0.1, 0.2)]), md.Map[md.PointResult])
    assert_type(client.map("segment", images, object="cat", ordered=True), md.Map[md.SegmentResult])
    assert_type(client.map("segment", [("id", images[0], {"object": "x"})]), md.Map[md.SegmentResult])
    assert_type(client.map(skills, images, object="cat", question="?"), md.Map[Any])
    client.map(skill, images, object="cat")
    assert_type(client.map({"caption": {}, "detect": {"object": "cat"}}, images), md.Map[Any])
    assert_type(client.run("caption", images, "results.jsonl", length="short", resume=False), md.RunSummary)
    assert_type(client.run(["caption", "query"], images, "results.jsonl", question="?"), md.RunSummary)
    assert_type(client.run("detect", [(1, images[0], {"object": "x"})], "results.jsonl"), md.RunSummary)

    client.map("caption", images, progress=True)
    client.map("caption", images, progress=show)
    assert_type(client.run("caption", images, "results.jsonl", progress=show_summary), md.RunSummary)
    client.map("caption", images, progress="yes")  # type: ignore[call-overload]  # pyright: ignore
    client.map("detect", images)  # type: ignore[call-overload]  # pyright: ignore
    client.map("query", images)  # type: ignore[call-overload]  # pyright: ignore
    client.map("describe", images)  # type: ignore[call-overload]  # pyright: ignore
    client.map("caption", images, object="cat")  # type: ignore[call-overload]  # pyright: ignore
    client.map("detect", images, object="cat", order=True)  # type: ignore[call-overload]  # pyright: ignore
    client.run("detect", images, "results.jsonl")  # type: ignore[call-overload]  # pyright: ignore
    client.run("describe", images, "results.jsonl")  # type: ignore[call-overload]  # pyright: ignore


class Scene:
    objects: list[str]


def structured(client: md.Client, image: bytes) -> None:
    assert_type(client.ask_json(image, "?", Scene), Scene)
    assert_type(client.ask_json(image, "?", {"type": "object"}), Any)


def batches(client: md.Client, images: list[bytes]) -> None:
    job = client.batches.create(images, "detect", object="cat", folder="job", progress=True)
    assert_type(job, md.BatchJob)
    assert_type(client.batches.submit("ready.jsonl"), md.BatchJob)
    assert_type(client.batches.wait(job, timeout=3), md.BatchJob)
    assert_type(client.batches.retrieve(job.id), md.Batch)
    assert_type(client.batches.save(job, "results.jsonl"), md.RunSummary)
    assert_type(client.batches.cancel(job), bool)
    for batch in client.batches.list():
        assert_type(batch, md.Batch)
    for outcome in client.batches.results(job.id):
        assert_type(outcome, md.Outcome[Any])


def tuning(client: md.Client, image: bytes) -> None:
    finetune = client.tuning.create("name", rank=8)
    assert_type(finetune, md.Finetune)
    rollouts = finetune.rollouts("detect", image=image, object="cat", num_rollouts=2)
    assert_type(rollouts, md.Rollouts)
    assert_type(finetune.train_step([rollouts.group([1.0, 0.0])], lr=1e-4), md.TrainStep)
    for context, each in finetune.rollout_stream([(image, {"skill": "query", "question": "?"})]):
        assert_type(context, bytes)
        assert_type(each, md.Rollouts)
    for checkpoint in finetune.list_checkpoints():
        assert_type(checkpoint, md.Checkpoint)
    assert_type(finetune.model(3), str)
