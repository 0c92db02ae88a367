"""Stand-ins for Stations, each with one worker and a queue of 10, in one process; for the benchmark `servers`.

`python -m benchmarks.stations 10 20 40` serves three that take 10, 20 and 40 ms for an answer. It prints their ports.
The line `stop 1` on its standard input kills the second, with its connections, and `start 1` brings it back. It ends
when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import json
import sys

from .server import WHOLE

_QUEUE = 10
_FULL = json.dumps({"error": "Queue is full", "status": "rejected"}).encode()
_REFUSAL = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(_FULL), _FULL)


class Station:
    """One Station.

    Args:
        seconds: Time that its worker takes for an answer.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._worker = asyncio.Lock()
        self._waiting = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen, at the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1000)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Stop listening, and cut all connections."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
                writer.write(await self._answer())
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self) -> bytes:
        if self._waiting > _QUEUE:
            return _REFUSAL
        self._waiting += 1
        try:
            async with self._worker:
                await asyncio.sleep(self._seconds)
        finally:
            self._waiting -= 1
        return WHOLE


async def main() -> None:
    """Serve until standard input is closed."""
    stations = [Station(float(milliseconds) / 1000) for milliseconds in sys.argv[1:]]
    for station in stations:
        await station.start()
    print(*(station.port for station in stations), flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        action, number = line.split()
        if action == "stop":
            stations[int(number)].stop()
        else:
            await stations[int(number)].start()


if __name__ == "__main__":
    asyncio.run(main())
