"""Batches, jobs and their progress (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import attrs

from .._public import public
from .._wire.responses import is_object
from ..errors import ConfigurationError
from ..types import Fields

FAILED = ("failed", "cancelled", "canceled", "expired", "aborted")
"""Statuses of a batch that failed: the documented one, and other plausible ones."""

FINISHED = ("completed", *FAILED)

UNKNOWN = "unknown"
"""The status of a batch that was not fetched from the server yet."""


@public()
@attrs.frozen(kw_only=True)
class BatchProgress(Fields):
    """The server's progress (wire field `progress`).

    Attributes:
        total: Number of lines.
        completed: Lines with a result.
        failed: Lines that failed.
    """

    total: int = 0
    completed: int = 0
    failed: int = 0


@public()
@attrs.frozen(kw_only=True)
class BatchUsage(Fields):
    """Tokens of a batch (wire field `usage`), billed at half the usual price."""

    input_tokens: int = 0
    output_tokens: int = 0


@public()
@attrs.frozen(kw_only=True)
class BatchOutput(Fields):
    """A result file (wire field `outputs`).

    Attributes:
        index: Position among the batch's result files, from 0.
        url: Presigned URL: it gives access to the file without a key until it expires.
    """

    index: int
    url: str = attrs.field(repr=False)


@public()
@attrs.frozen(kw_only=True)
class Batch(Fields):
    """The state of a batch when it was last fetched; can also be read like the JSON object on the wire.

    Attributes:
        id: The batch's id.
        status: `"chunking"`, `"processing"`, `"completed"` or `"failed"`; `"unknown"` if it was not fetched yet.
        model: The model.
        progress: Lines done so far; None while the batch is being chunked.
        usage: Tokens used; None until the batch is completed.
        outputs: Result files; `client.batches.results` reads them.
        error: Why the batch failed (a string, or an object with `code` and `message`).
        size: Size of the input in bytes.
        created_at: Time of creation, in ISO 8601.
        completed_at: Time of completion, in ISO 8601.
        expires_at: Time when the results are deleted (after 7 days), in ISO 8601.
        extra: Fields this version does not know.
    """

    id: str
    status: str
    model: str | None = None
    progress: BatchProgress | None = None
    usage: BatchUsage | None = None
    outputs: tuple[BatchOutput, ...] | None = None
    error: Any = None
    size: int | None = None
    created_at: str | None = None
    completed_at: str | None = None
    expires_at: str | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)

    @property
    def finished(self) -> bool:
        """Whether the batch is completed or failed."""
        return self.status in FINISHED or self.completed_at is not None

    @property
    def error_code(self) -> str | None:
        """The error code, such as `"validation_error"`, if the batch failed."""
        return _part(self.error, "code") or (self.error if isinstance(self.error, str) else None)

    @property
    def error_message(self) -> str | None:
        """The server's error message, if the batch failed."""
        return _part(self.error, "message") or (self.error if isinstance(self.error, str) else None)


def _part(error: Any, name: str) -> str | None:
    value = error.get(name) if is_object(error) else None
    return value if isinstance(value, str) else None


Counts = TypeVar("Counts", BatchProgress, BatchUsage)


def _sum(kind: type[Counts], values: Iterable[Counts | None]) -> Counts:
    """Return the sum of each count; values that are None count as 0."""
    present = [value for value in values if value is not None]
    return kind(**{field.name: sum(getattr(value, field.name) for value in present) for field in attrs.fields(kind)})


@public()
@attrs.frozen(kw_only=True)
class BatchJob:
    """A job created by `create` or `submit`: one batch, or several if there are too many lines for one.

    Attributes:
        batches: The batches when they were last fetched, in the order of the items.
        folder: The job's folder on this machine; None if only its batch's id is known.
        items: Number of items, including those that could not be sent; None if unknown.
        refused: Items that could not be sent, such as files that are not images; `results` gives their errors.
        cost_limit_reached: Whether `max_cost` kept `create` from adding all items.
    """

    batches: tuple[Batch, ...] = ()
    folder: Path | None = None
    items: int | None = None
    refused: int = 0
    cost_limit_reached: bool = False

    @property
    def ids(self) -> list[str]:
        """The ids of the batches."""
        return [batch.id for batch in self.batches]

    @property
    def id(self) -> str:
        """The id of the only batch.

        Raises:
            ConfigurationError: The job has no batch, or several; see `.ids`.
        """
        if len(self.batches) != 1:
            raise ConfigurationError(f"This job has {len(self.batches)} batches; see its .ids.")
        return self.batches[0].id

    @property
    def status(self) -> str:
        """The combined status: `"failed"` once all are finished and one failed; else that of the slowest batch."""
        statuses = {batch.status for batch in self.batches}
        order = ("chunking", "processing", *(statuses - {"chunking", "processing", *FINISHED}), *FAILED, "completed")
        return next((status for status in order if status in statuses), "completed")

    @property
    def finished(self) -> bool:
        """Whether all batches are completed or failed."""
        return all(batch.finished for batch in self.batches)

    @property
    def progress(self) -> BatchProgress:
        """The combined progress of the batches."""
        return _sum(BatchProgress, [batch.progress for batch in self.batches])

    @property
    def usage(self) -> BatchUsage:
        """The combined usage of the batches."""
        return _sum(BatchUsage, [batch.usage for batch in self.batches])


@public()
@attrs.frozen(kw_only=True)
class UploadProgress:
    """The progress of a job's upload.

    Attributes:
        items: Items that were written to the job's folder, or cannot be sent.
        total: Number of all items; None if unknown.
        refused: Items that cannot be sent.
        sent: Bytes sent so far, of all batches.
        size: Size in bytes of all batches so far.
    """

    items: int = 0
    total: int | None = None
    refused: int = 0
    sent: int = 0
    size: int = 0
