"""fal.ai's wire format: URLs, statuses, errors and retries."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moondream_async import APIError, ConfigurationError, PermissionDeniedError, RateLimitError, ServerError
from moondream_async._fal.models import AclRule
from moondream_async._fal.wire import (
    Endpoint,
    Hosts,
    NewLogs,
    extend_url,
    normalize_skill_response,
    parse_error,
    parse_status,
    retry_cause,
)
from moondream_async._wire.responses import InvalidResponse
from moondream_async.fal import Completed, InProgress, Lifecycle, Log, Queued


@pytest.mark.parametrize(
    ("text", "id", "app"),
    [
        ("fal-ai/moondream/batched", "fal-ai/moondream/batched", "fal-ai/moondream"),
        ("fal-ai/moondream2", "fal-ai/moondream2", "fal-ai/moondream2"),
        ("/fal-ai/moondream3-preview/query/", "fal-ai/moondream3-preview/query", "fal-ai/moondream3-preview"),
        ("workflows/me/mine/step", "workflows/me/mine/step", "workflows/me/mine"),
        ("1234-name", "1234-name", "1234/name"),
    ],
)
def test_endpoints(text: str, id: str, app: str) -> None:
    endpoint = Endpoint.of(text)
    assert (endpoint.id, endpoint.app) == (id, app)
    assert endpoint.request_url(Hosts(), "r-1") == f"https://queue.fal.run/{app}/requests/r-1"


def test_submit_urls() -> None:
    endpoint = Endpoint.of("fal-ai/moondream/batched")
    assert endpoint.submit_url(Hosts(), "", {}) == "https://queue.fal.run/fal-ai/moondream/batched"
    url = endpoint.submit_url(Hosts(), "/a b", {"fal_webhook": "https://me.example/x?y=1&z=2"})
    expected = (
        "https://queue.fal.run/fal-ai/moondream/batched/a%20b?fal_webhook=https%3A%2F%2Fme.example%2Fx%3Fy%3D1%26z%3D2"
    )
    assert url == expected


@pytest.mark.parametrize(
    "bad", ["moondream", "", "a//b", "../b", "a/..", "a/b?c", "https://fal.run/a/b", None, 5, "a/b c"]
)
def test_invalid_endpoints(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="endpoint"):
        Endpoint.of(bad)


@pytest.mark.parametrize("bad", ["", "../x", "..", "a/b", "a?b", "a b", "a%2fb", None, "x" * 257])
def test_invalid_request_ids(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="request id"):
        Endpoint.of("a/b").request_url(Hosts(), bad)


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("https://queue.fal.run/x", True),
        ("https://fal.run/x", True),
        ("https://rest.fal.ai/x", True),
        ("https://queue.falrun.com/x", True),
        ("http://queue.fal.run/x", False),
        ("https://queue.fal.run.evil.example/x", False),
        ("https://queue.fal.run@evil.example/x", False),
        ("https://queue.fal.run:8443/x", False),
        ("https://v3.fal.media/x", False),
        ("https://evil.example/queue.fal.run", False),
        ("https://[::1", False),
        ("https://queue\u2100.fal.run/x", False),
        ("", False),
    ],
)
def test_hosts_that_may_have_the_key(url: str, trusted: bool) -> None:
    assert Hosts().may_have_key(url) is trusted


def test_urls_of_the_file_store() -> None:
    assert Hosts().is_cdn("https://v3b.fal.media/files/b/x")
    assert not Hosts().is_cdn("https://fal.media.evil.example/x")
    assert not Hosts().is_cdn("http://v3.fal.media/x")
    assert not Hosts().is_cdn("https://[bad")
    assert not Hosts().is_cdn("https://a@evil.example/.fal.media")
    assert Hosts.at("http://127.0.0.1:1/fal/").is_cdn("http://127.0.0.1:1/fal/cdn/files/b/x")
    assert not Hosts.at("http://127.0.0.1:1/fal").is_cdn("https://v3.fal.media/x")
    with pytest.raises(ConfigurationError, match="base_url"):
        Hosts.at("ftp://x")


LOG = {"timestamp": "t", "message": "m", "level": "INFO", "source": "USER", "more": 1}


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"status": "IN_QUEUE", "queue_position": 3}, Queued(request_id="r", position=3)),
        ({"status": "IN_QUEUE"}, Queued(request_id="r")),
        ({"status": "IN_PROGRESS", "logs": None}, InProgress(request_id="r")),
        (
            {"status": "IN_PROGRESS", "logs": [LOG, "odd", {}]},
            InProgress(
                request_id="r",
                logs=(Log(message="m", level="INFO", timestamp="t", source="USER"), Log(message="")),
            ),
        ),
        ({"status": "COMPLETED"}, Completed(request_id="r")),
        (
            {"status": "COMPLETED", "metrics": {"inference_time": 1}, "error": "e", "error_type": "t"},
            Completed(request_id="r", metrics={"inference_time": 1}, error="e", error_type="t"),
        ),
    ],
)
def test_statuses(data: Any, status: Any) -> None:
    assert parse_status(data, "r") == status


@pytest.mark.parametrize("data", [{}, {"status": "FAILED"}, [], None, "COMPLETED"])
def test_invalid_statuses(data: Any) -> None:
    with pytest.raises(InvalidResponse, match="not a known request state"):
        parse_status(data, "r")


def logged(*messages: str) -> InProgress:
    return InProgress(request_id="r", logs=tuple(Log(message=message) for message in messages))


@pytest.mark.parametrize(
    ("windows", "reported"),
    [
        ([["a"], ["a", "b"], ["a", "b"], ["b", "c"]], "abc"),  # a sliding window
        ([["a"], ["b"], ["c"]], "abc"),  # only the newest
        ([["a"], ["b"], ["a", "b", "c"]], "abc"),  # the newest, then all
        ([["a", "a"], ["a", "a", "a"]], "aaa"),  # the process wrote the same line again
        ([[], ["a"], []], "a"),
    ],
)
def test_each_log_line_is_reported_once(windows: list[list[str]], reported: str) -> None:
    logs = NewLogs()
    lines = [log.message for window in windows for log in logs.only_new(logged(*window)).logs]  # type: ignore[union-attr]
    assert "".join(lines) == reported


def error(status: int, body: Any, **headers: str) -> APIError:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return parse_error(status, {name.replace("_", "-"): value for name, value in headers.items()}, data, now=0)


def test_errors() -> None:
    model = error(
        422,
        {"detail": [{"loc": ["body", "image_url"], "msg": "Failed", "type": "file_download_error"}]},
        x_fal_request_id="r1",
    )
    assert (model.type, model.param, model.request_id) == ("file_download_error", "body.image_url", "r1")
    assert "body.image_url: Failed" in str(model)
    platform = error(504, {"detail": "Request timed out", "error_type": "request_timeout"})
    assert isinstance(platform, ServerError)
    assert (platform.type, platform.message) == ("request_timeout", "Request timed out")
    assert error(400, {"detail": "no"}, x_fal_error_type="bad_request").type == "bad_request"
    locked = error(403, {"detail": "User is locked. Reason: Exhausted balance."})
    assert isinstance(locked, PermissionDeniedError)
    assert "balance, not about the key" in locked.message
    assert error(404, {"status": "NOT_FOUND"}).status == 404
    assert isinstance(error(429, b"slow"), RateLimitError)


@pytest.mark.parametrize(
    ("status", "headers", "retried", "retried_if_non_idempotent"),
    [
        (429, {}, True, True),
        (408, {}, True, False),
        (409, {}, True, False),
        (500, {}, False, False),
        (499, {}, False, False),
        (502, {}, True, False),
        (503, {}, True, True),
        (504, {}, True, False),
        (503, {"x-fal-request-id": "r"}, False, False),
        (504, {"x-fal-request-timeout-type": "user"}, False, False),
        (422, {}, False, False),
    ],
)
def test_retried_errors(status: int, headers: dict[str, str], retried: bool, retried_if_non_idempotent: bool) -> None:
    failure = parse_error(status, headers, b"<html>nginx", now=0)
    assert (retry_cause(failure, headers, is_final=True, non_idempotent=False) is not None) is retried
    assert (retry_cause(failure, headers, is_final=True, non_idempotent=True) is not None) is retried_if_non_idempotent
    # Status requests are not final: the retry policy alone decides.
    assert retry_cause(failure, headers, is_final=False, non_idempotent=False) is not None


def test_responses_in_moondreams_format() -> None:
    usage = {"input_tokens": 1}
    assert normalize_skill_response("answer", {"output": "x", "usage_info": usage, "new": 2}, "r") == {
        "request_id": "r",
        "answer": "x",
        "metrics": usage,
        "new": 2,
    }
    assert normalize_skill_response("path", {"path": None, "bbox": None}, "r")["path"] == ""
    with pytest.raises(InvalidResponse):
        normalize_skill_response("answer", [], "r")


@pytest.mark.parametrize(
    ("lifecycle", "wire"),
    [
        (Lifecycle(), {}),
        (Lifecycle(expires_in="never"), {}),
        (Lifecycle(expires_in="1d"), {"expiration_duration_seconds": 86400}),
        (Lifecycle(expires_in=90), {"expiration_duration_seconds": 90}),
        (
            Lifecycle(default="hide", rules=(AclRule(user="u", decision="allow"),)),
            {"initial_acl": {"default": "hide", "rules": [{"user": "u", "decision": "allow"}]}},
        ),
    ],
)
def test_lifecycles(lifecycle: Lifecycle, wire: Any) -> None:
    assert lifecycle.to_wire() == wire


@pytest.mark.parametrize("bad", [{"expires_in": True}, {"expires_in": 0}, {"expires_in": "2d"}, {"default": "deny"}])
def test_invalid_lifecycles(bad: Any) -> None:
    with pytest.raises(ConfigurationError):
        Lifecycle(**bad)


def test_extending_a_url() -> None:
    assert extend_url("https://x/a/status", "/stream", "logs=1") == "https://x/a/status/stream?logs=1"
    assert extend_url("https://x/a/status?region=eu#f", "/stream", "") == "https://x/a/status/stream?region=eu"
    assert extend_url("https://x/a/status?region=eu", "", "logs=1") == "https://x/a/status?region=eu&logs=1"
