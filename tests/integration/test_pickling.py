"""Clients in pickles: what goes along, what does not, and what is said about it."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import httpx
import pytest

from moondream_async import AsyncClient, Client, ConfigurationError, Hooks, ImageOptions, RetryPolicy, Timeouts
from moondream_async.fal import AsyncFalClient, FalClient
from tests.support.sandboxes import PooledSandbox

KEY = "md-secret-key-0123456789"
KINDS = [AsyncClient, Client]


def provide_key() -> str:
    return KEY


def fail_to_provide() -> str:
    raise KeyError(KEY)


def watch(_: Any) -> None:
    pass


def caption(client: Client, image: bytes) -> str:
    return client.caption(image).caption


def again(client: Any) -> Any:
    return pickle.loads(pickle.dumps(client))


@pytest.mark.parametrize("kind", KINDS)
def test_options(kind: Any):
    options = {
        "base_url": ["http://a:2020/v1", "http://b:2020/v1"], "model": "md-3", "timeout": Timeouts(idle=7),
        "retry": RetryPolicy(attempts=9), "rate_limit": 5.0, "max_connections": 7, "headers": {"x-team": "vision"},
        "image_options": ImageOptions(quality=80), "hooks": Hooks(retry=watch),
    }  # fmt: skip
    client = again(kind(**options))
    assert type(client) is kind
    inner = client._async if kind is Client else client
    now = inner._api.settings
    assert inner.base_urls == ("http://a:2020/v1", "http://b:2020/v1")
    assert (inner.model, now.timeouts, now.retry) == ("md-3", options["timeout"], options["retry"])
    assert (now.headers, now.image_options) == (options["headers"], options["image_options"])
    assert now.hooks[0].retry is watch
    assert inner._api._session.options == {"rate_limit": 5.0, "max_connections": 7, "http_client": None}


@pytest.mark.parametrize("kind", KINDS)
def test_with_options_goes_along(kind: Any):
    client = again(kind(base_url="http://a/v1").with_options(model="other", retry=2))
    assert client.model == "other"


@pytest.mark.parametrize("kind", KINDS)
def test_pickles_are_the_same_each_time(kind: Any):
    """Caches, such as that of datasets, know a function by its pickle."""
    make = lambda: kind(base_url="http://a/v1", hooks=Hooks(retry=watch), retry=3)  # noqa: E731
    client = make()
    assert pickle.dumps(client) == pickle.dumps(make()) == pickle.dumps(again(client))


@pytest.mark.parametrize("kind", KINDS)
def test_key_is_not_in_the_pickle(kind: Any, monkeypatch: pytest.MonkeyPatch):
    data = pickle.dumps(kind(KEY, base_url="http://a/v1"))
    assert KEY.encode() not in data
    with pytest.raises(ConfigurationError, match=r"process \d+ on .* no MOONDREAM_API_KEY"):
        pickle.loads(data)
    monkeypatch.setenv("MOONDREAM_API_KEY", "md-other-key-0123456789")
    client = pickle.loads(data)
    inner = client._async if kind is Client else client
    assert inner._api.settings.server.key.reveal() == "md-other-key-0123456789"


@pytest.mark.parametrize("kind", KINDS)
def test_function_that_provides_the_key(kind: Any):
    data = pickle.dumps(kind(provide_key))
    assert KEY.encode() not in data
    client = pickle.loads(data)
    inner = client._async if kind is Client else client
    assert inner._api.settings.server.key.reveal() == KEY
    assert KEY not in repr(client)


@pytest.mark.parametrize(
    ("provider", "message"),
    [(fail_to_provide, "raised KeyError"), (lambda: 5, "must be a str"), (lambda: None, "No API key")],
)
def test_function_that_provides_no_key(provider: Any, message: str):
    with pytest.raises(ConfigurationError, match=message) as raised:
        AsyncClient(provider)
    assert KEY not in str(raised.value)


async def test_fal(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("FAL_KEY", raising=False)
    for kind in (AsyncFalClient, FalClient):
        client: Any = kind(KEY, base_url="http://a", job_timeout=None, cancel_jobs=True, headers={"x-team": "vision"})
        data = pickle.dumps(client)
        assert KEY.encode() not in data
        with pytest.raises(ConfigurationError, match="no FAL_KEY"):
            pickle.loads(data)
    with pytest.raises(ConfigurationError, match="no FAL_KEY"):
        pickle.loads(data)
    monkeypatch.setenv("FAL_KEY", KEY)
    restored = pickle.loads(data)
    assert restored._async._options["job_timeout"] is None
    assert restored._async._cancel_jobs is True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"http_client": httpx.AsyncHTTPTransport()}, "http_client="),
        ({"headers": {"Authorization": "Bearer x"}}, "'authorization' holds a credential"),
        ({"hooks": Hooks(end=lambda _: None)}, r"hooks\.end cannot be pickled"),
    ],
)
def test_what_cannot_be_pickled_is_named(
    kind: Any, options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("moondream_async._pickling._OTHER_PICKLERS", ())
    with pytest.raises(ConfigurationError, match=message):
        pickle.dumps(kind(base_url="http://a/v1", **options))


def test_key_that_is_a_lambda(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("moondream_async._pickling._OTHER_PICKLERS", ())
    with pytest.raises(ConfigurationError, match="api_key cannot be pickled"):
        pickle.dumps(Client(lambda: KEY))


def test_parts_name_their_client():
    with pytest.raises(ConfigurationError, match="Batches cannot be pickled: pickle its client"):
        pickle.dumps(Client(base_url="http://a/v1").batches)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_share_the_connections(copied: Any):
    with PooledSandbox() as sandbox, Client(base_url=sandbox.base_url) as client:
        client.query(question="x")
        clone = copied(client)
        clone.query(question="x")
        assert client.stats.calls == clone.stats.calls == 2


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_workers(method: str, scene: bytes):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("not on this platform")
    with PooledSandbox() as sandbox, Client(base_url=sandbox.base_url) as client:
        client.query(question="x")  # the connection that it has now is not the workers'
        with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
            captions = list(pool.map(caption, [client] * 4, [scene] * 4))
    assert len(set(captions)) == 1
    assert "red" in captions[0]
