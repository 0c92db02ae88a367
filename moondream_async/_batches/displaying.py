"""Show the progress of a job's upload, and of the job on the server."""

from __future__ import annotations

from .._progress.displays import Display
from .models import BatchJob, UploadProgress


def show_upload(display: Display, now: UploadProgress) -> None:
    """Update a display with the progress of `create` or `submit`."""
    if now.sent:
        display.update(now.sent / 1e6, now.size / 1e6, "uploading", unit="MB")
    else:
        display.update(now.items, now.total, f"{now.refused:,} rejected", unit="images prepared")


def show_job(display: Display, now: BatchJob) -> None:
    """Update a display with the progress of `wait`."""
    done = now.progress.completed + now.progress.failed
    display.update(done, now.progress.total or None, f"{now.status}, {now.progress.failed:,} failed", unit="lines")
