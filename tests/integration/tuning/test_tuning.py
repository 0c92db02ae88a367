"""Finetunes against the sandbox, which enforces the documented rules."""

from __future__ import annotations

import base64
import io
import json
import traceback
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import numpy as np
import pytest
import respx
from PIL import Image

from moondream_async import (
    APIConnectionError,
    APIError,
    AsyncClient,
    AsyncFinetune,
    BadRequestError,
    BoundingBox,
    Client,
    ConfigurationError,
    ConflictError,
    DetectResult,
    ImageError,
    MoondreamError,
    NotFoundError,
    Point,
    RateLimitError,
    RetryPolicy,
    ServerError,
    Timeouts,
    ft,
)
from moondream_async._tuning import wire
from tests.support.sandboxes import PooledSandbox

QUICK = RetryPolicy(attempts=3, backoff=0.01)
KEY = "a-key-of-the-sandbox"
RED = {"x_min": 0.094, "y_min": 0.167, "x_max": 0.406, "y_max": 0.583}


@pytest.fixture
async def client() -> AsyncIterator[AsyncClient]:
    with PooledSandbox(api_key=KEY) as sandbox:
        async with AsyncClient(KEY, base_url=sandbox.base_url, retry=QUICK) as client:
            yield client


@pytest.fixture
async def finetune(client: AsyncClient) -> AsyncFinetune:
    return await client.tuning.create("shapes", rank=8)


async def test_create_is_idempotent(client: AsyncClient, finetune: AsyncFinetune) -> None:
    assert (await client.tuning.create("shapes", rank=8)).finetune_id == finetune.finetune_id
    with pytest.raises(ConflictError, match="rank 8"):
        await client.tuning.create("shapes", rank=16)
    retrieved = await client.tuning.retrieve(finetune.finetune_id)
    assert (retrieved.name, retrieved.rank, retrieved.info.created_at_ms is not None) == ("shapes", 8, True)
    await retrieved.delete()
    for call in (client.tuning.retrieve(finetune.finetune_id), finetune.delete(), finetune.save_checkpoint()):
        with pytest.raises(NotFoundError):
            await call


async def test_listing_all_pages(client: AsyncClient) -> None:
    for number in range(101):
        await client.tuning.create(f"n{number}", rank=8)
    assert [each.name async for each in client.tuning.list()] == [f"n{number}" for number in range(101)]
    assert [each.name async for each in client.tuning.list(limit=2)] == ["n0", "n1"]


async def test_reinforcement_learning(client: AsyncClient, finetune: AsyncFinetune, scene: bytes) -> None:
    means: list[float] = []
    for step in range(1, 6):
        rollouts = await finetune.rollouts(
            "detect", image=scene, object="red", num_rollouts=16, ground_truth={"boxes": [RED]}
        )
        assert len(rollouts.rollouts) == len(rollouts.rewards or ()) == len(rollouts.results) == 16
        assert isinstance(rollouts.results[0], DetectResult)
        assert rollouts["rollouts"][0]["output"]["objects"] == [dict(b) for b in rollouts.results[0].objects]
        trained = await finetune.train_step([rollouts.group()])
        assert (trained.step, trained["step"], trained.applied) == (step, step, True)
        assert trained["sft_loss"] is trained.sft_loss is None
        assert trained.reward_mean == pytest.approx(sum(rollouts.rewards or ()) / 16)
        means.append(trained.reward_mean or 0.0)
    assert means[-1] > means[0]  # the model has learned


async def test_rollouts_must_be_sent_back_unchanged(finetune: AsyncFinetune, scene: bytes) -> None:
    rollouts = await finetune.rollouts("point", image=scene, object="red", num_rollouts=2)
    assert rollouts.rewards is None
    assert rollouts["rewards"] is None
    assert base64.b64decode(rollouts.request["image_url"].partition(",")[2])
    trained = await finetune.train_step([rollouts.group([1.0, 0.0])])
    assert trained.reward_std == 0.5
    rollouts.rollouts[0]["answer_tokens"] = [1]
    with pytest.raises(BadRequestError, match="as it was given"):
        await finetune.train_step([rollouts.group([1.0, 0.0])])
    with pytest.raises(ConfigurationError, match=r"groups\[0\].*rewards"):
        await finetune.train_step([rollouts.group()])


