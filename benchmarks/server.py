"""Serve the benchmarks: the least Python that responds correctly over HTTP/1.1, in a separate process.

The path sets the response: `/delay-100/v1/query` responds after 100 ms, `/events-1000/v1/query` with a stream of 1,000
events in one write, `/events-1000/apart/v1/query` with one write per event, `/events-100/pace-50/v1/query` with an
event every 50 ms; `/active` is how many of these are being sent. `/cut-5/v1/query` cuts the connection after 5 events.
The server listens on loopback at the port of its first argument (0 for any), prints the port, and ends when its
standard input is closed. With a second argument, a PEM file of a key and certificates, it serves https.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import ssl
import sys
from collections.abc import Iterator

ANSWER = {
    "request_id": "bench",
    "finish_reason": "stop",
    "answer": "A red square on a white background.",
    "caption": "A red square on a white background.",
    "objects": [{"x_min": 0.1, "y_min": 0.2, "x_max": 0.3, "y_max": 0.4}],
    "metrics": {
        "input_tokens": 735,
        "output_tokens": 9,
        "prefill_time_ms": 40.0,
        "decode_time_ms": 90.0,
        "ttft_ms": 45.0,
    },
}
BODY = json.dumps(ANSWER).encode()
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def events(count: int) -> Iterator[bytes]:
    """Yield the HTTP chunks of a stream, including its end."""
    for index in range(count - 1):
        yield _to_chunk({"chunk": f" word{index}", "completed": False, "token_index": index})
    yield _to_chunk({"chunk": " end", "completed": True, **ANSWER}) + b"0\r\n\r\n"


def _to_chunk(event: object) -> bytes:
    data = f"data: {json.dumps(event)}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


class Connection(asyncio.Protocol):
    """Responds to the requests of one connection, one after the other.

    Attributes:
        active: Paced streams that are being sent, on all connections.
    """

    active = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.buffer = bytearray()
        self.needed = 0
        self.path = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while self._read_request():
            self._respond()

    def _read_request(self) -> bool:
        if not self.needed:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return False
            head = bytes(self.buffer[:end]).lower()
            length = re.search(rb"content-length: *(\d+)", head)
            self.path = head.split(b" ", 2)[1]
            self.needed = end + 4 + (int(length[1]) if length else 0)
        if len(self.buffer) < self.needed:
            return False
        del self.buffer[: self.needed]
        self.needed = 0
        return True

    def _respond(self) -> None:
        delay, count = _number_of(b"delay", self.path), _number_of(b"events", self.path)
        cut, pace = _number_of(b"cut", self.path), _number_of(b"pace", self.path)
        loop = asyncio.get_running_loop()
        if self.path == b"/active":
            count = b"%d" % Connection.active
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(count), count))
        elif pace:
            self.transport.write(STREAM_HEAD)
            self.task = loop.create_task(self._write_paced(count, pace / 1000))
        elif count and b"/apart/" in self.path:
            self.transport.write(STREAM_HEAD)
            self.task = loop.create_task(self._write_apart(count))
        elif cut:
            self.transport.write(STREAM_HEAD + b"".join(itertools.islice(events(cut + 1), cut)))
            self.transport.close()
        elif count:
            self.transport.write(STREAM_HEAD + b"".join(events(count)))
        elif delay:
            loop.call_later(delay / 1000, self.transport.write, WHOLE)
        else:
            self.transport.write(WHOLE)

    async def _write_apart(self, count: int) -> None:
        for chunk in events(count):
            if self.transport.is_closing():
                return
            self.transport.write(chunk)
            await asyncio.sleep(0.0002)

    async def _write_paced(self, count: int, seconds: float) -> None:
        Connection.active += 1
        try:
            for chunk in events(count):
                await asyncio.sleep(seconds)
                if self.transport.is_closing():
                    return
                self.transport.write(chunk)
        finally:
            Connection.active -= 1


def _number_of(name: bytes, path: bytes) -> int:
    match = re.search(b"/" + name + rb"-(\d+)/", path)
    return int(match[1]) if match else 0


async def main() -> None:
    """Serve until standard input is closed."""
    loop = asyncio.get_running_loop()
    tls = None
    if len(sys.argv) > 2:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(sys.argv[2])
    server = await loop.create_server(Connection, "127.0.0.1", int(sys.argv[1]), backlog=4096, ssl=tls)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
