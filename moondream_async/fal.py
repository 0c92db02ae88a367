"""fal.ai: hosted Moondream models, and the queue, uploads and webhooks for any endpoint.

```python
from moondream_async.fal import FalClient

with FalClient() as client:  # FAL_KEY
    print(client.caption("photo.jpg").caption)
    print(client.batched(["a.jpg", "b.jpg"]).outputs)
```

Code for `fal-client` runs with `from moondream_async import fal as fal_client`: there are `subscribe`, `submit`,
`status`, `result`, `cancel`, `upload`, `upload_file`, `upload_image`, their `_async` forms, and `encode`,
`encode_file`, `encode_image`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._fal.async_client import AsyncFalClient
from ._fal.models import (
    AclRule,
    BatchedResult,
    Completed,
    InProgress,
    Lifecycle,
    Log,
    Queued,
    Status,
    WebhookEvent,
    WebhookVerificationError,
)
from ._fal.request_handle import AsyncRequestHandle
from ._fal.webhooks import verify_webhook
from ._official_names import advise
from ._sync.fal_client import FalClient
from ._sync.fal_functions import (
    cancel,
    cancel_async,
    encode,
    encode_file,
    encode_image,
    result,
    result_async,
    status,
    status_async,
    submit,
    submit_async,
    subscribe,
    subscribe_async,
    upload,
    upload_async,
    upload_file,
    upload_file_async,
    upload_image,
    upload_image_async,
)
from ._sync.fal_handle import RequestHandle

__all__ = [
    "AclRule",
    "AsyncFalClient",
    "AsyncRequestHandle",
    "BatchedResult",
    "Completed",
    "FalClient",
    "InProgress",
    "Lifecycle",
    "Log",
    "Queued",
    "RequestHandle",
    "Status",
    "WebhookEvent",
    "WebhookVerificationError",
    "cancel",
    "cancel_async",
    "encode",
    "encode_file",
    "encode_image",
    "result",
    "result_async",
    "status",
    "status_async",
    "submit",
    "submit_async",
    "subscribe",
    "subscribe_async",
    "upload",
    "upload_async",
    "upload_file",
    "upload_file_async",
    "upload_image",
    "upload_image_async",
    "verify_webhook",
]

if not TYPE_CHECKING:  # type checkers report unknown names themselves

    def __getattr__(name: str) -> object:
        raise advise("fal", name)