@pytest.mark.parametrize(
    ("request_", "target"),
    [
        ({"skill": "query", "question": "Which country?"}, {"answer": "France"}),
        ({"skill": "query", "question": "?", "reasoning": True}, {"answer": "a", "reasoning": {"text": "b"}}),
        ({"skill": "point", "object": "red"}, {"points": [{"x": 0.1, "y": 0.2}]}),
        ({"skill": "point", "object": "red"}, {"points": [Point(0.1, 0.2)]}),
        ({"skill": "point", "object": "red"}, {"boxes": [RED]}),
        ({"skill": "detect", "object": "red"}, {"boxes": [BoundingBox(0.1, 0.2, 0.3, 0.4)]}),
        ({"skill": "detect", "object": "red"}, {"boxes": []}),
    ],
)
async def test_supervised_training(
    finetune: AsyncFinetune, tmp_path: Path, scene: bytes, request_: Any, target: Any
) -> None:
    (tmp_path / "a.png").write_bytes(scene)
    for image in ({"image": tmp_path / "a.png"}, {"image_url": str(tmp_path / "a.png")}):
        trained = await finetune.train_step([{"mode": "sft", "request": {**request_, **image}, "target": target}])
        assert trained.sft_loss is not None
        assert trained.kl is None


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("rl", "must be a dict"),
        ({"mode": "dpo"}, "'rl' or 'sft'"),
        ({"mode": "rl"}, "must have a request"),
        ({"mode": "rl", "request": {}, "rollouts": []}, "must have the rollouts"),
        ({"mode": "rl", "request": {}, "rollouts": [{}], "rewards": [1, 2]}, "1 finite numbers"),
        ({"mode": "rl", "request": {}, "rollouts": [{}, {}], "rewards": 5}, "2 finite numbers"),
        ({"mode": ["rl"]}, "'rl' or 'sft'"),
        ({"mode": "sft", "request": {"skill": ["query"]}}, "skill must be one of"),
        ({"mode": "rl", "request": {}, "rollouts": [{}], "rewards": [float("nan")]}, "finite"),
        ({"mode": "sft"}, "must have a request"),
        ({"mode": "sft", "request": {"skill": "segment"}}, "skill must be one of"),
        ({"mode": "sft", "request": {"skill": "detect", "object": "a"}}, "needs an image"),
        ({"mode": "sft", "request": {"skill": "query", "question": "?"}}, "must have a target"),
        ({"mode": "sft", "request": {"skill": "query", "question": "?"}, "target": {}}, "target.*answer"),
        ({"mode": "sft", "request": {"skill": "query", "question": "?", "reasoning": True}, "target": {"answer": "a"}}, "reasoning"),
        ({"mode": "sft", "request": {"skill": "query", "question": "?"}, "target": {"answer": "a", "reasoning": {}}}, "reasoning"),
        ({"mode": "sft", "request": {"skill": "point", "object": "a", "image": "a.png"}, "target": {"points": [], "boxes": []}}, "exactly"),
        ({"mode": "sft", "request": {"skill": "detect", "object": "a", "image": "a.png"}, "target": {"points": []}}, "exactly"),
        ({"mode": "sft", "request": {"skill": "detect", "object": "a", "image": "a.png"}, "target": {"boxes": [{"x": 1}]}}, "x_min"),
        ({"mode": "sft", "request": {"skill": "detect", "object": "a", "image": "a.png"}, "target": {"boxes": [{**RED, "x_min": 7}]}}, "0 to 1"),
    ],
)  # fmt: skip
async def test_invalid_groups(client: AsyncClient, finetune: AsyncFinetune, group: Any, message: str) -> None:
    before = client.stats.requests
    with pytest.raises(ConfigurationError, match=message):
        await finetune.train_step([group])
    assert client.stats.requests == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"skill": "caption"}, "skill must be one of"),
        ({"skill": "detect", "object": "a"}, "needs an image"),
        ({"skill": "query", "question": "?", "object": "a"}, "takes no object"),
        ({"skill": "detect", "object": "a", "image": "x", "reasoning": True}, "takes no reasoning"),
        ({"skill": "query", "question": " "}, "empty"),
        ({"skill": "query", "question": "?", "num_rollouts": 17}, "1 to 16"),
        ({"skill": "query", "question": "?", "num_rollouts": True}, "1 to 16"),
        ({"skill": "query", "question": "?", "ground_truth": {"boxes": []}}, "no ground_truth"),
        ({"skill": "query", "question": "?", "spatial_refs": [[0, 0]]}, "no image was given"),
        ({"skill": "query", "question": "?", "settings": {"temperature": -1}}, "temperature"),
        ({"skill": "detect", "object": "a", "image": "x", "ground_truth": {"points": []}}, "exactly boxes"),
        ({"skill": "detect", "object": "a", "image": "x", "ground_truth": []}, "must be a dict"),
    ],
)
async def test_invalid_rollouts(client: AsyncClient, finetune: AsyncFinetune, arguments: Any, message: str) -> None:
    before = client.stats.requests
    with pytest.raises(ConfigurationError, match=message):
        await finetune.rollouts(**arguments)
    assert client.stats.requests == before
    with pytest.raises(ImageError):
        await finetune.rollouts("detect", image="nope.png", object="a")


