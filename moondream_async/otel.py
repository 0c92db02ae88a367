"""OpenTelemetry: one span and two metrics per call, following the GenAI semantic conventions (extra `otel`).

```python
from moondream_async import AsyncClient
from moondream_async.otel import opentelemetry

client = AsyncClient(hooks=opentelemetry())
```

A span covers a call with all its attempts. Its attributes are `gen_ai.*` for operation, model, tokens and finish
reason, `server.*`, `http.response.status_code` and `error.type`; each retry adds a `retry` event. Requests carry
`traceparent`. Prompts, answers and images are never recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .errors import ConfigurationError
from .hooks import CallInfo, EndInfo, EventInfo, Hooks, RequestInfo, ResponseInfo, RetryInfo

try:
    from opentelemetry import metrics, propagate, trace
except ImportError:
    raise ConfigurationError("This needs OpenTelemetry: pip install 'moondream-async[otel]'.") from None

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

_SPAN = "moondream_async.otel.span"  # key in CallInfo.context
_DURATION_BOUNDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKEN_BOUNDS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)


def opentelemetry(tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None) -> Hooks:
    """Create hooks that trace and measure calls.

    Args:
        tracer_provider: Provider of the tracer. Default: the global one.
        meter_provider: Provider of the meter for `gen_ai.client.operation.duration` (seconds) and
            `gen_ai.client.token.usage` (tokens). Default: the global one.
    """
    observer = _Observer(tracer_provider, meter_provider)
    return Hooks(
        request=observer.request,
        response=observer.response,
        retry=observer.retry,
        event=observer.event,
        end=observer.end,
    )


class _Observer:
    def __init__(self, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None) -> None:
        self._tracer = trace.get_tracer("moondream_async", tracer_provider=tracer_provider)
        meter = metrics.get_meter("moondream_async", meter_provider=meter_provider)
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="Duration of calls, including retries and waits",
            explicit_bucket_boundaries_advisory=_DURATION_BOUNDS,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens",
            explicit_bucket_boundaries_advisory=_TOKEN_BOUNDS,
        )

    def request(self, info: RequestInfo) -> None:
        span = info.call.context.get(_SPAN) or self._start(info.call)
        span.set_attribute("http.request.resend_count", info.attempt - 1)
        propagate.inject(info.headers, context=trace.set_span_in_context(span))

    def response(self, info: ResponseInfo) -> None:
        span = info.call.context.get(_SPAN)
        if span is not None and info.status is not None:
            span.set_attribute("http.response.status_code", info.status)

    def retry(self, info: RetryInfo) -> None:
        span = info.call.context.get(_SPAN)
        if span is not None:
            details = {"attempt": info.attempt, "delay": info.delay, "error.type": type(info.error).__name__}
            span.add_event("retry", details)

    def event(self, info: EventInfo) -> None:
        span = info.call.context.get(_SPAN)
        if span is not None and info.index == 0:
            span.add_event("first_event", {"elapsed": info.elapsed})

    def end(self, info: EndInfo) -> None:
        span: Span = info.call.context.pop(_SPAN, None) or self._start(info.call)
        attributes = _attributes(info.call)
        if info.error is not None:
            attributes["error.type"] = type(info.error).__name__
            span.set_attribute("error.type", type(info.error).__name__)
            span.set_status(trace.StatusCode.ERROR, type(info.error).__name__)
        if info.request_id is not None:
            span.set_attribute("gen_ai.response.id", info.request_id)
        if info.finish_reason is not None:
            span.set_attribute("gen_ai.response.finish_reasons", [info.finish_reason])
        counts = {kind: getattr(info.metrics, f"{kind}_tokens", None) for kind in ("input", "output")}
        known = {kind: count for kind, count in counts.items() if count is not None}
        for kind, count in known.items():
            span.set_attribute(f"gen_ai.usage.{kind}_tokens", count)
        span.end()
        self._duration.record(info.elapsed, attributes)
        for kind, count in known.items():
            self._tokens.record(count, {**attributes, "gen_ai.token.type": kind})

    def _start(self, call: CallInfo) -> Span:
        name = f"{call.operation} {call.model}" if call.model else call.operation
        started = int(call.started * 1e9)
        span = self._tracer.start_span(
            name, kind=trace.SpanKind.CLIENT, attributes=_attributes(call), start_time=started
        )
        call.context[_SPAN] = span
        return span


def _attributes(call: CallInfo) -> dict[str, Any]:
    server = urlsplit(call.base_url)
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": call.operation,
        "gen_ai.provider.name": "moondream",
        "server.address": server.hostname or "",
        "server.port": server.port or (443 if server.scheme == "https" else 80),
    }
    if call.model:
        attributes["gen_ai.request.model"] = call.model
    return attributes
