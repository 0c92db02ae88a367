"""The sandbox: answers from pixels, and the documented API, errors and faults."""

from __future__ import annotations

import base64
import io
import json
import math
import urllib.error
import urllib.request
from typing import Any

import pytest
from PIL import Image

import moondream_async as md
from moondream_async import AsyncClient, Client
from moondream_async.sandbox import Faults, Sandbox
from tests.support import pictures


@pytest.fixture
def client(moondream_sandbox: Any) -> Any:
    with Client(base_url=moondream_sandbox.base_url, retry=1) as client:
        yield client


def raw(sandbox: Any, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any, Any]:
    """Send a request with the standard library, independent of this package."""
    data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(sandbox.base_url + path, data=data, headers=headers or {})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


class TestAnswers:
    def test_boxes(self, client: Client, scene: bytes) -> None:
        (red,) = client.detect(scene, "the red thing").objects
        expected = (pictures.RED[0] / 640, pictures.RED[1] / 480, pictures.RED[2] / 640, pictures.RED[3] / 480)
        assert [red.x_min, red.y_min, red.x_max, red.y_max] == pytest.approx(expected, abs=0.004)
        assert len(client.detect(scene, "objects").objects) == 3
        assert client.detect(scene, "pink").objects == ()
        assert len(client.detect(scene, "dog").objects) == 3
        assert len(client.detect(scene, "objects", settings={"max_objects": 2}).objects) == 2

    def test_points_lie_inside(self, client: Client, scene: bytes) -> None:
        image = Image.open(io.BytesIO(scene))
        for color, rgb in (("red", (255, 0, 0)), ("blue", (0, 0, 255)), ("green", (0, 128, 0))):
            (point,) = client.point(scene, color).points
            assert image.getpixel((int(point.x * 640), int(point.y * 480))) == rgb

    def test_a_rotated_image_changes_the_answer(self, client: Client, scene: bytes) -> None:
        rotated = pictures.file(Image.open(io.BytesIO(scene)).transpose(Image.Transpose.ROTATE_90), "PNG")
        before, after = client.point(scene, "red").points[0], client.point(rotated, "red").points[0]
        assert (after.x, after.y) == pytest.approx((before.y, 1 - before.x), abs=0.01)

    def test_captions(self, client: Client, scene: bytes) -> None:
        short, normal, long = (client.caption(scene, length).caption for length in ("short", "normal", "long"))  # type: ignore[arg-type]
        assert short == "A red square, a blue circle and a green triangle on a white background."
        assert "640 by 480" in normal
        assert "three regions" in normal
        assert len(short) < len(normal) < len(long)
        assert (
            client.caption(pictures.file(Image.new("RGB", (30, 20), "blue"), "PNG")).caption
            == "A plain blue image, 30 by 20 pixels."
        )

    @pytest.mark.parametrize(
        ("question", "answer"),
        [
            ("How many objects are there?", "Three regions."),
            ("Count the red ones", "One red region."),
            ("Is there something blue?", "Yes, there is one blue region."),
            ("Is there a pink elephant?", "No, there are no pink regions."),
            ("Where is the red square?", "A red square at the top left."),
            ("Is anything white?", "Yes, the background is white."),
            ("What colours are there?", "White, red, blue, green."),
            ("What is its size?", "640 by 480 pixels."),
        ],
    )
    def test_questions(self, client: Client, scene: bytes, question: str, answer: str) -> None:
        assert client.query(scene, question).answer == answer

    def test_reasoning_is_grounded(self, client: Client, scene: bytes) -> None:
        reasoning = client.query(scene, "Where is the red square?", reasoning=True).reasoning
        assert reasoning is not None
        (span,) = reasoning.grounding
        assert reasoning.text[span.start_idx : span.end_idx] == "a red square"
        assert client.query(scene, "Where?", reasoning=False).reasoning is None

    def test_spatial_references(self, client: Client, scene: bytes) -> None:
        assert client.query(scene, "What colour is this?", spatial_refs=[(0.25, 0.37)]).answer == "Red."
        assert client.query(scene, "What is here?", spatial_refs=[(0.6, 0.2, 0.9, 0.6)]).answer == "A blue circle."
        assert len(client.point(scene, "objects", spatial_refs=[(0.25, 0.37)]).points) == 1

    def test_text_only(self, client: Client) -> None:
        assert "three words" in client.query(question="who are you").answer

    def test_budgets(self, client: Client, scene: bytes) -> None:
        result = client.caption(scene, settings={"max_tokens": 3})
        assert (result.caption, result.finish_reason) == ("An image of", "length")
        assert result.metrics is not None
        assert result.metrics.output_tokens == 3

    def test_outlines(self, client: Client, scene: bytes) -> None:
        result = client.segment(scene, "blue circle")
        assert result.bbox is not None
        numbers = [float(word) for word in result.path.split() if word not in "MLZ"]
        points = list(zip(numbers[::2], numbers[1::2], strict=True))
        assert len(points) >= 8
        assert all(0.45 < math.dist(p, (0.5, 0.5)) < 0.53 for p in points)
        nothing = client.segment(scene, "pink")
        assert (nothing.path, nothing.bbox) == ("", None)

    def test_holes_run_in_the_opposite_direction(self, client: Client) -> None:
        image = Image.new("RGB", (200, 200), "white")
        image.paste("red", (40, 40, 160, 160))
        image.paste("white", (80, 80, 120, 120))
        path = client.segment(pictures.file(image, "PNG"), "red").path
        areas = []
        for part in path.split("Z")[:-1]:
            numbers = [float(word) for word in part.split() if word not in "ML"]
            loop = list(zip(numbers[::2], numbers[1::2], strict=True))
            areas.append(sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(loop, loop[1:] + loop[:1], strict=True)) / 2)
        assert len(areas) == 2
        assert areas[0] == pytest.approx(1, abs=0.05)
        assert areas[1] == pytest.approx(-1 / 9, abs=0.03)