async def test_checkpoints(client: AsyncClient, finetune: AsyncFinetune, scene: bytes) -> None:
    with pytest.raises(NotFoundError, match="never trained"):
        await finetune.save_checkpoint()
    example = {"mode": "sft", "request": {"skill": "query", "question": "?"}, "target": {"answer": "a"}}
    for _ in range(3):
        await finetune.train_step([example])
        saved = await finetune.save_checkpoint()
        assert (await finetune.save_checkpoint()).checkpoint.checkpoint_id == saved["checkpoint"]["checkpoint_id"]
    assert [each.step async for each in finetune.list_checkpoints()] == [1, 2, 3]
    assert [each.step async for each in finetune.list_checkpoints(limit=2)] == [1, 2]
    model = finetune.model(2)
    assert model == f"moondream3-preview/{finetune.finetune_id}@2"
    assert (await client.with_options(model=model).caption(scene)).caption
    job = await client.batches.wait(await client.batches.create([scene], "caption", model=model))
    assert (job.status, job.batches[0].model) == ("completed", model)
    download = await finetune.checkpoint_url(2)
    assert download.expires_in == 3600
    assert download.url not in repr(download)
    async with httpx.AsyncClient() as http:
        assert (await http.get(download.url)).json() == {"step": 2}
        assert (await http.get(download.url, headers={"X-Moondream-Auth": KEY})).status_code == 400
    await finetune.delete_checkpoint(2)
    with pytest.raises(APIError) as info:
        await finetune.delete_checkpoint(2)
    assert info.value.status == 410
    with pytest.raises(NotFoundError):
        await client.with_options(model=model).caption(scene)
    assert [each.step async for each in finetune.list_checkpoints()] == [1, 3]


async def test_metrics(finetune: AsyncFinetune) -> None:
    logged = await finetune.log_metrics(3, {"eval/f1": 0.5, "eval/accuracy": 1})
    assert (logged.ok, logged["step"], logged.logged_count) == (True, 3, 2)
    for invalid in ({}, {"a": float("inf")}, {1: 2}, [("a", 1)]):
        with pytest.raises(ConfigurationError, match="metrics"):
            await finetune.log_metrics(1, invalid)  # type: ignore[arg-type]


