"""fal.ai: its hosted Moondream models, and its queue, uploads and webhooks for any endpoint.

```python
from moondream_async.fal import FalClient

with FalClient() as client:  # FAL_KEY
    print(client.caption("photo.jpg").caption)
    print(client.batched(["a.jpg", "b.jpg"]).outputs)
```
"""

from .client import AsyncFalClient
from .handle import AsyncRequestHandle
from .sync import FalClient
from .sync_handle import RequestHandle
from .types import (
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
from .webhooks import verify_webhook

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
