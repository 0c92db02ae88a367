"""Error responses: every envelope of the reference pages becomes the right class, with its details."""

from __future__ import annotations

import json
from typing import Any

import pytest

import moondream_async as md
from moondream_async._wire import errors

CLOUDFLARE = b"<!DOCTYPE html><html><head><title>api.moondream.ai | 524: A timeout\n occurred</title></head></html>"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, md.BadRequestError),
        (401, md.AuthenticationError),
        (402, md.APIError),
        (403, md.PermissionDeniedError),
        (404, md.NotFoundError),
        (409, md.ConflictError),
        (413, md.PayloadTooLargeError),
        (422, md.UnprocessableEntityError),
        (429, md.RateLimitError),
        (500, md.ServerError),
        (503, md.ServerError),
        (524, md.ServerError),
        (307, md.APIError),
    ],
)
def test_class_by_status(status: int, kind: type[md.APIError]) -> None:
    error = errors.from_response(status, {}, b"{}", now=0)
    assert type(error) is kind
    assert error.status == status


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "No such key", "type": "t", "param": "p", "code": "c"}}', "No such key"),
        (b'{"error": {"message": "m", "code": 7, "details": {}}}', "m"),
        (b'{"error": {"code": "only_code"}}', "only_code"),
        (b'{"error": "Invalid JSON body"}', "Invalid JSON body"),
        (b'{"error": "Inference failed", "detail": "out of memory"}', "Inference failed: out of memory"),
        (b'{"detail": "Inference service not running"}', "Inference service not running"),
        (b'{"detail": [{"loc": ["body", "object"], "msg": "field required"}]}', "body.object: field required"),
        (b'{"message": "plain"}', "plain"),
        (b"Too many requests\n", "Too many requests"),
        (CLOUDFLARE, "api.moondream.ai | 524: A timeout occurred"),
        (b"<html><body>no title</body></html>", "The server answered with status 500 and no message."),
        (b"", "The server answered with status 500 and no message."),
        (b"null", "The server answered with status 500 and no message."),
        (b'{"error": {}}', "The server answered with status 500 and no message."),
        (b'{"detail": []}', "The server answered with status 500 and no message."),
        (b"\xff\xfe\x00", "\ufffd\ufffd\x00"),
    ],
)
def test_message_of_every_envelope(body: bytes, message: str) -> None:
    assert errors.from_response(500, {}, body, now=0).message == message


def test_details() -> None:
    body = json.dumps({"error": {"message": "m", "type": "t", "param": "p", "code": "c"}, "request_id": "r"}).encode()
    error = errors.from_response(429, {"retry-after": "3", "x-request-id": "h"}, body, now=0)
    assert (error.type, error.param, error.code, error.request_id, error.retry_after) == ("t", "p", "c", "r", 3.0)
    assert error.body["request_id"] == "r"
    assert str(error) == "m (HTTP 429, c, request r)"
    assert errors.from_response(500, {"x-request-id": "h"}, b"", now=0).request_id == "h"


def test_endless_bodies_are_cut() -> None:
    error = errors.from_response(500, {}, b"x" * 1_000_000, now=0)
    assert len(error.message) <= 500
    assert len(error.body) <= 4_000


def test_redirects_are_explained() -> None:
    error = errors.from_response(308, {"location": "https://elsewhere/"}, b"", now=0)
    assert "redirects to https://elsewhere/" in error.message


@pytest.mark.parametrize(
    ("body", "kind", "implied"),
    [
        ({"error": "Queue is full", "status": "rejected"}, md.RateLimitError, 429),
        ({"error": "Request timeout", "status": "timeout"}, md.ServerError, 504),
        ({"error": "boom", "status": "error"}, md.ServerError, 500),
        ({"error": "image_url is required"}, md.BadRequestError, 400),
        ({"error": "Incorrect padding"}, md.BadRequestError, 400),
        ({"error": "image file is truncated"}, md.BadRequestError, 400),
        ({"error": "Function 'segment' not available"}, md.NotFoundError, 404),
    ],
)
def test_station_errors_with_status_200(body: Any, kind: type[md.APIError], implied: int) -> None:
    error = errors.from_success(200, {}, body, now=0)
    assert type(error) is kind
    assert error.status == 200
    assert error.message == body["error"]
    assert errors.effective_status(error) == implied


@pytest.mark.parametrize("body", [{"answer": "a"}, {"answer": "a", "error": None}, {"error": ""}, [], None, "error"])
def test_responses_without_an_error(body: Any) -> None:
    assert errors.from_success(200, {}, body, now=0) is None


def test_an_error_event_is_a_server_error() -> None:
    assert isinstance(errors.from_event(200, {}, {"error": "Inference failed"}, now=0), md.ServerError)
    assert isinstance(errors.from_event(200, {}, {"error": "x", "status": "rejected"}, now=0), md.RateLimitError)
    assert errors.from_event(200, {}, {"chunk": "error"}, now=0) is None


def test_details_that_are_nested_too_deeply() -> None:
    for depth in (100, 900, 100_000):
        nested = "[" * depth + "]" * depth
        for body in (f'{{"detail": [{{"loc": [{nested}], "msg": {nested}}}]}}', f'{{"detail": [{nested}]}}'):
            assert errors.from_response(422, {}, body.encode(), now=0).message
