"""Check the head of an HTTP/1.1 response (status line and headers) before a parser sees it.

Parsers differ in what they tolerate: line endings, folded lines, control characters, contradictory lengths. Here, heads
are either brought into a form that all parsers read in the same way, or refused.
"""

from __future__ import annotations

import re

import attrs
import httpx

MAX_HEAD = 64 * 1024
"""Maximum size of a response's headers and all interim (1xx) responses before them, in bytes; also of one chunk's
extension, and of trailers."""

_TEXT = rb"[\t\x20-\x7e\x80-\xff]*+"
_HEADER = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]++:" + _TEXT
_HEAD = re.compile(rb"HTTP/(1\.[01]) ([1-9][0-9]{2})(?: " + _TEXT + rb")?\r\n(?:" + _HEADER + rb"\r\n)*+\r\n")
_HEADERS = re.compile(rb"\r\n([^:\r\n]++):[ \t]*+([^\r\n]*+)(?=\r\n)")
_START = b"HTTP/1."
_BLANK_LINE = re.compile(rb"\n\r?\n")
_CONTROL = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]")
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_FOLD = re.compile(rb"\r\n[ \t]+")
_CONNECTION = (b"connection", b"proxy-connection")  # httptools reads both
_MAX_DIGITS = 18  # of a Content-Length; more overflow 64 bits


@attrs.define(eq=False)  # not frozen, which would take longer to make
class Head:
    """The head of a response.

    Attributes:
        status: Its status.
        headers: Its headers.
        keeps_connection: Whether another request may follow, once the body was read.
        has_end: Whether it says where the body ends; otherwise it ends with the connection.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    keeps_connection: bool
    has_end: bool


def split_head(data: bytes, searched: int = 0) -> tuple[bytes, bytes] | None:
    """Split data behind the first blank line, or return None if there is none yet.

    Args:
        data: All data from the beginning of the head.
        searched: How many bytes at its beginning have no blank line.

    Raises:
        httpx.RemoteProtocolError: It does not begin like an HTTP/1.1 response.
    """
    if not data.startswith(_START) and data[: len(_START)] != _START[: len(data)]:
        raise httpx.RemoteProtocolError("the server does not speak HTTP/1.1")
    blank = _BLANK_LINE.search(data, max(0, searched - 2))  # it may have begun before
    return None if blank is None else (data[: blank.end()], data[blank.end() :])


def read_head(raw: bytes) -> tuple[bytes, Head]:
    """Return a head in the form that all parsers read in the same way, and what it says.

    Raises:
        httpx.RemoteProtocolError: It is not valid, or does not say clearly where the response ends.
    """
    match = _HEAD.fullmatch(raw)
    if match is None or b" \r" in raw or b"\t\r" in raw:
        raw = _normalize(raw)
        match = _HEAD.fullmatch(raw)
    if match is None:
        raise httpx.RemoteProtocolError("the headers of the response are not valid")
    headers: list[tuple[bytes, bytes]] = _HEADERS.findall(raw)
    lengths: list[bytes] = []
    codings: list[bytes] = []
    closes = match[1] == b"1.0"
    for name, value in headers:
        kind = name.lower()
        if kind == b"content-length":
            lengths += map(bytes.strip, value.split(b","))
        elif kind == b"transfer-encoding":
            codings.append(value.lower())
        elif kind in _CONNECTION and b"close" in map(bytes.strip, value.lower().split(b",")):
            closes = True
    if not all(length.isdigit() and len(length) <= _MAX_DIGITS for length in lengths) or len(set(lengths)) > 1:
        raise httpx.RemoteProtocolError("the Content-Length of the response is not valid")
    if codings not in ([], [b"chunked"]):
        raise httpx.RemoteProtocolError("the Transfer-Encoding of the response is not supported")
    if len(lengths) > 1:  # all the same
        raw = _with_one_length(raw, lengths[0])
    return raw, _head(int(match[2]), headers, lengths, is_chunked=bool(codings), closes=closes)


def _normalize(head: bytes) -> bytes:
    """Return a head whose lines end with CRLF, without spaces before it, and are not folded.

    Control characters become spaces, as RFC 9110 (5.5) allows.
    """
    head = _CONTROL.sub(b" ", _FOLD.sub(b" ", _BARE_LINE_FEED.sub(b"\r\n", head)))
    return b"\r\n".join(line.rstrip(b" \t") for line in head.split(b"\r\n"))


def _with_one_length(head: bytes, length: bytes) -> bytes:
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length:")]
    return b"\r\n".join([lines[0], b"Content-Length: " + length, *lines[1:]])


def _head(
    status: int, headers: list[tuple[bytes, bytes]], lengths: list[bytes], *, is_chunked: bool, closes: bool
) -> Head:
    if status == 101:
        raise httpx.RemoteProtocolError("the server switched to another protocol without being asked")
    if status in (204, 304):  # These have no body; but a server might send one.
        return Head(status, headers, not (closes or is_chunked or any(length != b"0" for length in lengths)), True)
    has_end = is_chunked or bool(lengths)
    return Head(status, headers, has_end and not closes and not (is_chunked and lengths), has_end)
