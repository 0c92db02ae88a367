"""Measure cold starts over TLS: a new process up to its first answer, and 256 first calls at once.

The server has a certificate of a temporary authority. `SSL_CERT_FILE` names that authority and certifi's, so that all
contestants load the same certificates.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import attrs

from . import contestants, harness
from .contestants import OURS, REFERENCE
from .harness import KEY, SPEED, Budget, Column, Figure, Stopwatch, at_most, value

PROCESS = "a new process, up to its first answer"
CALLS = 256
AT_ONCE = f"{CALLS} calls at once, new TLS connections"
COLUMNS = (Column("ms", ratio=True), Column("process CPU ms", ratio=True), *SPEED)
_SIZE = 2_000  # bytes of the body
_NEW = (OURS, REFERENCE)

_OURS = """
import asyncio
from moondream_async import AsyncClient, EncodedImage

image = EncodedImage.of(b"\\xff" * 1500, media_type="image/jpeg", size=(1, 1), original=(1, 1))

async def main():
    async with AsyncClient(KEY, base_url=URL) as client:
        print((await client.query(image, "what?")).answer, flush=True)

asyncio.run(main())
"""
_AIOHTTP = """
import asyncio
import aiohttp

body = {"image_url": "data:image/jpeg;base64," + "/" * 2000, "question": "what?", "stream": False}

async def main():
    async with aiohttp.ClientSession() as session:
        async with session.post(URL + "/v1/query", json=body, headers={"X-Moondream-Auth": KEY}) as response:
            print((await response.json())["answer"], flush=True)

asyncio.run(main())
"""
_OFFICIAL = """
import moondream
from moondream.types import Base64EncodedImage

image = Base64EncodedImage(image_url="data:image/jpeg;base64," + "/" * 2000)
print(moondream.vl(api_key=KEY, endpoint=URL + "/v1").query(image, "what?")["answer"], flush=True)
"""
_PROGRAMS = {OURS: _OURS, REFERENCE: _AIOHTTP, "official client": _OFFICIAL}


def run(*, quick: bool) -> list[Figure]:
    """Run all cases."""
    names = [name for name in _PROGRAMS if name != "official client" or importlib.util.find_spec("moondream")]
    with _certificates() as (authorities, certificate), harness.server(certificate) as url:
        figures = _measure_processes(url, names, authorities, 5 if quick else 15)
        command = [sys.executable, "-m", "benchmarks.cold", url, "3" if quick else "9"]
        environment = {**os.environ, "SSL_CERT_FILE": str(authorities)}
        output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
        return figures + [Figure(**values) for values in json.loads(output)]


def report(figures: list[Figure]) -> str:
    """Return the figures as a table."""
    return harness.table(figures, REFERENCE, COLUMNS)


def budgets(figures: list[Figure]) -> dict[str, Budget]:
    """Return the budgets, as ratios within this run."""

    def ratio(case: str, column: str) -> float:
        return value(figures, case, OURS, column) / value(figures, case, REFERENCE, column)

    return {
        f"{PROCESS}: ms, x {REFERENCE}": at_most(ratio(PROCESS, "ms"), 1.2),
        f"{AT_ONCE}: CPU, x {REFERENCE}": at_most(ratio(AT_ONCE, "CPU us"), 1.2),
        f"{AT_ONCE}: time, x {REFERENCE}": at_most(1 / ratio(AT_ONCE, "per second"), 1.2),
    }


@contextmanager
def _certificates() -> Generator[tuple[Path, Path]]:
    """Make a file of authorities to trust, and one with the server's key and certificates."""
    import certifi
    import trustme

    with tempfile.TemporaryDirectory() as folder:
        authority = trustme.CA()
        authorities, certificate = Path(folder, "authorities.pem"), Path(folder, "server.pem")
        authorities.write_text(certifi.contents())
        authority.cert_pem.write_to_path(authorities, append=True)
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
        yield authorities, certificate


def _measure_processes(url: str, names: list[str], authorities: Path, rounds: int) -> list[Figure]:
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name in names:
            taken = _start_process(f"KEY, URL = {KEY!r}, {url!r}\n{_PROGRAMS[name]}", authorities)
            if number:  # the first one writes the bytecode
                times[name].append(taken)
    return [
        Figure(PROCESS, name, {"ms": median(ms for ms, _ in rows), "process CPU ms": median(cpu for _, cpu in rows)})
        for name, rows in times.items()
    ]


def _start_process(program: str, authorities: Path) -> tuple[float, float]:
    """Return the milliseconds up to the answer, and those of CPU of the whole process."""
    command, environment = harness.python(program, SSL_CERT_FILE=str(authorities))
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    answer = process.stdout.readline()
    elapsed = time.perf_counter() - started
    process.stdout.close()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if not answer or process.returncode:
        raise RuntimeError("the program failed")
    return elapsed * 1000, (usage.ru_utime + usage.ru_stime) * 1000


async def _measure_at_once(url: str, rounds: int) -> list[Figure]:
    """Make first calls at once, in this process, whose environment names the authorities."""
    watches = {name: Stopwatch() for name in _NEW}
    for number in range(rounds + 1):
        for name, watch in watches.items():
            async with contestants.ASYNC[name](url, _SIZE) as call:
                if not number:  # imports and TLS contexts are made once
                    await call()
                    continue
                with watch.round(CALLS):
                    await asyncio.gather(*(call() for _ in range(CALLS)))
    return [watch.figure(name, AT_ONCE) for name, watch in watches.items()]


if __name__ == "__main__":
    print(json.dumps([attrs.asdict(f) for f in asyncio.run(_measure_at_once(sys.argv[1], int(sys.argv[2])))]))
