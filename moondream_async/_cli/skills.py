"""What each sub-command does, on the sync client."""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from .._extras import check_extra
from .._images.sources import is_url
from .._sync.client import Client
from .._sync.streams import SegmentStream, TextStream
from ..errors import ConfigurationError
from ..types import Result
from . import formatting, pictures
from .console import one_line, show
from .target import base_url_of

Arguments = argparse.Namespace

_OUTLINE_FORMATS = ("svg", "coco", "yolo")  # of a segment: made with the extra `vision`


def skill(arguments: Arguments) -> None:
    """Run one skill on one image and print what it says."""
    image: Any = _standard_input() if arguments.image == "-" else arguments.image
    form = arguments.format or ("json" if arguments.json else "table")
    draws = getattr(arguments, "save", None) or getattr(arguments, "open", False)
    if draws and arguments.save:
        pictures.check_name(arguments.save)
    if arguments.skill == "segment" and (draws or form in _OUTLINE_FORMATS):
        check_extra("vision", f"--format {form}" if form in _OUTLINE_FORMATS else "Drawing an outline")
    with _client(arguments) as client:
        if draws and is_url(image):
            image = client.encode_image(image)
        if form not in ("table", "json", "jsonl") and getattr(arguments, "stream", False):
            raise ConfigurationError(f"--format {form} is for whole answers; leave out --stream.")
        answer = _call(client, image, arguments)
        if isinstance(answer, (TextStream, SegmentStream)):
            with answer:
                formatting.stream(answer, form)
                answer = answer.result()
        else:
            formatting.result(
                answer, form, "image" if arguments.image[:5].lower() == "data:" else arguments.image, _labels(arguments)
            )
    if draws:
        pictures.draw(image, answer, _labels(arguments), save=arguments.save, show=arguments.open)


def models(arguments: Arguments) -> None:
    """Print the server's models."""
    with _client(arguments) as client:
        for model in client.models():
            show(json.dumps(model.to_dict()) if arguments.json else one_line(model.id))


def sandbox(arguments: Arguments) -> None:
    """Serve until Ctrl-C."""
    from ..sandbox import NOTICE, Sandbox

    server = Sandbox(
        host=arguments.host,
        port=arguments.port,
        rate_limit=arguments.rate_limit,
        latency=arguments.latency,
        shape=arguments.shape,
    )
    with server:
        show(f"moondream-async sandbox on {server.base_url} ({NOTICE})", flush=True)
        show("Any key, or none, is accepted. Ctrl-C stops it.", flush=True)
        forever = threading.Event()
        while not forever.wait(1.0):  # a Ctrl-C just before an endless wait would not end it
            pass


def export(arguments: Arguments) -> None:
    """Write a file of results as a table."""
    from .._bulk.export import export

    rows = export(arguments.results, arguments.table)
    show(f"{rows:,} rows in {arguments.table}")


def run(arguments: Arguments) -> int:
    """Do a run; returns the exit code."""
    from .run import run

    return run(arguments)


def batch(arguments: Arguments) -> int:
    """Do something with batches; returns the exit code."""
    from .batch import run

    return run(arguments)


def demo(arguments: Arguments) -> None:
    """Show all skills at work."""
    from .demo import run

    run(arguments.out)


def _call(client: Client, image: Any, arguments: Arguments) -> Result | TextStream[Any] | SegmentStream:
    stream: bool = getattr(arguments, "stream", False)
    if arguments.skill == "query":
        return client.query(image, arguments.question, stream=stream, reasoning=arguments.reasoning)
    if arguments.skill == "caption":
        return client.caption(image, arguments.length, stream=stream)
    if arguments.skill in ("detect", "point"):
        labels: list[str] = arguments.object
        find = client.detect if arguments.skill == "detect" else client.point
        return find(image, labels[0] if len(labels) == 1 else labels)
    return client.segment(image, arguments.object, stream=stream)


def _standard_input() -> bytes:
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - it is, when it was closed
        raise ConfigurationError("There is no standard input to read the image from.")
    return sys.stdin.buffer.read()


def _labels(arguments: Arguments) -> list[str]:
    """What was looked for."""
    wanted: str | list[str] = getattr(arguments, "object", None) or []
    return [wanted] if isinstance(wanted, str) else wanted


@contextmanager
def _client(arguments: Arguments) -> Generator[Client]:
    with base_url_of(arguments) as base_url, Client(base_url=base_url, model=arguments.model) as client:
        yield client