async def test_rollouts_are_prefetched_while_training(
    client: AsyncClient, finetune: AsyncFinetune, scene: bytes
) -> None:
    before = client.stats.requests

    def requests() -> Iterator[tuple[int, dict[str, Any]]]:
        for number in range(40):
            yield number, {"skill": "detect", "image": scene, "object": "red", "num_rollouts": 1}

    seen: list[int] = []
    async for context, rollouts in finetune.rollout_stream(requests(), max_concurrency=2, buffer_size=3):
        seen.append(context)
        assert rollouts.results
        if len(seen) == 1:
            await anyio.sleep(0.3)  # a training step, during which prefetching is bounded
            assert 4 <= client.stats.requests - before <= 1 + 2 + 3
    assert sorted(seen) == list(range(40))


async def test_an_error_ends_the_stream_after_the_other_results(finetune: AsyncFinetune) -> None:
    async def requests() -> AsyncIterator[tuple[str, dict[str, Any]]]:
        yield "good", {"skill": "query", "question": "?"}
        yield "bad", {"skill": "query", "question": ""}
        for number in range(100):
            yield f"late {number}", {"skill": "query", "question": "?"}

    seen: list[str] = []
    with pytest.raises(ConfigurationError, match="question must not be empty"):
        async for context, _ in finetune.rollout_stream(requests(), max_concurrency=2):
            seen.append(context)
    assert "good" in seen
    assert len(seen) < 20
    for invalid in ([("context",)], [("c", {"question": "?"})], [("c", {"skill": "query", "prompt": "?"})], ["no"]):
        with pytest.raises(ConfigurationError, match="Each request must be"):
            _ = [each async for each in finetune.rollout_stream(invalid)]  # type: ignore[arg-type]


EXAMPLE = {"mode": "sft", "request": {"skill": "query", "question": "?"}, "target": {"answer": "a"}}


@pytest.mark.parametrize(
    ("faults", "resubmit", "raised", "steps"),
    [
        ({"status": 429, "retry_after": 0}, False, None, 1),
        ({"status": 503, "retry_after": 0}, False, ServerError, 0),
        ({"status": 502}, False, ServerError, 0),
        ({"drop": 1}, False, APIConnectionError, 1),  # applied by the server, and not retried
        ({"drop": 1}, True, None, 2),
        ({"status": 502}, True, None, 1),
        ({"status": 429, "times": 9, "retry_after": 0}, False, RateLimitError, 0),
    ],
)
async def test_a_step_is_applied_once(faults: Any, resubmit: bool, raised: Any, steps: int) -> None:
    with PooledSandbox(on="train_step", **faults) as sandbox:
        async with AsyncClient(base_url=sandbox.base_url, retry=QUICK) as client:
            finetune = await client.tuning.create("n", rank=8)
            if raised is None:
                await finetune.train_step([EXAMPLE], resubmit=resubmit)
            else:
                with pytest.raises(raised) as info:
                    await finetune.train_step([EXAMPLE], resubmit=resubmit)
                assert ("may have been accepted" in str(info.value)) == (raised is not RateLimitError)
            (state,) = sandbox._app.state.tuning.finetunes.values()
            assert state.step == steps


async def test_the_timeout_of_a_step() -> None:
    with PooledSandbox(on="train_step", latency=0.5) as sandbox:
        short = Timeouts(connect=5, idle=0.2, total=0.2)
        async with AsyncClient(base_url=sandbox.base_url, timeout=short) as client:
            finetune = await client.tuning.create("n", rank=8)
            assert (await finetune.train_step([EXAMPLE])).step == 1


