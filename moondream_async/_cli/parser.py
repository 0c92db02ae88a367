"""What the command takes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TypeAlias

from .. import __version__
from .._batches.wire import SKILLS as BATCH_SKILLS
from ..config import SKILLS
from ..prices import Prices
from . import skills

_SubParsers: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # pyright: ignore[reportPrivateUsage] - it has no public name


def parser() -> argparse.ArgumentParser:
    """The command's argument parser; each sub-command sets `run`."""
    top = argparse.ArgumentParser(
        prog="moondream-async",
        description="Talk to Moondream: cloud, Station, or a local sandbox.",
        epilog="The key is read from MOONDREAM_API_KEY, the server from MOONDREAM_BASE_URL.",
    )
    top.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    sub = top.add_subparsers(required=True, metavar="COMMAND")

    query = _skill(sub, "query", "ask about an image", stream=True)
    query.add_argument("question")
    query.add_argument("--reasoning", action=argparse.BooleanOptionalAction, help="ask for, or forbid, reasoning")

    caption = _skill(sub, "caption", "describe an image", stream=True)
    caption.add_argument("--length", choices=("short", "normal", "long"), default="normal")

    kinds = (
        ("detect", "find objects, as boxes", ("csv", "coco", "yolo")),
        ("point", "find objects, as points", ("csv",)),
    )
    for name, what, formats in kinds:
        found = _skill(sub, name, what, formats=formats)
        found.add_argument("object", nargs="+", help="what to look for; several are looked for side by side")
        _picture(found)
    outline = _skill(
        sub, "segment", "outline an object, as an SVG path", stream=True, formats=("csv", "coco", "yolo", "svg")
    )
    outline.add_argument("object")
    _picture(outline)

    _run(sub)
    _batch(sub)
    export = sub.add_parser("export", help="write the results of a run as a table")
    export.add_argument("results", metavar="RESULTS", help="the file of JSON lines that a run wrote")
    export.add_argument("table", metavar="TABLE", help="where to: .csv or .parquet")
    export.set_defaults(run=skills.export)

    models = sub.add_parser("models", help="list the server's models (free; also checks the key)")
    _server(models)
    models.set_defaults(run=skills.models)

    sandbox = sub.add_parser("sandbox", help="run a local Moondream-compatible server: a stand-in, no model")
    sandbox.add_argument("--port", type=int, default=2020, help="default 2020, Station's own")
    sandbox.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1")
    sandbox.add_argument("--rate-limit", type=float, help="requests per second it allows, such as 2")
    sandbox.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    sandbox.add_argument("--shape", default="engine", help="how it writes streams: engine, docs, text, station, final")
    sandbox.set_defaults(run=skills.sandbox)

    demo = sub.add_parser("demo", help="see all skills at work: no key, no network")
    demo.add_argument("--out", default="moondream-demo.png", help="where to write the annotated picture")
    demo.set_defaults(run=skills.demo)
    return top


def _run(sub: _SubParsers) -> None:
    run = sub.add_parser(
        "run",
        help="do many images, into a file, resumably",
        description="Do many images: each a line of JSON in a file, which any stop leaves ready to go on with.",
        epilog="Exit codes: 0 all done; 1 stopped by an error; 2 wrong usage, nothing was begun; 3 some items failed; "
        "130 stopped by Ctrl-C (143 by SIGTERM), when what was in flight has been finished.",
    )
    run.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="an image, a directory, a quoted pattern such as 'photos/**/*.jpg', a URL, a .jsonl file of lines such as "
        '{"image": "a.jpg", "id": "a", "question": "..."}, or -: such lines, or paths, from stdin',
    )
    run.add_argument("--skill", action="append", required=True, choices=SKILLS, help="once or several times")
    run.add_argument("--out", metavar="FILE", help="the file of results, JSON lines")
    _asked(run)
    run.add_argument(
        "--concurrency", type=int, metavar="N", help="how many at once; default 32, or 4 s' worth of --rate"
    )
    run.add_argument("--rate", type=float, metavar="R", help="requests per second; default as fast as the server lets")
    run.add_argument("--max-failures", type=int, metavar="N", help="stop when more than so many items failed")
    _budget(run)
    run.add_argument("--resume", action="store_true", help="go on with the file of results, if there is one")
    run.add_argument("--retry-failed", action="store_true", help="resume, and do those again that failed")
    run.add_argument("--dry-run", action="store_true", help="only say how much it would be: no key, no requests")
    _server(run)
    run.set_defaults(run=skills.run)


