"""The types of all calls of `Client`; checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import Any, assert_type

import moondream_async as md


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
    for outcome in client.map("caption", images):
        assert_type(outcome, md.Outcome[md.CaptionResult])
        assert_type(outcome.result, md.CaptionResult | None)
    assert_type(client.map("point", images, object="cat"), md.Map[md.PointResult])
    assert_type(client.stats, md.Stats)


def batches(client: md.Client, images: list[bytes]) -> None:
    job = client.batches.create(images, "detect", object="cat", folder="job")
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
