"""What batches and jobs are, as they are told (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from .._public import public
from ..errors import ConfigurationError
from ..types import Fields

FAILED = ("failed", "cancelled", "canceled", "expired", "aborted")
"""The documented word for a batch that came to nothing, and others that it could be told by."""

FINISHED = ("completed", *FAILED)

UNKNOWN = "unknown"
"""The status of a batch that was not asked about."""


@public()
@attrs.frozen(kw_only=True)
class BatchProgress(Fields):
    """How far the server is (wire field `progress`).

    Attributes:
        total: Lines.
        completed: Those done with a result.
        failed: Those that failed.
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
    """A file of results (wire field `outputs`).

    Attributes:
        index: Its place among them.
        url: Presigned: whoever has it may read the file, without a key, until it expires.
    """

    index: int
    url: str = attrs.field(repr=False)


@public()
@attrs.frozen(kw_only=True)
class Batch(Fields):
    """A batch on the server, as it was when it was asked about; also reads like the dict it was on the wire.

    Attributes:
        id: Its name.
        status: `"chunking"`, `"processing"`, `"completed"` or `"failed"`; `"unknown"` if it was not asked about yet.
        model: What answers.
        progress: Lines done so far; None while it is chunked.
        usage: Tokens; None until it is completed.
        outputs: Files of results; `client.batches.results` reads them.
        error: Why it failed (a text, or an object with `code` and `message`).
        size: Bytes of the input.
        created_at: ISO 8601.
        completed_at: ISO 8601.
        expires_at: When the results are deleted: after 7 days. ISO 8601.
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
        """Whether it is completed or failed."""
        return self.status in FINISHED or self.completed_at is not None

    @property
    def error_code(self) -> str | None:
        """Such as `"validation_error"`, if it failed."""
        return _part(self.error, "code") or (self.error if isinstance(self.error, str) else None)

    @property
    def error_message(self) -> str | None:
        """The server's words, if it failed."""
        return _part(self.error, "message") or (self.error if isinstance(self.error, str) else None)


def _part(error: Any, name: str) -> str | None:
    value = error.get(name) if isinstance(error, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return value if isinstance(value, str) else None


@public()
@attrs.frozen(kw_only=True)
class BatchJob:
    """What was handed in by one `create` or `submit`: one batch, or several where there are too many lines for one.

    Attributes:
        batches: As they were when they were last asked about, in the order of the items.
        folder: Where the job is kept on this machine; None if it is known by its batch's id only.
        items: How many items there were, those included that could not be sent; None if that is not known.
        refused: Those among them that could not be sent, such as files that are no image; `results` tells why.
        cost_limit_reached: Whether `max_cost` kept `create` from adding all items.
    """

    batches: tuple[Batch, ...] = ()
    folder: Path | None = None
    items: int | None = None
    refused: int = 0
    cost_limit_reached: bool = False

    @property
    def ids(self) -> list[str]:
        """Of its batches."""
        return [batch.id for batch in self.batches]

    @property
    def id(self) -> str:
        """Of its only batch.

        Raises:
            ConfigurationError: It has none, or several; `.ids` has all.
        """
        if len(self.batches) != 1:
            raise ConfigurationError(f"This job has {len(self.batches)} batches; see its .ids.")
        return self.batches[0].id

    @property
    def status(self) -> str:
        """Of its batches together: `"failed"` once all are finished and one failed; else that of the hindmost."""
        found = {batch.status for batch in self.batches}
        order = ("chunking", "processing", *(found - {"chunking", "processing", *FINISHED}), *FAILED, "completed")
        return next((status for status in order if status in found), "completed")

    @property
    def finished(self) -> bool:
        """Whether all of its batches are completed or failed."""
        return all(batch.finished for batch in self.batches)

    @property
    def progress(self) -> BatchProgress:
        """Of its batches together."""
        each = [batch.progress for batch in self.batches if batch.progress is not None]
        return BatchProgress(
            total=sum(one.total for one in each),
            completed=sum(one.completed for one in each),
            failed=sum(one.failed for one in each),
        )

    @property
    def usage(self) -> BatchUsage:
        """Of its batches together."""
        each = [batch.usage for batch in self.batches if batch.usage is not None]
        return BatchUsage(
            input_tokens=sum(one.input_tokens for one in each), output_tokens=sum(one.output_tokens for one in each)
        )


@public()
@attrs.frozen(kw_only=True)
class UploadProgress:
    """How far a job has come on its way to the server.

    Attributes:
        items: Items that are in the file, or were refused.
        total: Items in all; None if that is not known.
        refused: Items that cannot be sent.
        sent: Bytes that have been sent, of all batches.
        size: Bytes of all batches so far.
    """

    items: int = 0
    total: int | None = None
    refused: int = 0
    sent: int = 0
    size: int = 0
