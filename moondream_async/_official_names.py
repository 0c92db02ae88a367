"""Names of the packages `moondream` and `fal-client` that are different here, and what to use instead (pure)."""

from __future__ import annotations

_PHOTON = "Photon runs models in this process, which only the official package does; import moondream for it"
_ADVICE = {
    "": {
        "photon": _PHOTON,
        "photon_models": _PHOTON,
        "CloudVL": "use moondream_async.Client, or vl(...)",
    },
    "types": {
        "Base64EncodedImage": "use moondream_async.EncodedImage",
        "CaptionOutput": "use moondream_async.CaptionResult",
        "ChatMessage": "messages are plain dicts; use dict[str, Any]",
        "ChatOutput": "use moondream_async.ChatResult",
        "CheckpointInfo": "use moondream_async.Checkpoint",
        "DetectOutput": "use moondream_async.DetectResult",
        "EncodedImage": "use moondream_async.EncodedImage",
        "FinetuneInfo": "use moondream_async.FinetuneInfo",
        "MetricsLogOutput": "use moondream_async.LoggedMetrics",
        "PointOutput": "use moondream_async.PointResult",
        "QueryOutput": "use moondream_async.QueryResult",
        "ReasoningGrounding": "use moondream_async.Grounding",
        "Region": "use moondream_async.BoundingBox",
        "RolloutsResponse": "use moondream_async.Rollouts",
        "SamplingSettings": "use moondream_async.SamplingSettings",
        "SaveCheckpointOutput": "use moondream_async.SavedCheckpoint",
        "SegmentOutput": "use moondream_async.SegmentResult",
        "SegmentStreamChunk": "use moondream_async.SegmentUpdate",
        "SegmentStreamOutput": "use moondream_async.SegmentStream",
        "SpatialRef": "points and boxes are lists or tuples of numbers; use Sequence[float]",
        "TrainStepOutput": "use moondream_async.TrainStep",
        "VLM": "use moondream_async.Client",
        **dict.fromkeys(
            (
                "ChatReasoningDetails",
                "ChatResponseMessage",
                "CheckpointListOutput",
                "DetectGroundTruth",
                "DetectTarget",
                "FinetuneGroundTruth",
                "PointGroundTruth",
                "PointTarget",
                "QueryTarget",
                "RLGroup",
                "Rollout",
                "RolloutOutput",
                "SFTGroup",
                "SFTTarget",
                "SkillRequest",
            ),
            "it is a plain dict here; use dict[str, Any]",
        ),
    },
    "fal": {
        "AsyncClient": "use fal.AsyncFalClient",
        "FalClientError": "use moondream_async.MoondreamError",
        "FalClientHTTPError": "use moondream_async.APIError; its status is `.status`",
        "FalClientTimeoutError": "use moondream_async.APITimeoutError",
        "StorageSettings": "use fal.Lifecycle",
        "SyncClient": "use fal.FalClient",
        "SyncRequestHandle": "use fal.RequestHandle",
        **dict.fromkeys(("run", "stream"), "use fal.subscribe, which goes through fal's queue"),
        **dict.fromkeys(("run_async", "stream_async"), "use fal.subscribe_async, which goes through fal's queue"),
        **dict.fromkeys(
            ("realtime", "realtime_async", "ws_connect", "ws_connect_async"),
            "realtime connections are not supported; use fal-client for them",
        ),
    },
}


def advise(module: str, name: str) -> Exception:
    """Return the error for a missing name: an ImportError with advice if another package has it.

    `from module import name` hides the message of an AttributeError, but not that of an ImportError.

    Args:
        module: The public module that was asked, below the package; empty for the package itself.
        name: The name.
    """
    full_name = f"moondream_async.{module}".rstrip(".")
    advice = _ADVICE[module].get(name)
    if advice is None:
        return AttributeError(f"module {full_name!r} has no attribute {name!r}")
    return ImportError(f"{full_name} has no {name}: {advice}.")
