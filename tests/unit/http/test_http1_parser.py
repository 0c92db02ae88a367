"""Responses, ordinary and odd: both parsers answer the same, however the bytes are split."""

from __future__ import annotations

import httpx
import pytest

from moondream_async._http.http1_parser import MAX_HEAD
from tests.support import parsers

RESPONSES: dict[str, bytes] = {
    "plain": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "surplus": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200",
    "surplus crlf": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}\r\n",
    "surplus 1": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}H",
    "surplus garbage": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}garbage",
    "two": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}",
    "no reason sp": b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\n{}",
    "latin reason": b"HTTP/1.1 200 \xe9t\xe9\r\nContent-Length: 2\r\n\r\n{}",
    "1.0 eof": b"HTTP/1.0 200 OK\r\n\r\nhello",
    "1.0 len": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "1.0 ka": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}",
    "1.0 chunked": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "2": b"HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "3.7": b"HTTP/3.7 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "icy": b"ICY 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "rtsp": b"RTSP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "lower http": b"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "status 99": b"HTTP/1.1 99 OK\r\nContent-Length: 2\r\n\r\n{}",
    "status 0": b"HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\n{}",
    "status 600": b"HTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\n{}",
    "status 999": b"HTTP/1.1 999 OK\r\nContent-Length: 2\r\n\r\n{}",
    "status 1000": b"HTTP/1.1 1000 OK\r\nContent-Length: 2\r\n\r\n{}",
    "status x": b"HTTP/1.1 2x0 OK\r\nContent-Length: 2\r\n\r\n{}",
    "two spaces": b"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "tab": b"HTTP/1.1\t200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "lf only": b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
    "lf mixed": b"HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\n{}",
    "lf end": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\n{}",
    "cr only": b"HTTP/1.1 200 OK\rContent-Length: 2\r\r{}",
    "leading crlf": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "leading lf": b"\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "leading sp": b" HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "cl twice same": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "cl twice diff": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "cl list": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{}",
    "cl list diff": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\n{}",
    "cl list same": b"HTTP/1.1 200 OK\r\nContent-Length: 2,2\r\nX: y\r\ncontent-length: 2\r\n\r\n{}",
    "cl neg": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
    "cl plus": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}",
    "cl hex": b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\n{}",
    "cl empty": b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n{}",
    "cl space": b"HTTP/1.1 200 OK\r\nContent-Length: 2 \r\n\r\n{}",
    "cl inner": b"HTTP/1.1 200 OK\r\nContent-Length: 1 2\r\n\r\n{}",
    "cl zeros": b"HTTP/1.1 200 OK\r\nContent-Length: 0002\r\n\r\n{}",
    "cl 19": b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\n{}",
    "cl 20": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
    "cl 25": b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999999999\r\n\r\n{}",
    "cl 2^64": b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n{}",
    "cl zeros21": b"HTTP/1.1 200 OK\r\nContent-Length: 000000000000000000002\r\n\r\n{}",
    "cl arabic": "HTTP/1.1 200 OK\r\nContent-Length: ٢\r\n\r\n{}".encode(),
    "short": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "Chunked caps": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunked sp": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked \r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "gzip, chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunked, chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "te twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "te identity": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n{}",
    "te identity cl": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}",
    "te gzip": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}",
    "te empty": b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n{}",
    "te xchunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "te vt": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "both te cl": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 12\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "both cl te": b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "ext": b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b;c="d;e"\r\n{}\r\n0;x\r\n\r\n',
    "ext sp": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 ; a\r\n{}\r\n0\r\n\r\n",
    "chunk sp": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\n{}\r\n0\r\n\r\n",
    "chunk lead sp": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n 2\r\n{}\r\n0\r\n\r\n",
    "ext nul": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;\0\r\n{}\r\n0\r\n\r\n",
    "ext lf": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a\n{}\r\n0\r\n\r\n",
    "chunk lf": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
    "chunk data lf": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\n0\r\n\r\n",
    "chunk no crlf": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n",
    "chunk too long": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{}\r\n0\r\n\r\n",
    "chunk neg": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    "chunk hex": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
    "chunk upper": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
    "chunk zeros": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0000000002\r\n{}\r\n0\r\n\r\n",
    "chunk zeros many": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0000000000000000000000000002\r\n{}\r\n0\r\n\r\n",
    "chunk huge": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n",
    "chunk huge17": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n",
    "chunk huge20": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0FFFFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n",
    "chunk 00": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n00\r\n\r\n",
    "chunk empty": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n{}\r\n0\r\n\r\n",
    "chunk cut": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "chunk cut2": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n",
    "trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: y\r\nZ: w\r\n\r\n",
    "trailer cl": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nContent-Length: 9\r\n\r\n",
    "trailer te": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "trailer bad": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nnonsense\r\n\r\n",
    "trailer conn": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nConnection: close\r\n\r\n",
    "trailer upgrade": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "100": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "103s": b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" * 3 + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "100 cl": b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "100 te": b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "100 close": b"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "100 1.0": b"HTTP/1.0 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "100 upgrade": b"HTTP/1.1 100 Continue\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "101": b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nabc",
    "101 bare": b"HTTP/1.1 101 Switching\r\n\r\nabc",
    "upgrade 200": b"HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\n{}",
    "upgrade 426": b"HTTP/1.1 426 Up\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\n{}",
    "204": b"HTTP/1.1 204 No\r\n\r\n",
    "204 cl": b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\n{}",
    "204 cl0": b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n",
    "204 te": b"HTTP/1.1 204 No\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "205": b"HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n",
    "304": b"HTTP/1.1 304 NM\r\nContent-Length: 200\r\n\r\n",
    "close": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
    "close list": b"HTTP/1.1 200 OK\r\nConnection: foo, Close\r\nContent-Length: 2\r\n\r\n{}",
    "close twice": b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
    "close surplus": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}xxx",
    "proxy-conn": b"HTTP/1.1 200 OK\r\nProxy-Connection: close\r\nContent-Length: 2\r\n\r\n{}",
    "eof": b"HTTP/1.1 200 OK\r\n\r\nhello",
    "eof ka": b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\nhello",
    "eof empty": b"HTTP/1.1 200 OK\r\n\r\n",
    "fold": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
    "fold tab": b"HTTP/1.1 200 OK\r\nX: a\r\n\tb\r\nContent-Length: 2\r\n\r\n{}",
    "fold first": b"HTTP/1.1 200 OK\r\n X: a\r\nContent-Length: 2\r\n\r\n{}",
    "fold cl": b"HTTP/1.1 200 OK\r\nContent-Length:\r\n 2\r\n\r\n{}",
    "fold te": b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "sp before colon": b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 2\r\n\r\n{}",
    "cl sp colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n{}",
    "te sp colon": b"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "no colon": b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 2\r\n\r\n{}",
    "empty name": b"HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 2\r\n\r\n{}",
    "empty value": b"HTTP/1.1 200 OK\r\nX:\r\nContent-Length: 2\r\n\r\n{}",
    "bad name": b"HTTP/1.1 200 OK\r\nX(y): a\r\nContent-Length: 2\r\n\r\n{}",
    "utf8 name": "HTTP/1.1 200 OK\r\né: a\r\nContent-Length: 2\r\n\r\n{}".encode(),
    "utf8 value": "HTTP/1.1 200 OK\r\nX: é\r\nContent-Length: 2\r\n\r\n{}".encode(),
    "nul value": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\n{}",
    "ctl value": b"HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 2\r\n\r\n{}",
    "esc value": b"HTTP/1.1 200 OK\r\nX: a\x1bb\r\nContent-Length: 2\r\n\r\n{}",
    "del value": b"HTTP/1.1 200 OK\r\nX: a\x7fb\r\nContent-Length: 2\r\n\r\n{}",
    "tab value": b"HTTP/1.1 200 OK\r\nX: a\tb\r\nContent-Length: 2\r\n\r\n{}",
    "cr value": b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\n{}",
    "trail ws": b"HTTP/1.1 200 OK\r\nX: a  \t\r\nContent-Length: 2\r\n\r\n{}",
    "lead ws": b"HTTP/1.1 200 OK\r\nX: \t  a\r\nContent-Length: 2\r\n\r\n{}",
    "nul status": b"HTTP/1.1 200 O\0K\r\nContent-Length: 2\r\n\r\n{}",
    "ctl status": b"HTTP/1.1 200 O\x01K\r\nContent-Length: 2\r\n\r\n{}",
    "cr status": b"HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\n{}",
    "nothing": b"",
    "half line": b"HTTP/1.1 20",
    "half head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "html": b"<html></html>",
    "request": b"POST / HTTP/1.1\r\n\r\n",
    "tls": b"\x15\x03\x01\x00\x02\x02\x0a",
    "h2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "nul": b"\0" * 50,
    "300": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 300 + b"Content-Length: 2\r\n\r\n{}",
    "long": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 30000 + b"\r\nContent-Length: 2\r\n\r\n{}",
}