def _asked(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--question", help="for query")
    parser.add_argument(
        "--object", action="append", help="for detect, point, segment; several times for several labels"
    )
    parser.add_argument("--length", choices=("short", "normal", "long"), help="for caption")
    parser.add_argument("--reasoning", action=argparse.BooleanOptionalAction, help="for query")
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--max-objects", type=int)


def _batch(sub: _SubParsers) -> None:
    parser = sub.add_parser(
        "batch",
        help="many images at half the price, as a job on the server",
        description="Moondream Cloud's Batch API. A job is kept in a folder; killed at any moment, the same submit, "
        "with the same --job, goes on.",
        epilog="Exit codes: 0 done; 1 an error, or a batch that was waited for failed; 2 wrong usage; "
        "3 some lines failed; 130 Ctrl-C.",
    )
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    submit = actions.add_parser("submit", help="hand in images, or a ready file of batch lines")
    submit.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="as for `run`; or, without --skill, one ready .jsonl file"
    )
    submit.add_argument("--skill", choices=BATCH_SKILLS)
    submit.add_argument(
        "--job", metavar="FOLDER", help="where the job is kept; default a new one in your state directory"
    )
    _asked(submit)
    _budget(submit)
    submit.add_argument("--wait", action="store_true", help="wait until it is finished")
    submit.add_argument("--out", metavar="FILE", help="wait, and write the results there, as `run` does")

    status = actions.add_parser("status", help="ask how far a job is")
    wait = actions.add_parser("wait", help="wait until a job is finished")
    results = actions.add_parser("results", help="write or print the results of a finished job")
    results.add_argument("--out", metavar="FILE", help="where to, as `run` writes them; default: printed")
    cancel = actions.add_parser("cancel", help="abort what is not handed in yet")
    for one in (status, wait, results, cancel):
        one.add_argument("job", metavar="JOB", help="a job's folder, or a batch's id")
    listing = actions.add_parser("list", help="list your batches, the newest first")
    listing.add_argument("--limit", type=int, metavar="N", help="at most so many; default all")

    for one in (submit, wait):
        one.add_argument("--timeout", type=float, metavar="S", help="wait at most so many seconds")
    works = {"submit": submit, "status": status, "wait": wait, "results": results, "cancel": cancel, "listing": listing}
    for name, one in works.items():
        _server(one)
        one.set_defaults(run=skills.batch, work=name)


def _budget(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-cost", type=float, metavar="USD", help="begin no item that could pass this sum")
    parser.add_argument("--prices", type=_prices, metavar="IN,OUT", help="US dollars per million tokens")


def _prices(text: str) -> Prices:
    try:
        first, second = text.split(",")
        return Prices(float(first), float(second))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not two prices such as 0.30,2.50") from None


def _skill(
    sub: _SubParsers,
    name: str,
    what: str,
    *,
    stream: bool = False,
    formats: Sequence[str] = (),
) -> argparse.ArgumentParser:
    parser = sub.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    parser.add_argument("image", metavar="IMAGE", help="a path, a URL, a data: URI, or - for stdin")
    _server(parser)
    every = ("table", "json", "jsonl", *formats)
    parser.add_argument("--format", choices=every, help="how to print it; default table, for people")
    if stream:
        parser.add_argument("--stream", action="store_true", help="print as it is written")
    parser.set_defaults(run=skills.skill, skill=name)
    return parser


def _picture(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--save", metavar="FILE", help="draw what was found on the image, and write that")
    parser.add_argument("--open", action="store_true", help="draw it, and open that in the system's viewer")


def _server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base-url", help="the server; Station is http://localhost:2020/v1")
    parser.add_argument("--model", help="the model; default the server's own")
    parser.add_argument("--sandbox", action="store_true", help="answer from a local sandbox: a stand-in, no model")
    parser.add_argument("--json", action="store_true", help="print the whole result as JSON; streams as JSON lines")
