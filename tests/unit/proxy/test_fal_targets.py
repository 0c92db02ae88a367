"""Which of fal.ai's URLs a browser may call."""

from __future__ import annotations

import pytest

from moondream_async import ConfigurationError
from moondream_async._fal.wire import Hosts
from moondream_async._proxy.fal_targets import MOONDREAM_ENDPOINTS, FalTargets
from moondream_async._proxy.refusals import Refusal

TARGETS = FalTargets(Hosts(), MOONDREAM_ENDPOINTS)
QUEUE = "https://queue.fal.run"
JOB = f"{QUEUE}/fal-ai/moondream/requests/0195-ab"


@pytest.mark.parametrize(
    ("method", "url", "operation", "costs"),
    [
        ("POST", f"{QUEUE}/fal-ai/moondream/batched", "submit", True),
        ("POST", f"{QUEUE}/fal-ai/moondream3-preview/query", "submit", True),
        ("POST", f"{QUEUE}/fal-ai/moondream2", "submit", True),
        ("POST", f"{QUEUE}/fal-ai/moondream2?fal_max_queue_length=3", "submit", True),
        ("POST", "https://fal.run/fal-ai/moondream2/visual-query", "run", True),
        ("GET", f"{JOB}/status?logs=1", "status", False),
        ("GET", f"{JOB}/status/stream?logs=0", "stream", False),
        ("GET", JOB, "result", False),
        ("PUT", f"{JOB}/cancel", "cancel", False),
        ("POST", "https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3", "initiate", True),
        ("POST", "https://rest.fal.ai/storage/upload/initiate-multipart?storage_type=fal-cdn-v3", "initiate", True),
        ("POST", "https://rest.fal.ai/storage/upload/complete-multipart?storage_type=fal-cdn-v3", "initiate", True),
    ],
)
def test_allowed(method: str, url: str, operation: str, costs: bool):
    target = TARGETS.find(method, url)
    assert (target.operation, target.url, target.costs) == (operation, url, costs)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "queue.fal.run/fal-ai/moondream2",
        "http://queue.fal.run/fal-ai/moondream2",
        "file:///etc/passwd",
        "https://queue.fal.run",
        "https://queue.fal.run@evil.example/fal-ai/moondream2",
        "https://user:pass@queue.fal.run/fal-ai/moondream2",
        "https://queue.fal.run:8443/fal-ai/moondream2",
        "https://queue.fal.run:443/fal-ai/moondream2",
        "https://queue.fal.run.evil.example/fal-ai/moondream2",
        "https://queue.fal.run./fal-ai/moondream2",
        "https://QUEUE.fal.run/fal-ai/moondream2",
        "HTTPS://queue.fal.run/fal-ai/moondream2",
        "https://evil.example/queue.fal.run/fal-ai/moondream2",
        "https://evil.example#@queue.fal.run/fal-ai/moondream2",
        "https://queue.fal.run\\@evil.example/fal-ai/moondream2",
        "https://queue.fal.run/fal-ai/moondream2#x",
        "https://queue.fal.run/fal-ai/moondream/../flux",
        "https://queue.fal.run/fal-ai/moondream/./batched",
        "https://queue.fal.run//fal-ai/moondream2",
        "https://queue.fal.run/fal-ai/moondream2/",
        "https://queue.fal.run/fal-ai%2Fmoondream2",
        "https://queue.fal.run/fal-ai/moondream2/%2e%2e/flux",
        "https://queue.fal.run/fal-ai/moondream2?logs=%0d%0aX-Evil:1",
        "https://queue.fal.run/fal-ai/moondream2\r\nX-Evil: 1",
        " https://queue.fal.run/fal-ai/moondream2",
        "https://queue.fal.run/fal-ai/moondream2 ",
        "https://queue.fal.run/fal-ai/moondream2\n",
        "https://queue.fal.run/fal-ai/moondréam2",
        "https://127.0.0.1/fal-ai/moondream2",
        "https://v3.fal.media/files/b/x/y",
        "https://rest.alpha.fal.ai/tokens/",
    ],
)
def test_urls_that_are_not_plain(url: str):
    with pytest.raises(Refusal) as refused:
        TARGETS.find("POST", url)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("method", "url", "status"),
    [
        ("POST", f"{QUEUE}/fal-ai/flux/dev", 403),
        ("POST", f"{QUEUE}/fal-ai/moondream", 403),
        ("POST", f"{QUEUE}/fal-ai/moondream2evil", 403),
        ("POST", f"{QUEUE}/other/moondream2", 403),
        ("POST", f"{QUEUE}/fal-ai", 403),
        ("POST", "https://fal.run/fal-ai/flux/dev", 403),
        ("GET", f"{QUEUE}/fal-ai/flux/requests/0195-ab", 403),
        ("PUT", f"{QUEUE}/fal-ai/flux/requests/0195-ab/cancel", 403),
        ("POST", f"{QUEUE}/fal-ai/moondream2?fal_webhook=https:evil", 400),
        ("POST", f"{QUEUE}/fal-ai/moondream2?fal_webhook=evil.example", 403),
        ("POST", f"{QUEUE}/fal-ai/moondream2?storage_type=x", 403),
        ("GET", f"{QUEUE}/fal-ai/moondream2", 405),
        ("DELETE", JOB, 405),
        ("POST", f"{JOB}/status", 405),
        ("GET", f"{JOB}/cancel", 405),
        ("GET", "https://fal.run/fal-ai/moondream2", 405),
        ("POST", "https://rest.fal.ai/tokens/", 400),
        ("POST", "https://rest.fal.ai/tokens", 403),
        ("POST", "https://rest.fal.ai/storage/auth/token", 403),
        ("GET", "https://rest.fal.ai/storage/upload/initiate", 405),
        ("POST", f"{JOB}/other", 403),
    ],
)
def test_refused(method: str, url: str, status: int):
    with pytest.raises(Refusal) as refused:
        TARGETS.find(method, url)
    assert refused.value.status == status


def test_own_endpoints_and_hosts():
    targets = FalTargets(Hosts.at("http://127.0.0.1:9/fal"), ["me/my-app"])
    assert targets.find("POST", f"{QUEUE}/me/my-app").url == "http://127.0.0.1:9/fal/queue/me/my-app"
    assert (
        targets.find("GET", f"{QUEUE}/me/my-app/requests/1").url == "http://127.0.0.1:9/fal/queue/me/my-app/requests/1"
    )
    with pytest.raises(Refusal):
        targets.find("POST", f"{QUEUE}/fal-ai/moondream2")
    flow = FalTargets(Hosts(), ["workflows/me/flow", "/fal-ai/flux/*"])
    assert flow.find("GET", f"{QUEUE}/workflows/me/flow/requests/1/status").operation == "status"
    assert flow.find("POST", f"{QUEUE}/fal-ai/flux/dev").operation == "submit"
    with pytest.raises(ConfigurationError):
        FalTargets(Hosts(), ["not an endpoint"])
