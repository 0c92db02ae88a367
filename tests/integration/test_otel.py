"""OpenTelemetry: spans, metrics and propagation."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import respx
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import moondream_async as md
from moondream_async import AsyncClient, EncodedImage, RetryPolicy
from moondream_async.otel import opentelemetry

BASE = "https://api.moondream.ai/v1"
ANSWER = {
    "answer": "yes",
    "request_id": "r",
    "finish_reason": "stop",
    "metrics": {"input_tokens": 700, "output_tokens": 5},
}


class Recorder:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.hooks = opentelemetry(self.tracers, MeterProvider([self.reader]))

    @property
    def spans(self) -> Any:
        return self.exporter.get_finished_spans()

    def sums(self) -> dict[tuple[str, str | None], float]:
        data: Any = self.reader.get_metrics_data()
        return {
            (metric.name, point.attributes.get("gen_ai.token.type")): point.sum
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
            for point in metric.data.data_points
        }


@respx.mock
async def test_the_span_of_a_call(tiny: EncodedImage) -> None:
    route = respx.post(f"{BASE}/query").mock(side_effect=[httpx.Response(503), httpx.Response(200, json=ANSWER)])
    recorder = Recorder()
    policy = RetryPolicy(backoff=0)
    async with AsyncClient("the-key", model="moondream3", retry=policy, hooks=recorder.hooks) as client:
        with recorder.tracers.get_tracer("app").start_as_current_span("parent"):
            await client.query(tiny, "a private question")
    span, parent = recorder.spans
    assert span.name == "query moondream3"
    assert span.kind is SpanKind.CLIENT
    assert span.parent.span_id == parent.context.span_id
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "query",
        "gen_ai.provider.name": "moondream",
        "gen_ai.request.model": "moondream3",
        "gen_ai.response.id": "r",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 700,
        "gen_ai.usage.output_tokens": 5,
        "server.address": "api.moondream.ai",
        "server.port": 443,
        "http.request.resend_count": 1,
        "http.response.status_code": 200,
    }
    (event,) = span.events
    assert event.name == "retry"
    assert event.attributes["error.type"] == "ServerError"
    assert span.status.status_code is StatusCode.UNSET
    assert "private" not in span.to_json()
    assert "the-key" not in span.to_json()
    trace = f"{span.context.trace_id:032x}-{span.context.span_id:016x}"
    assert all(trace in call.request.headers["traceparent"] for call in route.calls)
    sums = recorder.sums()
    assert sums["gen_ai.client.token.usage", "input"] == 700
    assert sums["gen_ai.client.token.usage", "output"] == 5
    assert sums["gen_ai.client.operation.duration", None] > 0


@respx.mock
async def test_spans_of_failed_calls(tiny: EncodedImage) -> None:
    respx.post(f"{BASE}/query").respond(401)
    recorder = Recorder()
    async with AsyncClient("k", hooks=recorder.hooks) as client:
        with pytest.raises(md.AuthenticationError):
            await client.query(tiny, "?")
        with pytest.raises(md.ImageError):
            await client.query(b"no image", "?")
    refused, unsent = recorder.spans
    assert refused.name == "query"
    assert refused.attributes["error.type"] == "AuthenticationError"
    assert refused.attributes["http.response.status_code"] == 401
    assert refused.status.status_code is StatusCode.ERROR
    assert unsent.attributes["error.type"] == "ImageError"