async def test_a_delete_whose_response_was_lost(client: AsyncClient, finetune: AsyncFinetune) -> None:
    await finetune.train_step([EXAMPLE])
    await finetune.save_checkpoint()
    lossy = client.with_options(headers={"X-Sandbox-Fault": "drop=1; on=checkpoints; id=a"})
    await AsyncFinetune(lossy.tuning._api, finetune.info).delete_checkpoint(1)
    lossy = client.with_options(headers={"X-Sandbox-Fault": "drop=1; on=finetunes; id=b"})
    await AsyncFinetune(lossy.tuning._api, finetune.info).delete()
    with pytest.raises(NotFoundError):
        await finetune.delete()


def test_sync(scene: bytes, moondream_sandbox: Any) -> None:
    with Client(base_url=moondream_sandbox.base_url) as client:
        finetune = client.tuning.create("blocking", rank=16)
        assert repr(finetune).startswith("Finetune('01")
        requests = ((n, {"skill": "point", "image": scene, "object": "red", "num_rollouts": 2}) for n in range(3))
        for _, rollouts in finetune.rollout_stream(requests):
            step = finetune.train_step([rollouts.group([1, 0])])
        finetune.save_checkpoint()
        assert [each.step for each in finetune.list_checkpoints()] == [step.step] == [3]
        assert client.tuning.retrieve(finetune.finetune_id).rank == 16
        assert "blocking" in [each.name for each in client.tuning.list()]
        assert client.with_options(model=finetune.model(3)).caption(scene).caption
        finetune.delete()


def test_ft_of_the_official_package(scene: bytes, moondream_sandbox: Any) -> None:
    endpoint = moondream_sandbox.base_url + "/tuning"
    created = ft(api_key="any", name="ported", rank=8, endpoint=endpoint)
    finetune = ft(api_key="any", finetune_id=created.finetune_id, endpoint=endpoint + "/")
    assert (finetune.name, finetune.rank) == ("ported", 8)
    response = finetune.rollouts("query", image=scene, question="?", num_rollouts=2)
    group = {"mode": "rl", "request": response["request"], "rollouts": response["rollouts"], "rewards": [1, 0]}
    assert finetune.train_step([group])["step"] == 1
    for invalid in ({}, {"name": "a"}, {"rank": 8}, {"finetune_id": "a", "name": "b"}):
        with pytest.raises(ConfigurationError, match="finetune_id"):
            ft(api_key="any", endpoint=endpoint, **invalid)  # type: ignore[arg-type]


@respx.mock
async def test_a_delete_with_an_empty_response() -> None:
    respx.delete("http://host.test/v1/tuning/finetunes/01").respond(204)
    respx.get("http://host.test/v1/tuning/finetunes/01").respond(json={"finetune_id": "01", "name": "n", "rank": 8})
    async with httpx.AsyncClient() as http, AsyncClient(base_url="http://host.test", http_client=http) as client:
        await (await client.tuning.retrieve("01")).delete()


def test_rollouts_that_cannot_be_parsed() -> None:
    """They do not affect the others, and the server can train on them."""
    rollouts = [
        {"skill": "query", "output": {"answer": "a"}, "finish_reason": "stop"},
        {"skill": "query", "output": {"answer": None}, "finish_reason": "length"},
        {"skill": "detect", "output": {"objects": [{"x_min": 0.1, "y_min": None}]}},
        {"skill": "new", "output": {}},
        {},
    ]
    parsed = wire.parse_rollouts({"rollouts": rollouts, "rewards": [1, None, 0, 0, 0]}, {"skill": "query"})
    assert parsed.rollouts == rollouts
    assert [result is not None for result in parsed.results] == [True, False, False, False, False]
    assert (parsed.request, parsed.rewards) == ({"skill": "query"}, [1.0, None, 0.0, 0.0, 0.0])
    with pytest.raises(ValueError, match="no list 'rollouts'"):
        wire.parse_rollouts({}, {})


