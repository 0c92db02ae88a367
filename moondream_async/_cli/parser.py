"""The command-line parser."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TypeAlias

from .. import __version__
from .._batches.wire import BATCH_SKILLS
from ..config import SKILLS
from ..prices import Prices
from . import skills

_SubParsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # pyright: ignore[reportPrivateUsage] - it has no public name


def parser() -> argparse.ArgumentParser:
    """Return the argument parser; each subcommand sets `run`."""
    top = argparse.ArgumentParser(
        prog="moondream-async",
        description="Call Moondream: the cloud, Station, or a local sandbox.",
        epilog="MOONDREAM_API_KEY sets the API key, MOONDREAM_BASE_URL the server.",
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    sub = top.add_subparsers(required=True, metavar="COMMAND")

    query = _skill(sub, "query", "ask a question about an image", stream=True)
    query.add_argument("question")
    query.add_argument("--reasoning", action=argparse.BooleanOptionalAction, help="turn reasoning on or off")

    caption = _skill(sub, "caption", "describe an image", stream=True)
    caption.add_argument("--length", choices=("short", "normal", "long"), default="normal")

    kinds = (
        ("detect", "find objects, as boxes", ("csv", "coco", "yolo")),
        ("point", "find objects, as points", ("csv",)),
    )
    for name, what, formats in kinds:
        parser = _skill(sub, name, what, formats=formats)
        parser.add_argument("object", nargs="+", help="what to find; several objects are searched for concurrently")
        _picture(parser)
    outline = _skill(
        sub, "segment", "outline an object, as an SVG path", stream=True, formats=("csv", "coco", "yolo", "svg")
    )
    outline.add_argument("object")
    _picture(outline)

    _run(sub)
    _batch(sub)
    export = sub.add_parser("export", help="convert the results of a run to a table")
    export.add_argument("results", metavar="RESULTS", help="a results file (JSON lines) written by `run`")
    export.add_argument("table", metavar="TABLE", help="output file: .csv or .parquet")
    export.set_defaults(run=skills.export)

    models = sub.add_parser("models", help="list the server's models (free; also checks the key)")
    _server(models)
    models.set_defaults(run=skills.models)

    sandbox = sub.add_parser("sandbox", help="run a local Moondream-compatible stand-in server, without a model")
    sandbox.add_argument("--port", type=int, default=2020, help="default 2020, as Station uses")
    sandbox.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1")
    sandbox.add_argument("--rate-limit", type=float, help="maximum requests per second, such as 2")
    sandbox.add_argument("--latency", type=float, default=0.0, help="delay before each response, in seconds")
    sandbox.add_argument(
        "--shape", default="engine", help="shape of streamed events: engine, docs, text, station or final"
    )
    sandbox.set_defaults(run=skills.sandbox)

    demo = sub.add_parser("demo", help="try all skills without a key or network")
    demo.add_argument("--out", default="moondream-demo.png", help="where to save the annotated image")
    demo.set_defaults(run=skills.demo)
    return top


def _run(sub: _SubParsers) -> None:
    run = sub.add_parser(
        "run",
        help="run skills over many images and save the results (resumable)",
        description="Run skills over many images, one line of JSON per result. An interrupted run can be resumed.",
        epilog="Exit codes: 0 success; 1 stopped by an error; 2 usage error, nothing was started; 3 some items failed; "
        "130 stopped by Ctrl-C (143 by SIGTERM) after in-flight items finished.",
    )
    run.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="an image, a directory, a quoted pattern such as 'photos/**/*.jpg', a URL, a .jsonl file of lines such as "
        '{"image": "a.jpg", "id": "a", "question": "..."}, or - to read such lines or paths from stdin',
    )
    run.add_argument("--skill", action="append", required=True, choices=SKILLS, help="skill to run; repeat for several")
    run.add_argument("--out", metavar="FILE", help="results file (JSON lines)")
    _skill_options(run)
    run.add_argument(
        "--concurrency",
        type=int,
        metavar="N",
        help="maximum concurrent items; default 32, or 4 seconds' worth of --rate",
    )
    run.add_argument(
        "--rate", type=float, metavar="R", help="maximum requests per second; default as fast as the server allows"
    )
    run.add_argument("--max-failures", type=int, metavar="N", help="stop when more than N items have failed")
    _budget(run)
    run.add_argument("--resume", action="store_true", help="continue an existing results file, if there is one")
    run.add_argument("--retry-failed", action="store_true", help="resume and retry failed items")
    run.add_argument(
        "--dry-run", action="store_true", help="only estimate size and cost; needs no key and sends nothing"
    )
    _server(run)
    run.set_defaults(run=skills.run)


def _skill_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--question", help="for query")
    parser.add_argument("--object", action="append", help="for detect, point and segment; repeat for several labels")
    parser.add_argument("--length", choices=("short", "normal", "long"), help="for caption")
    parser.add_argument("--reasoning", action=argparse.BooleanOptionalAction, help="for query")
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--max-objects", type=int)


def _batch(sub: _SubParsers) -> None:
    parser = sub.add_parser(
        "batch",
        help="process many images as a server-side job, at half the price",
        description="Moondream Cloud's Batch API. A job is stored in a folder. If submit is interrupted, repeat it "
        "with the same --job to resume.",
        epilog="Exit codes: 0 success; 1 an error or a failed batch; 2 usage error; 3 some lines failed; 130 Ctrl-C.",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    submit = actions.add_parser("submit", help="submit images or a ready file of batch lines")
    submit.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="as for `run`; without --skill, one ready .jsonl file"
    )
    submit.add_argument("--skill", choices=BATCH_SKILLS)
    submit.add_argument("--job", metavar="FOLDER", help="folder of the job; default a new one in your state directory")
    _skill_options(submit)
    _budget(submit)
    submit.add_argument("--wait", action="store_true", help="wait until the job is finished")
    submit.add_argument("--out", metavar="FILE", help="wait, then save the results, as `run` does")

    status = actions.add_parser("status", help="show the progress of a job")
    wait = actions.add_parser("wait", help="wait until a job is finished")
    results = actions.add_parser("results", help="write or print the results of a finished job")
    results.add_argument("--out", metavar="FILE", help="results file, as written by `run`; default: print them")
    cancel = actions.add_parser("cancel", help="cancel uploads that the server has not accepted yet")
    for one in (status, wait, results, cancel):
        one.add_argument("job", metavar="JOB", help="a job folder or a batch id")
    listing = actions.add_parser("list", help="list your batches, newest first")
    listing.add_argument("--limit", type=int, metavar="N", help="at most N batches; default all")

    for one in (submit, wait):
        one.add_argument("--timeout", type=float, metavar="S", help="wait at most S seconds")
    parsers = {"submit": submit, "status": status, "wait": wait, "results": results, "cancel": cancel, "list": listing}
    for name, one in parsers.items():
        _server(one)
        one.set_defaults(run=skills.batch, action=name)


def _budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-cost", type=float, metavar="USD", help="start no item that could exceed this cost")
    parser.add_argument("--prices", type=_prices, metavar="IN,OUT", help="US dollars per million tokens")


def _prices(text: str) -> Prices:
    try:
        first, second = text.split(",")
        return Prices(float(first), float(second))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} must be two prices, such as 0.30,2.50") from None


def _skill(
    sub: _SubParsers, name: str, what: str, *, stream: bool = False, formats: Sequence[str] = ()
) -> argparse.ArgumentParser:
    parser = sub.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    parser.add_argument("image", metavar="IMAGE", help="a path, a URL, a data: URI, or - for stdin")
    _server(parser)
    every = ("table", "json", "jsonl", *formats)
    parser.add_argument("--format", choices=every, help="output format; default table, for people")
    if stream:
        parser.add_argument("--stream", action="store_true", help="print the answer as it arrives")
    parser.set_defaults(run=skills.skill, skill=name)
    return parser


def _picture(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--save", metavar="FILE", help="save the image with the results drawn on it")
    parser.add_argument("--open", action="store_true", help="open the annotated image in the system's viewer")


def _server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base-url", help="server URL; Station is http://localhost:2020/v1")
    parser.add_argument("--model", help="model; default the server's")
    parser.add_argument("--sandbox", action="store_true", help="use a local stand-in server, without a model")
    parser.add_argument("--json", action="store_true", help="print the full result as JSON, or a stream as JSON lines")
