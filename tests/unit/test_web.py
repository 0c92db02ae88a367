"""Errors as a web backend answers them."""

from __future__ import annotations

import pytest

from moondream_async import errors, web


def api_error(kind: type[errors.APIError], status: int, **details: object) -> errors.APIError:
    return kind("The server's words.", status=status, **details)  # type: ignore[arg-type]


STATUSES = [
    (errors.ConfigurationError("question must not be empty."), 400),
    (errors.ImageError("'a.txt' is not an image."), 422),
    (errors.OutputFileError("cannot be written"), 500),
    (errors.AnswerError("no number"), 502),
    (api_error(errors.BadRequestError, 400), 400),
    (api_error(errors.AuthenticationError, 401), 500),
    (api_error(errors.PermissionDeniedError, 403), 500),
    (api_error(errors.NotFoundError, 404), 502),
    (api_error(errors.ConflictError, 409), 409),
    (api_error(errors.PayloadTooLargeError, 413), 413),
    (api_error(errors.UnprocessableEntityError, 422), 422),
    (api_error(errors.RateLimitError, 429), 429),
    (api_error(errors.RateLimitError, 200), 429),  # Station's "Queue is full"
    (api_error(errors.APIError, 402), 502),
    (api_error(errors.ServerError, 500), 502),
    (api_error(errors.ServerError, 503), 503),
    (api_error(errors.ServerError, 504), 504),
    (api_error(errors.ServerError, 524), 502),
    (errors.APIConnectionError("no route to http://10.0.0.5:2020/v1"), 502),
    (errors.APITimeoutError("too slow"), 504),
    (errors.StreamInterruptedError("cut", partial="A"), 502),
    (errors.TilesError("2 of 9 calls for tiles failed"), 502),
    (errors.MoondreamError("other"), 500),
    (KeyError("a bug"), 500),
]


@pytest.mark.parametrize(("exc", "status"), STATUSES, ids=lambda value: type(value).__name__)
def test_status(exc: BaseException, status: int):
    assert web.http_status(exc) == status


def test_every_error_has_a_status_for_it():
    covered = {type(exc) for exc, _ in STATUSES}
    exported = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    ours = {kind for kind in exported if kind.__module__ == errors.__name__}
    # Errors of work on files have the status of the class they come from.
    assert {kind.__name__ for kind in ours - covered} == {
        "BatchError", "BatchFolderError", "BatchInputError", "BatchLineError", "PathError", "ResultsFileError",
    }  # fmt: skip


def test_body_has_the_form_of_moondreams_api():
    error = api_error(errors.RateLimitError, 429, code="rate_limit_exceeded", retry_after=2.0, request_id="r1")
    assert web.error_body(error) == {
        "error": {
            "type": "rate_limit_error",
            "message": "The server's words.",
            "code": "rate_limit_exceeded",
            "retry_after": 2.0,
            "request_id": "r1",
        }
    }
    assert web.error_body(errors.ImageError("'a.txt' is text."))["error"]["type"] == "image_error"
    assert web.error_body(errors.APITimeoutError("x"))["error"]["type"] == "api_timeout_error"


@pytest.mark.parametrize(
    "exc",
    [
        errors.APIConnectionError("The connection to http://10.0.0.5:2020/v1 failed"),
        errors.APITimeoutError("No response from http://10.0.0.5:2020/v1"),
        errors.StreamInterruptedError("The stream was interrupted: http://10.0.0.5:2020/v1"),
        api_error(errors.AuthenticationError, 401),
        KeyError("secret-10.0.0.5"),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_body_hides_what_is_the_backends_own(exc: BaseException):
    if isinstance(exc, errors.APIError):
        exc.hint = "The key ends with ...10.0.0.5"
    assert "10.0.0.5" not in str(web.error_body(exc))
    assert web.error_body(exc)["error"]["message"]