# The two that the parsers judge differently; see `http1_parser`.
DIFFERENT = ("ext nul", "chunk zeros many")

VALID: dict[str, bytes] = {
    "plain": b"{}",
    "no reason": b"{}",
    "1.0 eof": b"hello",
    "chunked": b"{}",
    "both te cl": b"{}",
    "ext": b"{}",
    "trailers": b"{}",
    "103s": b"{}",
    "100 close": b"{}",
    "upgrade 200": b"{}",
    "204": b"",
    "304": b"",
    "eof": b"hello",
    "fold": b"{}",
    "lf only": b"{}",
    "300": b"{}",
    "cl twice same": b"{}",
    "cl list": b"{}",
    "cl list same": b"{}",
    "ctl value": b"{}",
}


def parse(name: str, data: bytes, size: int) -> tuple[object, ...]:
    """Return status, headers and body of a response that arrives in pieces of a size; or the class of its error."""
    parser = parsers.new(name)
    body = b""
    try:
        for start in range(0, len(data), size):
            if parser.is_complete:
                break
            has_more = parser.feed(data[start : start + size])
            while has_more:
                has_more = parser.feed(b"")
        if not parser.is_complete:
            parser.feed_end()
    except httpx.RemoteProtocolError as exc:
        return (type(exc),)
    body = b"".join(parser.chunks)
    assert parser.head is not None
    return parser.head.status, parser.head.headers, body, parser.head.keeps_connection


