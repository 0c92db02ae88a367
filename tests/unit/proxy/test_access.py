"""Who may use the proxy."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request

from moondream_async import ConfigurationError
from moondream_async._proxy.access import Access, Authorize
from moondream_async._proxy.refusals import Refusal

JSON = {"content-type": "application/json"}


def request(
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    *,
    peer: str | None = "127.0.0.1",
    host: str | None = "localhost:8080",
    method: str = "POST",
) -> Request:
    pairs = list((headers if headers is not None else JSON).items()) if not isinstance(headers, list) else headers
    if host is not None:
        pairs = [("host", host), *pairs]
    scope: dict[str, Any] = {
        "type": "http", "method": method, "scheme": "http", "path": "/v1/query", "query_string": b"",
        "client": None if peer is None else (peer, 1234), "server": ("127.0.0.1", 8080),
        "headers": [(name.encode(), value.encode()) for name, value in pairs],
    }  # fmt: skip
    return Request(scope)


async def status(asked: Request, authorize: Authorize | None = None, origins: tuple[str, ...] = ()) -> int:
    try:
        await Access(authorize, origins).check(asked)
    except Refusal as exc:
        return exc.status if exc.message else 0
    return 200


class TestWithoutAuthorize:
    @pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
    @pytest.mark.parametrize(
        "host", ["localhost", "localhost:8080", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "app.localhost:8080"]
    )
    async def test_this_machine(self, peer: str, host: str):
        assert await status(request(peer=peer, host=host)) == 200

    @pytest.mark.parametrize(
        "peer", ["192.168.1.5", "10.0.0.1", "8.8.8.8", "::ffff:8.8.8.8", "fe80::1", "testclient", None]
    )
    async def test_other_peers(self, peer: str | None):
        assert await status(request(peer=peer)) == 403

    @pytest.mark.parametrize(
        "host",
        [
            "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:8080", "0.0.0.0:8080",
            "192.168.1.5", "", "localhost@evil.example", "evil.example@localhost", "localhost:port", "[::1", "a b", None,
        ],
    )  # fmt: skip
    async def test_other_hosts(self, host: str | None):
        """A name that was rebound to 127.0.0.1 comes from there, with its own name as the Host."""
        assert await status(request(host=host)) == 403

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("forwarded", "for=1.2.3.4"), ("x-forwarded-for", "1.2.3.4"), ("x-forwarded-host", "evil.example"),
            ("x-forwarded-proto", "https"), ("x-real-ip", "1.2.3.4"), ("via", "1.1 proxy"), ("cf-connecting-ip", "1.2.3.4"),
            ("true-client-ip", "1.2.3.4"), ("x-client-ip", "1.2.3.4"),
        ],
    )  # fmt: skip
    async def test_reverse_proxies(self, name: str, value: str):
        assert await status(request({**JSON, name: value})) == 403

    @pytest.mark.parametrize(
        ("origin", "expected"),
        [
            ("http://localhost:8080", 200), ("http://localhost:3000", 403), ("https://localhost:8080", 403),
            ("http://evil.example", 403), ("null", 403), ("http://localhost:8080.evil.example", 403), ("", 403),
        ],
    )  # fmt: skip
    async def test_origins(self, origin: str, expected: int):
        assert await status(request({**JSON, "origin": origin})) == expected

    @pytest.mark.parametrize(
        ("site", "expected"), [("same-origin", 200), ("none", 200), ("cross-site", 403), ("same-site", 403)]
    )
    async def test_sites(self, site: str, expected: int):
        assert await status(request({**JSON, "sec-fetch-site": site})) == expected

    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ({"content-type": "application/json; charset=utf-8"}, 200),
            ({"content-type": "text/plain"}, 415),  # what a foreign page may POST without asking
            ({"content-type": "application/x-www-form-urlencoded"}, 415),
            ({"content-type": "multipart/form-data; boundary=x"}, 415),
            ({"content-type": "text/plain; application/json"}, 415),
            ({}, 415),
            ([("content-type", "text/plain"), ("content-type", "application/json")], 400),
        ],
    )
    async def test_content_types(self, headers: Any, expected: int):
        assert await status(request(headers)) == expected

    @pytest.mark.parametrize("name", ["host", "origin"])
    async def test_two_headers(self, name: str):
        headers = [*JSON.items(), (name, "http://localhost:8080"), (name, "http://localhost:8080")]
        assert await status(request(headers, host=None)) in (400, 403)

    async def test_http_1_0(self):
        """As nginx sends it, without any header that says so."""
        asked = request()
        asked.scope["http_version"] = "1.0"
        assert await status(asked) == 403

    async def test_links_may_be_followed(self):
        """To the playground; what a link leads to shows nothing to the page that has it."""
        headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        assert await status(request(headers, method="GET")) == 200
        assert await status(request({**JSON, **headers})) == 403

    async def test_get_needs_no_content_type(self):
        assert await status(request({}, method="GET")) == 200


class TestWithAuthorize:
    @pytest.mark.parametrize(("answer", "expected"), [(True, 200), ("ann", 200), (False, 401), ("", 401), (None, 401)])
    async def test_sync_and_async(self, answer: Any, expected: int):
        async def later(_: Request) -> Any:
            return answer

        for authorize in (lambda _: answer, later):
            assert await status(request(peer="8.8.8.8", host="app.example"), authorize) == expected

    async def test_visitor(self):
        assert await Access(lambda _: "ann", ()).check(request(peer="8.8.8.8")) == "ann"
        assert await Access(lambda _: True, ()).check(request(peer="8.8.8.8")) == "8.8.8.8"

    @pytest.mark.parametrize(
        ("origin", "expected"),
        [
            (None, 200), ("https://app.example", 200), ("https://APP.example", 200), ("https://front.example", 200),
            ("http://front.example", 403), ("https://front.example.evil", 403), ("https://evil.example", 403), ("null", 403),
        ],
    )  # fmt: skip
    async def test_origins(self, origin: str | None, expected: int):
        asked = request({**JSON, **({} if origin is None else {"origin": origin})}, host="app.example", peer="8.8.8.8")
        assert await status(asked, lambda _: True, ("https://front.example",)) == expected

    async def test_any_origin(self):
        asked = request({**JSON, "origin": "https://evil.example"}, host="app.example")
        assert await status(asked, lambda _: True, ("*",)) == 200

    async def test_authorize_is_not_asked_about_foreign_pages(self):
        asked: list[Request] = []
        await status(request({**JSON, "origin": "https://evil.example"}), lambda r: bool(asked.append(r)) or True)
        assert asked == []


@pytest.mark.parametrize(
    "origin",
    [
        "app.example",
        "http://[",
        "https://u@a",
        "https://*.example",
        "https://app.example/",
        "https://app.example/x",
        "ftp://a",
        "https://",
        5,
    ],
)
def test_bad_origins(origin: Any):
    with pytest.raises(ConfigurationError, match="origins must be like"):
        Access(lambda _: True, [origin])


@pytest.mark.parametrize("authorize", [True, "check", {"a": 1}])
def test_authorize_must_be_a_function(authorize: Any):
    with pytest.raises(ConfigurationError, match="must be a function"):
        Access(authorize, [])


def test_origins_need_authorize():
    with pytest.raises(ConfigurationError, match="origins need authorize"):
        Access(None, ["https://app.example"])