@pytest.mark.parametrize(
    ("parse", "data"),
    [
        (wire.parse_finetune_id, {"finetune_id": 7}),
        (wire.parse_info, {"finetune_id": "", "name": "n", "rank": 8}),
        (wire.parse_info, {"finetune_id": "01", "name": "n", "rank": "8"}),
        (wire.parse_train_step, {"step": "1"}),
        (wire.parse_train_step, {"step": True}),
        (wire.parse_saved_checkpoint, {"checkpoint": {}}),
        (wire.parse_download, {"url": None}),
        (wire.check_deleted, {"ok": False}),
    ],
)
def test_invalid_responses(parse: Any, data: Any) -> None:
    with pytest.raises(ValueError, match="it "):
        parse(data)


def test_a_checkpoint_bare_or_nested() -> None:
    bare = {"checkpoint_id": "01", "finetune_id": "02", "step": 3}
    assert (
        wire.parse_saved_checkpoint(bare).checkpoint
        == wire.parse_saved_checkpoint({"checkpoint": bare, "ok": None, "new": 1}).checkpoint
    )
    assert wire.parse_saved_checkpoint({"checkpoint": bare, "new": 1}).extra == {"new": 1}


async def test_no_traceback_shows_the_key(client: AsyncClient, finetune: AsyncFinetune) -> None:
    calls = (client.tuning.retrieve("nope"), client.batches.retrieve("nope"), finetune.save_checkpoint())
    for call in calls:
        with pytest.raises(NotFoundError) as info:
            await call
        shown = traceback.TracebackException.from_exception(info.value, capture_locals=True).format()
        assert KEY not in "".join(shown)


async def test_iterators_that_can_be_read_once(finetune: AsyncFinetune, scene: bytes) -> None:
    refs = iter([[0.25, 0.35], Point(0.5, 0.5)])
    rollouts = await finetune.rollouts("query", image=scene, question="?", spatial_refs=refs)  # type: ignore[arg-type]
    assert rollouts.request["spatial_refs"] == [[0.25, 0.35], [0.5, 0.5]]
    request = {"skill": "query", "question": "?", "image": scene, "spatial_refs": iter([[0.25, 0.35]])}
    await finetune.train_step(group for group in [{"mode": "sft", "request": request, "target": {"answer": "a"}}])


async def test_values_that_the_official_client_accepts(finetune: AsyncFinetune, scene: bytes) -> None:
    image = Image.open(io.BytesIO(scene))
    rollouts = await finetune.rollouts("detect", image=image, object="red", reasoning=False, num_rollouts=np.int64(2))
    assert "reasoning" not in rollouts.request
    request = {name: value for name, value in rollouts.request.items() if name != "image_url"}
    group = {
        "mode": "rl",
        "request": {**request, "image": image},
        "rollouts": rollouts["rollouts"],
        "rewards": [True, np.bool_(False)],
    }
    step = await finetune.train_step([group])
    assert step.reward_mean == 0.5
    settings = {"temperature": 0.0, "max_tokens": 256}
    await finetune.rollouts("detect", image=image, object="red", settings=settings)  # type: ignore[arg-type]
    assert (await finetune.log_metrics(np.int64(3), {"applied": True, "kl": np.float32(0.5)})).logged_count == 2  # type: ignore[arg-type]


async def test_a_deadline_does_not_apply_to_steps() -> None:
    with PooledSandbox(on="train_step", latency=0.6) as sandbox:
        retry = RetryPolicy(deadline=0.2)
        async with AsyncClient(base_url=sandbox.base_url, retry=retry) as client:
            assert (await (await client.tuning.create("n", rank=8)).train_step([EXAMPLE])).step == 1


async def test_a_request_that_raises_an_unexpected_error(finetune: AsyncFinetune) -> None:
    good = {"skill": "query", "question": "?"}
    requests = [(n, {**good, "settings": _BrokenDict()} if n == 5 else good) for n in range(30)]
    seen: list[int] = []
    with pytest.raises(MoondreamError, match="Unexpected RuntimeError: broken"):
        async for context, _ in finetune.rollout_stream(requests, max_concurrency=4):
            seen.append(context)
    assert {0, 1, 2, 3, 4} <= set(seen)


