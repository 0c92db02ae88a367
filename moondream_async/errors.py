"""Every error this package raises: one tree, plain data, safe to pickle and to keep."""

from __future__ import annotations

from typing import Any


class MoondreamError(Exception):
    """The base of every error of this package.

    Errors hold plain values only: they pickle, and keep no request, response or image alive.

    Attributes:
        message: What went wrong and, where it is known, what to do about it.
        attempts: How many requests were sent before the error was raised; 0 if none was. `str(error)` says so if
            there were several.
    """

    attempts: int = 0

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())

    def __str__(self) -> str:
        details = self._details()
        return f"{self.message} ({', '.join(details)})" if details else self.message

    def _details(self) -> list[str]:
        """List what `str` adds to the message."""
        return [f"after {self.attempts} attempts"] if self.attempts > 1 else []


def _rebuild(cls: type[MoondreamError], args: tuple[Any, ...], state: dict[str, Any]) -> MoondreamError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(MoondreamError, ValueError):
    """An argument or a setting is not valid; nothing was sent."""


class ImageError(MoondreamError, ValueError):
    """The image cannot be read or prepared; nothing was sent.

    Attributes:
        image: Which image it is about, as the message names it: its path, URL (without user, password and query) or
            file name, or what it is, such as `bytes (1,234 bytes)`; None where no image is involved.
    """

    image: str | None = None


class ResultsFileError(MoondreamError):
    """A results file cannot be used: it holds something else, belongs to another run, is in use or not writable."""


class OutputFileError(ResultsFileError, ConfigurationError):
    """A results file cannot be opened for a run; nothing was sent, and the file is unchanged."""


class AnswerError(MoondreamError, ValueError):
    """The model's answer does not have the requested form.

    Attributes:
        answers: The raw answers of all attempts.
    """

    def __init__(self, message: str, *, answers: list[str] | None = None) -> None:
        super().__init__(message)
        self.answers = list(answers or [])


class PathError(MoondreamError, ValueError):
    """A segmentation path is not valid, or has no box that it is relative to."""


class TilesError(MoondreamError):
    """Some tiles of an image failed (`Tiles(strict=True)`).

    Attributes:
        partial: The merged result of all other tiles.
        failed: The tiles that failed, as boxes 0..1 of the image, each with its error.
    """

    def __init__(
        self, message: str, *, partial: Any = None, failed: list[tuple[Any, MoondreamError]] | None = None
    ) -> None:
        super().__init__(message)
        self.partial = partial
        self.failed = list(failed or [])


class BatchError(MoondreamError):
    """A batch failed as a whole, or cannot be resumed.

    Attributes:
        code: The service's (`validation_error`, `limit_exceeded`, `empty_batch`, `invalid_model`, `processing_failed`,
            `timeout`), or ours: `not_completed`, `expired`, `folder` (the job's folder cannot be used).
        batch_id: The batch; None for errors of a job's folder.
    """

    def __init__(self, message: str, *, code: str | None = None, batch_id: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.batch_id = batch_id


class BatchFolderError(BatchError, ConfigurationError):
    """A job's folder cannot be created or written; nothing was sent."""


class BatchInputError(ConfigurationError):
    """A file of batch lines is not valid; nothing was sent.

    Attributes:
        problems: The first problems: the line number, from 1, and what is wrong.
    """

    def __init__(self, message: str, *, problems: list[tuple[int, str]] | None = None) -> None:
        super().__init__(message)
        self.problems = list(problems or [])


class BatchLineError(MoondreamError):
    """One line of a batch failed; the other lines are not affected.

    Attributes:
        code: The service's (`invalid_request`, `image_decode_failed`, `unknown_skill`, `processing_error`), or ours:
            `missing` (the results have nothing for the line), `unusable` (what they have is no result).
        line_index: The position of the line in its batch, from 0.
    """

    def __init__(self, message: str, *, code: str | None = None, line_index: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.line_index = line_index


class APIConnectionError(MoondreamError):
    """The server cannot be reached, or the connection broke before the answer was complete.

    Attributes:
        request_id: The queued request (fal.ai), which continues: its result can still be fetched.
    """

    request_id: str | None = None


class APITimeoutError(APIConnectionError, TimeoutError):
    """A timeout of `Timeouts`, or the deadline of `RetryPolicy`, expired."""


class StreamInterruptedError(MoondreamError):
    """A stream ended before its final event.

    Attributes:
        partial: What was received: the text of a query or caption stream, the
            `SegmentResult` (coarse path, and the box if it was received) of a segment stream.
    """

    def __init__(self, message: str, *, partial: Any = None) -> None:
        super().__init__(message)
        self.partial = partial


class APIError(MoondreamError):
    """The server answered with an error.

    Attributes:
        status: The HTTP status. Moondream Station reports most failures with status 200 and
            an `error` body; those are errors too, and keep the 200 they came with.
        type: The server's `error.type`, if it sent one.
        code: The server's `error.code`, if it sent one.
        param: The server's `error.param`, the name of the field at fault, if it sent one.
        message: The message of the server.
        request_id: From the body's `request_id` or the header `x-request-id`.
        retry_after: The seconds to wait, from `Retry-After` or `retry-after-ms`.
        body: The decoded JSON body, or the start of the text if it was not JSON.
        url: The address that was called, without its query. `str(error)` has it where the address may be wrong: for
            404, and for bodies that are not JSON.
        hint: What to do about it, in our words, for a refused key: which key it was, and where to get one.
            `str(error)` ends with it.
    """

    url: str | None = None
    hint: str | None = None

    def __init__(
        self,
        message: str,
        *,
        status: int,
        type: str | None = None,
        code: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        body: Any = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.code = code
        self.param = param
        self.request_id = request_id
        self.retry_after = retry_after
        self.body = body

    def __str__(self) -> str:
        return " ".join(part for part in (super().__str__(), self.hint) if part)

    def _details(self) -> list[str]:
        details = [f"HTTP {self.status}"]
        if self.code:
            details.append(self.code)
        if self.url and (self.status in (404, 405) or isinstance(self.body, str)):
            details.append(self.url)
        if self.request_id:
            details.append(f"request {self.request_id}")
        return details + super()._details()


class BadRequestError(APIError):
    """400: a parameter or the image is invalid."""


class AuthenticationError(APIError):
    """401: the API key is missing or wrong."""


class PermissionDeniedError(APIError):
    """403: the key is valid, but does not allow this."""


class NotFoundError(APIError):
    """404: the server has no such route, model or skill."""


class ConflictError(APIError):
    """409: the resource already exists in another form."""


class PayloadTooLargeError(APIError):
    """413: the image is larger than the service accepts (10 MB)."""


class UnprocessableEntityError(APIError):
    """422: the request is well-formed, but not accepted."""


class RateLimitError(APIError):
    """429: too many requests; `retry_after` is the time to wait, if the server sent one."""


class ServerError(APIError):
    """5xx: the server, or a gateway in front of it, failed."""
