"""What the command takes."""

from __future__ import annotations

import argparse

from .. import __version__
from . import commands


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

    for name, what in (("detect", "find objects, as boxes"), ("point", "find objects, as points")):
        _skill(sub, name, what).add_argument("object", help="what to look for")
    _skill(sub, "segment", "outline an object, as an SVG path", stream=True).add_argument("object")

    models = sub.add_parser("models", help="list the server's models (free; also checks the key)")
    _server(models)
    models.set_defaults(run=commands.models)

    sandbox = sub.add_parser("sandbox", help="run a local Moondream-compatible server: a stand-in, no model")
    sandbox.add_argument("--port", type=int, default=2020, help="default 2020, Station's own")
    sandbox.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1")
    sandbox.add_argument("--rate-limit", type=float, help="requests per second it allows, such as 2")
    sandbox.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    sandbox.add_argument("--shape", default="engine", help="how it writes streams: engine, docs, text, station, final")
    sandbox.set_defaults(run=commands.sandbox)

    demo = sub.add_parser("demo", help="see all skills at work: no key, no network")
    demo.add_argument("--out", default="moondream-demo.png", help="where to write the annotated picture")
    demo.set_defaults(run=commands.demo)
    return top


def _skill(
    sub: argparse._SubParsersAction[argparse.ArgumentParser],  # pyright: ignore[reportPrivateUsage] - it has no public name
    name: str,
    what: str,
    *,
    stream: bool = False,
) -> argparse.ArgumentParser:
    parser = sub.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")
    parser.add_argument("image", metavar="IMAGE", help="a path, a data: URI, or - for stdin")
    _server(parser)
    if stream:
        parser.add_argument("--stream", action="store_true", help="print as it is written")
    parser.set_defaults(run=commands.skill, skill=name)
    return parser


def _server(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--base-url", help="the server; Station is http://localhost:2020/v1")
    parser.add_argument("--model", help="the model; default the server's own")
    parser.add_argument("--sandbox", action="store_true", help="answer from a local sandbox: a stand-in, no model")
    parser.add_argument("--json", action="store_true", help="print the whole result as JSON; streams as JSON lines")