async def test_iteration_can_continue_after_a_timeout(finetune: AsyncFinetune, client: AsyncClient) -> None:
    slow = AsyncFinetune(client.with_options(headers={"X-Sandbox-Fault": "latency=0.05"}).tuning._api, finetune.info)
    stream = slow.rollout_stream((n, {"skill": "query", "question": "?"}) for n in range(8))
    seen: list[int] = []
    while True:
        with anyio.move_on_after(0.02):
            try:
                seen.append((await anext(stream))[0])
            except StopAsyncIteration:
                break
    assert sorted(seen) == list(range(8))


class _BrokenDict(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("broken")


async def test_deletes_of_what_does_not_exist(client: AsyncClient, finetune: AsyncFinetune) -> None:
    await finetune.delete()
    limited = client.with_options(headers={"X-Sandbox-Fault": "status=429; retry_after=0; on=finetunes; id=c"})
    with pytest.raises(NotFoundError):
        await AsyncFinetune(limited.tuning._api, finetune.info).delete()


async def test_checkpoints_that_were_not_saved(client: AsyncClient, finetune: AsyncFinetune, scene: bytes) -> None:
    other = client.with_options(model=finetune.model(999))
    for call in (other.query(scene, "?"), other.chat([{"role": "user", "content": "?"}])):
        with pytest.raises(NotFoundError, match="saved checkpoint"):
            await call


async def test_training_needs_the_latest_checkpoint(finetune: AsyncFinetune) -> None:
    await finetune.train_step([EXAMPLE])
    await finetune.save_checkpoint()
    await finetune.delete_checkpoint(1)
    with pytest.raises(ConflictError, match="cannot be trained on"):
        await finetune.train_step([EXAMPLE])


@pytest.mark.parametrize(
    "fields",
    [
        {"groups": [{"mode": "sft", "request": {"skill": "query"}, "target": {"answer": "a"}}]},
        {"groups": [{"mode": "sft", "request": {"skill": "detect", "object": "a"}, "target": {"boxes": []}}]},
        {"groups": [{"mode": "rl", "request": {"skill": ["a"]}, "rollouts": [{}], "rewards": [1]}]},
        {"groups": [{"mode": "sft", "request": {"skill": "query", "question": "?", "settings": "x"}, "target": {}}]},
        {"groups": [EXAMPLE], "lr": 0},
        {"groups": []},
    ],
)
async def test_the_sandbox_checks_what_the_client_would_refuse(
    client: AsyncClient, finetune: AsyncFinetune, fields: Any
) -> None:
    async with httpx.AsyncClient(headers={"X-Moondream-Auth": KEY}) as http:
        response = await http.post(
            f"{client.base_url}/tuning/train_step", json={"finetune_id": finetune.finetune_id, **fields}
        )
    assert response.status_code == 400
    assert (await finetune.train_step([EXAMPLE])).step == 1


def test_a_finetune_bare_or_nested() -> None:
    bare = {"finetune_id": "01", "name": "n", "rank": 8, "created_at_ms": 1, "updated_at_ms": 2, "new": True}
    assert wire.parse_info(bare) == wire.parse_info({"finetune": bare})
    assert wire.parse_info(bare).extra == {"new": True}
    assert json.dumps(dict(wire.parse_info(bare)))


@pytest.mark.parametrize(
    ("name", "rank"), [("", 8), ("a b", 8), (7, 8), ("a", 7), ("a", True), ("a", "8"), ("a", 8.0), ("a", np.array([8]))]
)
async def test_invalid_names_and_ranks(client: AsyncClient, name: Any, rank: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"name must|rank must"):
        await client.tuning.create(name, rank)
    assert client.stats.requests == 0
