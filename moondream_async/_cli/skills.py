"""The subcommands, which use the sync client."""

from __future__ import annotations

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
from .arguments import Arguments
from .console import one_line, show
from .target import base_url_of

_OUTLINE_FORMATS = ("svg", "coco", "yolo")  # formats of a segment that need the extra `vision`


def skill(arguments: Arguments) -> None:
    """Run one skill on one image and print the result."""
    image: Any = _standard_input() if arguments.image == "-" else arguments.image
    output_format = arguments.format or ("json" if arguments.json else "table")
    draws = getattr(arguments, "save", None) or getattr(arguments, "open", False)
    if draws and arguments.save:
        pictures.check_name(arguments.save)
    if arguments.skill == "segment" and (draws or output_format in _OUTLINE_FORMATS):
        needs_vision = output_format in _OUTLINE_FORMATS
        check_extra("vision", f"--format {output_format}" if needs_vision else "Drawing an outline")
    with _client(arguments) as client:
        if draws and is_url(image):
            image = client.encode_image(image)
        if output_format not in ("table", "json", "jsonl") and getattr(arguments, "stream", False):
            raise ConfigurationError(f"--format {output_format} cannot be used with --stream.")
        answer = _call(client, image, arguments)
        if isinstance(answer, (TextStream, SegmentStream)):
            with answer:
                formatting.stream(answer, output_format)
                answer = answer.result()
        else:
            name = "image" if arguments.image[:5].lower() == "data:" else arguments.image
            formatting.result(answer, output_format, name, _labels(arguments))
    if draws:
        pictures.draw(image, answer, _labels(arguments), save=arguments.save, show=arguments.open)


def models(arguments: Arguments) -> None:
    """Print the server's models."""
    with _client(arguments) as client:
        for model in client.models():
            show(json.dumps(model.to_dict()) if arguments.json else one_line(model.id))


def sandbox(arguments: Arguments) -> None:
    """Run the sandbox until Ctrl-C."""
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
    """Export a results file as a table."""
    from .._bulk.export import export

    rows = export(arguments.results, arguments.table)
    show(f"{rows:,} rows in {arguments.table}")


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
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - it is None when it was closed
        raise ConfigurationError("Cannot read the image: standard input is closed.")
    return sys.stdin.buffer.read()


def _labels(arguments: Arguments) -> list[str]:
    """Return the labels that the skill looked for."""
    labels: str | list[str] = getattr(arguments, "object", None) or []
    return [labels] if isinstance(labels, str) else labels


@contextmanager
def _client(arguments: Arguments) -> Generator[Client]:
    with base_url_of(arguments) as base_url, Client(base_url=base_url, model=arguments.model) as client:
        yield client
