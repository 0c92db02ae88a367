"""fal.ai: hosted Moondream models, and the queue, uploads and webhooks for any endpoint.

```python
from moondream_async.fal import FalClient

with FalClient() as client:  # FAL_KEY
    print(client.caption("photo.jpg").caption)
    print(client.batched(["a.jpg", "b.jpg"]).outputs)
```
"""

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
from ._sync.fal_client import FalClient
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
    "verify_webhook",
]
