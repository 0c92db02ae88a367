"""The commands of one skill: a single image, or several at once."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import click

from .._csv_cells import csv_row
from .._extras import check_extra
from .._images.options import ImageOptions
from .._images.sources import is_url
from .._printable import one_line
from .._sync.client import Client
from .._sync.streams import SegmentStream, TextStream
from ..errors import ConfigurationError
from . import formatting, pictures
from .arguments import Arguments
from .connection import connection
from .console import show, show_error
from .exit_codes import SOME_FAILED, STOPPED
from .skill_arguments import settings_of

_OUTLINE_FORMATS = ("svg", "coco", "yolo")  # formats of a segment that need the extra `vision`
_SINGLE_FORMATS = {  # formats that hold one image, and what to use for several
    "svg": "repeat the command for each image, or use --format coco",
    "yolo": "for several, use `run` and `export --to yolo`",
}
_CONCURRENCY = 8
_STDIN = "-"

Options = dict[str, Any]


def run(arguments: Arguments) -> int:
    """Run one skill on images and print the results; return the exit code."""
    names, options = _split_words(arguments)
    form = arguments.format or ("json" if arguments.json else "table")
    _check(arguments, names, form)
    images = [_standard_input() if name == _STDIN else name for name in names]
    with connection(arguments) as target, Client(**target) as client:
        if len(images) == 1:
            _run_one(client, images[0], names[0], form, options, arguments)
            return 0
        return _run_several(client, images, names, form, options, arguments)


def _split_words(arguments: Arguments) -> tuple[list[str], Options]:
    """Divide the words of the command line into images and the skill's argument; return the images and all arguments.

    Without an option, the last word is the question or the object; of `detect` and `point`, all words after the first
    are objects.
    """
    words: list[str] = list(arguments.images)
    options: Options = {"settings": settings_of(arguments)}
    if arguments.skill == "caption":
        options["length"] = arguments.length
    elif arguments.skill == "query":
        options |= {"reasoning": arguments.reasoning, "question": arguments.question}
        if arguments.question is None:
            words, (options["question"],) = _split_off(words, -1, "QUESTION", arguments.skill)
    else:
        objects: list[str] = arguments.object
        if not objects:
            at = -1 if arguments.skill == "segment" else 1
            words, objects = _split_off(words, at, "OBJECT", arguments.skill)
        if arguments.skill == "segment" and len(objects) > 1:
            raise click.UsageError("segment outlines one object: pass --object once.", click.get_current_context())
        options["object"] = objects[0] if len(objects) == 1 else objects
        options["tiles"] = getattr(arguments, "tiles", None)
    return words, {name: value for name, value in options.items() if value is not None}


def _split_off(words: list[str], at: int, name: str, skill: str) -> tuple[list[str], list[str]]:
    """Divide the words into images and texts; refuse texts that are names of files."""
    context = click.get_current_context()
    if len(words) < 2:
        raise click.UsageError(f"Missing argument '{name}'.", context)
    images, texts = words[:at], words[at:]
    file = next((text for text in texts if Path(text).suffix and os.path.isfile(text)), None)  # noqa: PTH113 - any text
    if file is None:
        return images, texts
    if not all(_may_be_image(image) for image in images):
        form = f"IMAGE {name}..." if at == 1 else f"IMAGE... {name}"
        raise click.UsageError(f"Images come first: `{skill} {form}`.", context)
    article, example = ("a", "'What is it?'") if name == "QUESTION" else ("an", "face")
    raise click.UsageError(
        f"{file!r} is a file, not {article} {name.lower()}. For several images, use --{name.lower()}: "
        f"{skill} a.jpg b.jpg --{name.lower()} {example}",
        context,
    )


def _may_be_image(name: str) -> bool:
    return name == _STDIN or _is_address(name) or os.path.exists(name)  # noqa: PTH110 - a name, not a Path


def _check(arguments: Arguments, names: list[str], form: str) -> None:
    """Raise for everything that would fail after a call was paid for."""
    streams, save, draws = getattr(arguments, "stream", False), getattr(arguments, "save", None), _draws(arguments)
    if arguments.skill == "segment" and (draws or form in _OUTLINE_FORMATS):
        purpose = f"--format {form}" if form in _OUTLINE_FORMATS else "Drawing an outline"
        check_extra("vision", purpose)
    if streams and form not in ("table", "json", "jsonl"):
        raise ConfigurationError(f"--format {form} cannot be used with --stream.")
    if len(names) == 1:
        if save:
            pictures.check_name(save)
        return
    if streams:
        raise ConfigurationError("--stream works with one image at a time.")
    if form in _SINGLE_FORMATS:
        raise ConfigurationError(f"--format {form} holds one image; {_SINGLE_FORMATS[form]}.")
    if names.count(_STDIN) > 1:
        raise ConfigurationError("Standard input can be only one of the images.")
    for name in names:
        if not _may_be_image(name):
            raise ConfigurationError(f"There is no file {name!r}. Nothing was sent.")
    if save:
        pictures.check_folder(save)


def _draws(arguments: Arguments) -> bool:
    return any(getattr(arguments, name, None) for name in ("save", "open", "show"))


def _is_address(name: str) -> bool:
    return is_url(name) or name[:5].lower() in ("data:", "file:")


def _run_one(client: Client, image: Any, name: str, form: str, options: Options, arguments: Arguments) -> None:
    draws = _draws(arguments)
    if draws and is_url(image):
        image = _download(client, image, options)
    stream = {"stream": True} if getattr(arguments, "stream", False) else {}
    answer: Any = getattr(client, arguments.skill)(image, **options, **stream)
    if isinstance(answer, (TextStream, SegmentStream)):
        with answer:
            formatting.stream(cast("TextStream[Any] | SegmentStream", answer), form)
            answer = cast("Any", answer).result()
    else:
        formatting.result(answer, form, _title(name), _labels(options))
    if draws:
        pictures.draw(image, answer, _labels(options), save=arguments.save, show=arguments.open, inline=arguments.show)


def _run_several(
    client: Client, images: list[Any], names: list[str], form: str, options: Options, arguments: Arguments
) -> int:
    """Run the skill on several images at once, and print each result when it and all before it are there."""
    save = getattr(arguments, "save", None)
    draws = _draws(arguments)
    labels, failed = _labels(options), 0
    targets: list[str] | None = pictures.names_in(save, names) if save else None
    report = _Report(form, labels)
    encoded: dict[int, Any] = {}

    def items() -> Iterator[tuple[str, Any]]:
        for number, (name, image) in enumerate(zip(names, images, strict=True)):
            encoded[number] = _download(client, image, options) if draws and is_url(image) else image
            yield name, encoded[number]

    mapped: Any = cast("Any", client).map(arguments.skill, items(), ordered=True, concurrency=_CONCURRENCY, **options)
    try:
        for outcome in mapped:
            number: int = outcome.index
            image, name = encoded.pop(number), names[number]
            if not outcome.ok:
                failed += 1
                show_error(f"{one_line(name)}: {outcome.error}")
                continue
            report.add(_title(name), outcome.result)
            if draws:
                target = None if targets is None else targets[number]
                pictures.draw(image, outcome.result, labels, save=target, show=arguments.open, inline=arguments.show)
    finally:
        report.end()
    return STOPPED if failed == len(names) else SOME_FAILED if failed else 0


def _download(client: Client, url: Any, options: Options) -> Any:
    """Return the image of a URL, to send it and to draw on it."""
    return client.encode_image(url, ImageOptions(resize=None) if options.get("tiles") else None)


class _Report:
    """Prints the results of several images: as text under their names, as JSON lines, or in one document."""

    def __init__(self, form: str, labels: list[str]) -> None:
        self._form, self._labels = form, labels
        self._results: list[tuple[str, Any]] = []

    def add(self, name: str, value: Any) -> None:
        """Print a result, or keep it for the end."""
        if self._form in ("json", "jsonl"):
            show(json.dumps({"image": name, **value.to_dict()}), flush=True)
        elif self._form == "csv":
            first, *rows = formatting.csv_rows(value, self._labels)
            if not self._results:
                show(csv_row(["image", *first]))
            for row in rows:
                show(csv_row([name, *row]))
            self._results.append((name, None))
        elif self._form == "coco":
            self._results.append((name, value))
        else:
            text = formatting.text(value, image=name)
            show(f"{one_line(name)}:{chr(10) if chr(10) in text else ' '}{text}", flush=True)

    def end(self) -> None:
        """Print what was kept."""
        if self._form == "coco":
            show(formatting.coco(self._results, self._labels))


def _title(name: str) -> str:
    return "image" if name[:5].lower() == "data:" else name


def _standard_input() -> bytes:
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - it is None when it was closed
        raise ConfigurationError("Cannot read the image: standard input is closed.")
    return sys.stdin.buffer.read()


def _labels(options: Options) -> list[str]:
    """Return the labels that the skill looked for."""
    labels: str | list[str] = options.get("object") or []
    return [labels] if isinstance(labels, str) else labels