class TestWire:
    def test_responses_say_that_it_is_a_stand_in(self, moondream_sandbox: Any) -> None:
        status, headers, body = raw(moondream_sandbox, "/query", {"question": "hi"})
        assert status == 200
        assert "not a model" in headers["X-Moondream-Sandbox"]
        answer = json.loads(body)
        assert "sandbox" in answer["request_id"]
        assert set(answer) == {"request_id", "finish_reason", "answer", "metrics"}
        assert set(answer["metrics"]) == {
            "input_tokens",
            "output_tokens",
            "prefill_time_ms",
            "decode_time_ms",
            "ttft_ms",
        }

    @pytest.mark.parametrize(
        ("path", "body", "status", "message"),
        [
            ("/query", b"{", 400, "Invalid JSON body"),
            ("/query", b"[]", 400, "Request body must be a JSON object"),
            ("/query", {}, 400, "Field 'question' must be a non-empty string"),
            ("/query", {"question": "?", "stream": "true"}, 400, "Field 'stream' must be a boolean"),
            ("/query", {"question": "?", "spatial_refs": [[0, 0]]}, 400, "Field 'spatial_refs' requires image_url"),
            ("/query", {"question": "?", "settings": 3}, 400, "Field 'settings' must be an object if provided"),
            ("/caption", {}, 400, "Field 'image_url' must be a non-empty string"),
            ("/caption", {"image_url": "https://x/a.jpg"}, 400, "image_url must be a data URI, not a URL"),
            ("/caption", {"image_url": "data:image/png;base64,***"}, 400, "Invalid base64 image data"),
            ("/caption", {"image_url": "AAAA"}, 400, "Image cannot be decoded"),
            ("/detect", {"image_url": "AAAA", "object": " "}, 400, "Field 'object' must be a non-empty string"),
            (
                "/point",
                {"image_url": "AAAA", "object": "a", "spatial_refs": [[1]]},
                400,
                "spatial_refs[0] must contain 2 (point) or 4 (bbox) values",
            ),
            ("/nothing", {}, 404, "Not Found"),
            ("/caption", {"image_url": "A" * 14_000_004}, 413, "Image size exceeds limits"),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_errors_in_the_documented_envelope(
        self, moondream_sandbox: Any, path: str, body: Any, status: int, message: str
    ) -> None:
        actual_status, headers, text = raw(moondream_sandbox, path, body)
        assert actual_status == status
        error = json.loads(text)["error"]
        assert error["message"].startswith(message)
        assert set(error) == {"message", "type", "param", "code"}
        assert headers["x-request-id"]

    def test_keys(self) -> None:
        with Sandbox(api_key="right") as sandbox:
            for headers, status in (
                ({"X-Moondream-Auth": "right"}, 200),
                ({"Authorization": "Bearer right"}, 200),
                ({"X-Moondream-Auth": "wrong"}, 401),
                ({}, 401),
            ):
                assert raw(sandbox, "/query", {"question": "?"}, headers)[0] == status
            assert raw(sandbox, "/models")[0] == 200
            assert raw(sandbox, "/models", headers={"Authorization": "Bearer wrong"})[0] == 401
            with Client("wrong", base_url=sandbox.base_url) as client:
                with pytest.raises(md.AuthenticationError, match="Invalid API key"):
                    client.models()
                with pytest.raises(md.AuthenticationError):
                    client.query(question="?")

    def test_faults_of_models(self, client: Client) -> None:
        with pytest.raises(md.ServerError):
            client.with_options(headers={"X-Sandbox-Fault": "status=503;times=0"}).models()

    def test_models(self, client: Client) -> None:
        assert "moondream3-preview" in [model.id for model in client.models()]

    @pytest.mark.parametrize("shape", ["engine", "docs", "text", "station", "final"])
    def test_every_stream_shape(self, client: Client, scene: bytes, shape: str) -> None:
        whole = client.caption(scene).caption
        with client.with_options(headers={"X-Sandbox-Fault": f"shape={shape}"}).caption(scene, stream=True) as stream:
            assert "".join(stream) == whole
            assert stream.result().caption == whole


class TestFaults:
    def test_rate_limit(self, scene: bytes) -> None:
        with Sandbox(rate_limit=2, retry_after=7) as sandbox:
            statuses = [raw(sandbox, "/query", {"question": "?"})[0] for _ in range(6)]
            assert statuses[:2] == [200, 200]
            assert 429 in statuses
            assert raw(sandbox, "/query", {"question": "?"})[1]["Retry-After"] == "7"
        with Sandbox(rate_limit=1, retry_after=-1) as sandbox:
            raw(sandbox, "/query", {"question": "?"})
            assert raw(sandbox, "/query", {"question": "?"})[1]["Retry-After"] is None

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 429, 500, 502, 503, 524])
    def test_any_status(self, moondream_sandbox: Any, status: int) -> None:
        fault = {"X-Sandbox-Fault": f"status={status}; times=0"}
        actual_status, _, body = raw(moondream_sandbox, "/query", {"question": "?"}, fault)
        assert actual_status == status
        assert json.loads(body)["error"]["message"]

    async def test_retries_outlast_a_burst_of_errors(self, moondream_sandbox: Any) -> None:
        async with AsyncClient(
            base_url=moondream_sandbox.base_url,
            retry=md.RetryPolicy(backoff=0),
            headers={"X-Sandbox-Fault": "status=500; times=3; id=burst"},
        ) as client:
            assert (await client.query(question="?")).meta.attempts == 4
            assert (await client.query(question="?")).meta.attempts == 1

    @pytest.mark.parametrize("fault", ["cut=1", "malformed=1", "error_event=1"])
    def test_streams_that_fail(self, client: Client, scene: bytes, fault: str) -> None:
        with client.with_options(headers={"X-Sandbox-Fault": fault}).caption(scene, stream=True) as stream:
            with pytest.raises(md.StreamInterruptedError) as error_info:
                list(stream)
        assert error_info.value.partial

    def test_slow_and_endless_streams(self, client: Client, scene: bytes) -> None:
        with client.with_options(headers={"X-Sandbox-Fault": "drip=0.001"}).caption(
            scene, "short", stream=True
        ) as stream:
            assert list(stream)
        with pytest.raises(md.APIError, match="one event has more than"):
            client.with_options(headers={"X-Sandbox-Fault": "endless=1"}).caption(scene, stream=True)

    def test_unknown_and_invalid_faults_are_rejected(self, moondream_sandbox: Any) -> None:
        assert raw(moondream_sandbox, "/query", {"question": "?"}, {"X-Sandbox-Fault": "nonsense=1"})[0] == 400
        for bad in ("latency=-1", "latency=nan", "latency=inf", "status=42", "status=700", "drip=-1", "cut=x"):
            assert raw(moondream_sandbox, "/query", {"question": "?"}, {"X-Sandbox-Fault": bad})[0] == 400
        with pytest.raises(md.ConfigurationError, match="nonsense"):
            Sandbox(nonsense=1)
        with pytest.raises(md.ConfigurationError, match="latency"):
            Sandbox(latency=-1)
        with pytest.raises(ValueError, match="shape"):
            Faults(shape="odd")


def test_stopping_frees_the_port() -> None:
    with Sandbox() as first:
        port = first.port
        with pytest.raises(md.ConfigurationError, match="cannot listen"):
            Sandbox(port=port).start()
    with Sandbox(port=port) as second:
        assert raw(second, "/models")[0] == 200


async def test_async_context_manager(scene: bytes) -> None:
    async with Sandbox() as sandbox, AsyncClient(base_url=sandbox.base_url) as client:
        assert len((await client.detect(scene, "objects")).objects) == 3
