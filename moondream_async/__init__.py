"""moondream-async: the async-first SDK for the Moondream vision language model.

`AsyncClient` for asyncio and trio, `Client` (and `vl()`) for everything else: the same API.
Names are loaded when they are first used; importing this package loads neither httpx nor Pillow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._forks import no_fork
from ._version import __version__

if TYPE_CHECKING:
    from .batches.client import AsyncBatches
    from .batches.sync import Batches
    from .batches.types import Batch, BatchJob, BatchOutput, BatchProgress, BatchUsage, UploadProgress
    from .bulk.items import Outcome
    from .bulk.mapping import AsyncMap
    from .bulk.run import RunSummary
    from .client import AsyncClient
    from .config import RetryPolicy, SamplingSettings, Timeouts
    from .errors import (
        AnswerError,
        APIConnectionError,
        APIError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        BatchError,
        BatchFolderError,
        BatchInputError,
        BatchLineError,
        ConfigurationError,
        ConflictError,
        ImageError,
        MoondreamError,
        NotFoundError,
        OutputFileError,
        PathError,
        PayloadTooLargeError,
        PermissionDeniedError,
        RateLimitError,
        ResultsFileError,
        ServerError,
        StreamInterruptedError,
        UnprocessableEntityError,
    )
    from .hooks import CallInfo, EndInfo, EventInfo, Hooks, RequestInfo, ResponseInfo, RetryInfo, Stats
    from .images.encoded import EncodedImage
    from .images.options import ImageOptions
    from .prices import Prices
    from .streams import AsyncChatStream, AsyncSegmentStream, AsyncTextStream
    from .sync import Client, ft, vl
    from .sync_streams import ChatStream, Map, SegmentStream, TextStream
    from .tuning.client import AsyncTuning
    from .tuning.finetune import AsyncFinetune
    from .tuning.sync import Tuning
    from .tuning.sync_finetune import Finetune
    from .tuning.types import (
        Checkpoint,
        CheckpointDownload,
        FinetuneInfo,
        LoggedMetrics,
        Rollouts,
        SavedCheckpoint,
        TrainStep,
    )
    from .types import (
        BoundingBox,
        CaptionResult,
        ChatDelta,
        ChatResult,
        DetectResult,
        Grounding,
        Meta,
        Metrics,
        Model,
        Point,
        PointResult,
        QueryResult,
        Reasoning,
        SegmentResult,
        SegmentUpdate,
    )

_HOMES = {
    "tuning.client": ["AsyncTuning"],
    "tuning.finetune": ["AsyncFinetune"],
    "tuning.sync": ["Tuning"],
    "tuning.sync_finetune": ["Finetune"],
    "tuning.types": [
        "Checkpoint",
        "CheckpointDownload",
        "FinetuneInfo",
        "LoggedMetrics",
        "Rollouts",
        "SavedCheckpoint",
        "TrainStep",
    ],
    "batches.client": ["AsyncBatches"],
    "batches.sync": ["Batches"],
    "batches.types": ["Batch", "BatchJob", "BatchOutput", "BatchProgress", "BatchUsage", "UploadProgress"],
    "client": ["AsyncClient"],
    "sync": ["Client", "ft", "vl"],
    "sync_streams": ["ChatStream", "Map", "SegmentStream", "TextStream"],
    "bulk.items": ["Outcome"],
    "bulk.mapping": ["AsyncMap"],
    "bulk.run": ["RunSummary"],
    "streams": ["AsyncChatStream", "AsyncSegmentStream", "AsyncTextStream"],
    "config": ["RetryPolicy", "SamplingSettings", "Timeouts"],
    "hooks": ["CallInfo", "EndInfo", "EventInfo", "Hooks", "RequestInfo", "ResponseInfo", "RetryInfo", "Stats"],
    "images.encoded": ["EncodedImage"],
    "images.options": ["ImageOptions"],
    "prices": ["Prices"],
    "errors": [
        "APIConnectionError",
        "APIError",
        "APITimeoutError",
        "AnswerError",
        "AuthenticationError",
        "BadRequestError",
        "BatchError",
        "BatchFolderError",
        "BatchInputError",
        "BatchLineError",
        "ConfigurationError",
        "ConflictError",
        "ImageError",
        "MoondreamError",
        "NotFoundError",
        "OutputFileError",
        "PathError",
        "PayloadTooLargeError",
        "PermissionDeniedError",
        "RateLimitError",
        "ResultsFileError",
        "ServerError",
        "StreamInterruptedError",
        "UnprocessableEntityError",
    ],
    "types": [
        "BoundingBox",
        "CaptionResult",
        "ChatDelta",
        "ChatResult",
        "DetectResult",
        "Grounding",
        "Meta",
        "Metrics",
        "Model",
        "Point",
        "PointResult",
        "QueryResult",
        "Reasoning",
        "SegmentResult",
        "SegmentUpdate",
    ],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "AnswerError",
    "AsyncBatches",
    "AsyncChatStream",
    "AsyncClient",
    "AsyncFinetune",
    "AsyncMap",
    "AsyncSegmentStream",
    "AsyncTextStream",
    "AsyncTuning",
    "AuthenticationError",
    "BadRequestError",
    "Batch",
    "BatchError",
    "BatchFolderError",
    "BatchInputError",
    "BatchJob",
    "BatchLineError",
    "BatchOutput",
    "BatchProgress",
    "BatchUsage",
    "Batches",
    "BoundingBox",
    "CallInfo",
    "CaptionResult",
    "ChatDelta",
    "ChatResult",
    "ChatStream",
    "Checkpoint",
    "CheckpointDownload",
    "Client",
    "ConfigurationError",
    "ConflictError",
    "DetectResult",
    "EncodedImage",
    "EndInfo",
    "EventInfo",
    "Finetune",
    "FinetuneInfo",
    "Grounding",
    "Hooks",
    "ImageError",
    "ImageOptions",
    "LoggedMetrics",
    "Map",
    "Meta",
    "Metrics",
    "Model",
    "MoondreamError",
    "NotFoundError",
    "Outcome",
    "OutputFileError",
    "PathError",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "Point",
    "PointResult",
    "Prices",
    "QueryResult",
    "RateLimitError",
    "Reasoning",
    "RequestInfo",
    "ResponseInfo",
    "ResultsFileError",
    "RetryInfo",
    "RetryPolicy",
    "Rollouts",
    "RunSummary",
    "SamplingSettings",
    "SavedCheckpoint",
    "SegmentResult",
    "SegmentStream",
    "SegmentUpdate",
    "ServerError",
    "Stats",
    "StreamInterruptedError",
    "TextStream",
    "Timeouts",
    "TrainStep",
    "Tuning",
    "UnprocessableEntityError",
    "UploadProgress",
    "__version__",
    "ft",
    "vl",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with no_fork():
        value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
