"""Celery tasks with one client for each worker process.

    pip install moondream-async 'celery[redis]'
    celery --app celery_tasks worker --concurrency 4

Elsewhere: `from celery_tasks import caption` and `caption.delay("photo.jpg").get(timeout=120)`.
"""

import os
from functools import cache
from typing import Any

from celery import Celery, signals  # type: ignore[import-untyped]

from moondream_async import APIConnectionError, APITimeoutError, Client, RateLimitError, ServerError

app: Any = Celery(
    "celery_tasks",
    broker=os.environ.get("CELERY_BROKER_URL", "redis://localhost:6379/0"),
    backend=os.environ.get("CELERY_RESULT_BACKEND", "redis://localhost:6379/1"),
)
app.conf.task_acks_late = True  # a task whose worker dies is run again
app.conf.worker_prefetch_multiplier = 1  # tasks wait in the queue, not in a busy worker

# The client has retried these for seconds; the queue retries them for minutes.
LATER = {
    "autoretry_for": (APIConnectionError, APITimeoutError, RateLimitError, ServerError),
    "max_retries": 5,
    "retry_backoff": 30,
}


@cache
def client() -> Client:
    """Return this process's client: opened by its first task, used by all of them, in any number of threads."""
    return Client()


@signals.worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def close_client(**_: Any) -> None:
    if client.cache_info().currsize:
        client().close()


@app.task(**LATER)  # type: ignore[untyped-decorator]
def caption(path: str) -> str:
    return client().caption(path, "short").caption


@app.task(**LATER)  # type: ignore[untyped-decorator]
def detect(path: str, label: str) -> dict[str, Any]:
    return client().detect(path, label).to_dict()  # JSON, as Celery wants results
