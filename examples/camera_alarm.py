"""Watch a camera and raise an alarm when the answer to a question becomes yes.

    pip install 'moondream-async[video]'
    python camera_alarm.py rtsp://camera/stream "Is there a person at the door?" --webhook https://your.host/alarm

Each call gets the newest frame, however slow the answers are. The alarm is debounced: it starts after `--confirm`
answers in a row that are yes, and ends after as many that are no. The picture that starts it is saved in a folder.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

import attrs
import httpx

from moondream_async import AsyncClient, AuthenticationError, ConfigurationError, ImageError, MoondreamError
from moondream_async.video import Frame, frames, latest

RECONNECT = 5  # seconds until a camera that failed is opened again


@attrs.define
class Debounce:
    """Turns answers into changes: `add` returns True when the alarm starts, False when it ends, else None."""

    confirm: int
    is_on: bool = False
    in_a_row: int = 0

    def add(self, seen: bool) -> bool | None:
        self.in_a_row = self.in_a_row + 1 if seen != self.is_on else 0
        if self.in_a_row < self.confirm:
            return None
        self.is_on, self.in_a_row = seen, 0
        return seen


async def live_frames(source: str, fps: float, *, is_file: bool) -> AsyncIterator[Frame]:
    """Yield all frames of a file; of a camera only the newest, and open it again when it fails."""
    if is_file:
        async for frame in frames(source, fps=fps):
            yield frame
    while not is_file:
        try:
            async with latest(frames(source, fps=fps)) as live:
                async for frame in live:
                    yield frame
        except ImageError as exc:
            print(f"The camera failed: {exc}", file=sys.stderr)
        await asyncio.sleep(RECONNECT)


async def alarms(client: AsyncClient, live: AsyncIterator[Frame], question: str, confirm: int) -> AsyncIterator[Frame]:
    """Yield the frame with which each alarm starts."""
    debounce = Debounce(confirm)
    async for frame in live:
        try:
            seen = await client.ask_yes_no(frame.image, question)
        except (AuthenticationError, ConfigurationError):
            raise
        except MoondreamError as exc:  # this frame is lost, the camera goes on
            print(f"{frame.timestamp:.1f} s: {exc}", file=sys.stderr)
            continue
        change = debounce.add(seen)
        if change is False:
            print(f"{frame.timestamp:.1f} s: over")
        if change:
            yield frame


async def watch(live: AsyncIterator[Frame], question: str, webhook: str | None, folder: Path, confirm: int) -> None:
    async with AsyncClient(timeout=20) as client, httpx.AsyncClient(timeout=10) as http:
        async for frame in alarms(client, live, question, confirm):
            now = datetime.now().astimezone()
            picture = folder / f"alarm-{now:%Y%m%d-%H%M%S-%f}.jpg"
            frame.image.save(picture)
            print(f"{frame.timestamp:.1f} s: alarm: {question} -> {picture}")
            event = {"question": question, "time": now.isoformat(), "picture": picture.name}
            try:
                if webhook is not None:
                    (await http.post(webhook, json=event)).raise_for_status()
            except httpx.HTTPError as exc:
                print(f"The webhook failed: {exc!r}", file=sys.stderr)


def main(source: str, question: str, *, webhook: str | None, folder: Path, confirm: int, fps: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    live = live_frames(source, fps, is_file=Path(source).is_file())
    asyncio.run(watch(live, question, webhook, folder, confirm))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="an RTSP or HTTP stream, a device, or a file")
    parser.add_argument("question", help="answered by yes or no")
    parser.add_argument("--webhook", metavar="URL", help="gets a POST of JSON when the alarm starts")
    parser.add_argument("--folder", type=Path, default=Path("alarms"), help="for pictures; default: alarms")
    parser.add_argument("--confirm", type=int, default=3, help="answers in a row that start or end it; default: 3")
    parser.add_argument("--fps", type=float, default=2, help="frames per second to look at, at most; default: 2")
    main(**vars(parser.parse_args()))
