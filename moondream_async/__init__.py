"""moondream-async: the async-first SDK for the Moondream vision language model.

`AsyncClient` is for asyncio and trio; `Client` (and `vl()`) has the same API for blocking code.
Names are imported on first use: importing this package imports neither httpx nor Pillow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._concurrency.forks import no_fork
from ._official_names import advise
from ._version import __version__

if TYPE_CHECKING:
    from ._batches.models import Batch, BatchJob, BatchOutput, BatchProgress, BatchUsage, UploadProgress
    from ._batches.resource import AsyncBatches
    from ._bulk.map import AsyncMap
    from ._bulk.outcomes import Done, Failed, Outcome
    from ._cache.store import Cache
    from ._client.async_client import AsyncClient
    from ._client.streams import AsyncChatStream, AsyncSegmentStream, AsyncTextStream
    from ._images.encoded import EncodedImage
    from ._images.options import ImageOptions
    from ._progress.figures import RunSummary
    from ._sync.batches import Batches
    from ._sync.client import Client
    from ._sync.finetune import Finetune
    from ._sync.official import ft, vl
    from ._sync.streams import ChatStream, Map, SegmentStream, TextStream
    from ._sync.tuning import Tuning
    from ._tuning.finetune import AsyncFinetune
    from ._tuning.models import (
        Checkpoint,
        CheckpointDownload,
        FinetuneInfo,
        LoggedMetrics,
        Rollouts,
        SavedCheckpoint,
        TrainStep,
    )
    from ._tuning.resource import AsyncTuning
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
        TilesError,
        UnprocessableEntityError,
    )
    from .hooks import CallInfo, EndInfo, EventInfo, Hooks, RequestInfo, ResponseInfo, RetryInfo, Stats
    from .prices import Prices
    from .tiles import Plan, Tiles
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
        TileReport,
    )

_MODULES = {
    "_tuning.resource": "AsyncTuning",
    "_tuning.finetune": "AsyncFinetune",
    "_sync.tuning": "Tuning",
    "_sync.finetune": "Finetune",
    "_tuning.models": "Checkpoint CheckpointDownload FinetuneInfo LoggedMetrics Rollouts SavedCheckpoint TrainStep",
    "_batches.resource": "AsyncBatches",
    "_sync.batches": "Batches",
    "_batches.models": "Batch BatchJob BatchOutput BatchProgress BatchUsage UploadProgress",
    "_cache.store": "Cache",
    "_client.async_client": "AsyncClient",
    "_sync.client": "Client",
    "_sync.official": "ft vl",
    "_sync.streams": "ChatStream Map SegmentStream TextStream",
    "_bulk.outcomes": "Done Failed Outcome",
    "_bulk.map": "AsyncMap",
    "_progress.figures": "RunSummary",
    "_client.streams": "AsyncChatStream AsyncSegmentStream AsyncTextStream",
    "config": "RetryPolicy SamplingSettings Timeouts",
    "hooks": "CallInfo EndInfo EventInfo Hooks RequestInfo ResponseInfo RetryInfo Stats",
    "_images.encoded": "EncodedImage",
    "_images.options": "ImageOptions",
    "prices": "Prices",
    "tiles": "Plan Tiles",
    "types": (
        "BoundingBox CaptionResult ChatDelta ChatResult DetectResult Grounding Meta Metrics Model Point "
        "PointResult QueryResult Reasoning SegmentResult SegmentUpdate TileReport"
    ),
}
"""The module of each name, by module; all names that end in `Error` are of `errors`."""

_PUBLIC_MODULES = {
    "bulk": "Progress Run export read_records read_results to_pandas to_polars",
    "distributed": "SkillMapper",
    "fal": "AsyncFalClient FalClient verify_webhook",
    "mcp": "create_app create_server",
    "otel": "opentelemetry",
    "proxy": "Proxy",
    "sandbox": "Faults Sandbox",
    "video": "frames latest",
    "vision": (
        "annotate annotate_video redact to_coco to_csv to_fiftyone to_geojson to_label_studio to_labelme "
        "to_supervision to_voc to_yolo"
    ),
    "web": "SSE_HEADERS error_body http_status sse",
}
"""Public names outside the top package, by the module that has them."""
_SUBMODULES = {*_PUBLIC_MODULES, "config", "errors", "hooks", "models", "prices", "tiles", "types"}
_PUBLIC_MODULE_OF = {name: module for module, names in _PUBLIC_MODULES.items() for name in names.split()}

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
    "Cache",
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
    "Done",
    "EncodedImage",
    "EndInfo",
    "EventInfo",
    "Failed",
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
    "Plan",
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
    "TileReport",
    "Tiles",
    "TilesError",
    "Timeouts",
    "TrainStep",
    "Tuning",
    "UnprocessableEntityError",
    "UploadProgress",
    "__version__",
    "ft",
    "vl",
]

_MODULE_OF = {
    **{name: module for module, names in _MODULES.items() for name in names.split()},
    **{name: "errors" for name in __all__ if name.endswith("Error")},
}


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        public = _PUBLIC_MODULE_OF.get(name)
        if public is not None:  # an ImportError, as `from moondream_async import ...` hides other messages
            raise ImportError(f"{name} is in {__name__}.{public}: from {__name__}.{public} import {name}")
        if name not in _SUBMODULES:
            raise advise("", name)
        with no_fork():
            return importlib.import_module(f".{name}", __name__)
    with no_fork():
        value = getattr(importlib.import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