@pytest.mark.parametrize("response", RESPONSES)
def test_both_parsers_answer_alike(response: str) -> None:
    data = RESPONSES[response]
    sizes = {len(data) or 1, *range(1, min(len(data), 80))}
    outcomes = {name: [parse(name, data, size) for size in sizes] for name in parsers.NAMES}
    for name, results in outcomes.items():
        assert all(result == results[0] for result in results), name
    if response not in DIFFERENT:
        assert outcomes["h11"] == outcomes["httptools"]


@pytest.mark.parametrize("name", parsers.NAMES)
@pytest.mark.parametrize("response", VALID)
def test_bodies(response: str, name: str) -> None:
    assert parse(name, RESPONSES[response], 1000)[2] == VALID[response]


@pytest.mark.parametrize("name", parsers.NAMES)
@pytest.mark.parametrize(
    "response",
    [
        "cl twice diff",
        "cl list diff",
        "cl neg",
        "te gzip",
        "te identity cl",
        "gzip, chunked",
        "101",
        "html",
        "2.0",
        "short",
        "chunk cut",
        "nothing",
        "half head",
        "cl sp colon",
        "nul value",
        "chunk too long",
        "leading crlf",
    ],
)
def test_refused_responses(response: str, name: str) -> None:
    assert parse(name, RESPONSES[response], 1000) == (httpx.RemoteProtocolError,)


@pytest.mark.parametrize("name", parsers.NAMES)
@pytest.mark.parametrize(
    ("response", "keeps"),
    [
        ("plain", True),
        ("chunked", True),
        ("304", False),
        ("204", True),
        ("204 cl", False),
        ("1.0 len", False),
        ("close", False),
        ("close list", False),
        ("close twice", False),
        ("both cl te", False),
        ("eof ka", False),
        ("proxy-conn", False),
    ],
)
def test_which_connections_are_kept(response: str, keeps: bool, name: str) -> None:
    assert parse(name, RESPONSES[response], 1000)[3] is keeps


@pytest.mark.parametrize("name", parsers.NAMES)
@pytest.mark.parametrize("response", ["surplus", "surplus 1", "surplus garbage", "two", "close surplus"])
def test_surplus_data(response: str, name: str) -> None:
    parser = parsers.new(name)
    parser.feed(RESPONSES[response])
    assert parser.is_complete
    assert parser.has_surplus
    assert b"".join(parser.chunks) == b"{}"


@pytest.mark.parametrize("name", parsers.NAMES)
def test_a_parser_is_used_again(name: str) -> None:
    parser = parsers.new(name)
    for response, body in VALID.items():
        if parse(name, RESPONSES[response], 1000)[3]:
            parser.start()
            parser.feed(RESPONSES[response])
            assert parser.is_complete
            assert not parser.has_surplus
            assert b"".join(parser.chunks) == body


@pytest.mark.parametrize("name", parsers.NAMES)
@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
    ],
)
def test_endless_framing(start: bytes, name: str) -> None:
    parser = parsers.new(name)
    parser.feed(start)
    with pytest.raises(httpx.RemoteProtocolError):
        for _ in range(2 * MAX_HEAD // 1000):
            parser.feed(b"a" * 1000)


@pytest.mark.parametrize("name", parsers.NAMES)
@pytest.mark.parametrize("value", [b" " * 60_000 + b"x", b" \r\n" * 20_000, b"\r\n " * 20_000, b"a:" * 30_000])
def test_headers_that_take_long_to_match(value: bytes, name: str) -> None:
    """They would take minutes if their time grew with the square of their length."""
    parse(name, b"HTTP/1.1 200 OK\r\nX:" + value + b"\r\nContent-Length: 0\r\n\r\n", 1 << 20)
