"""The commands to try Moondream without a key."""

from __future__ import annotations

from click import Option

from .app import Command
from .arguments import calls
from .options import COMMON, FILE, SERVER, flag, output

try_commands = [
    Command(
        "demo",
        callback=calls("demo:run"),
        help="Try all skills, without a key or network.",
        params=[
            Option(
                ["-o", "--out"],
                type=FILE,
                metavar="FILE",
                default="moondream-demo.png",
                show_default=True,
                help="Where to save the annotated image.",
            ),
            flag("--show", help="Draw the annotated image in the terminal, too."),
            *COMMON,
        ],
        examples=["demo", "demo -o picture.png", "demo --show"],
    ),
    Command(
        "sandbox",
        callback=calls("servers:sandbox"),
        help="Run a local Moondream-compatible stand-in server, without a model.",
        params=[
            Option(["--port"], type=int, default=2020, show_default=True, help="Port; Station uses 2020, too."),
            Option(["--host"], default="127.0.0.1", show_default=True, help="Address to listen on."),
            Option(["--rate-limit"], type=float, metavar="R", help="Maximum requests per second, such as 2."),
            Option(["--latency"], type=float, default=0.0, metavar="S", help="Seconds before each response."),
            Option(
                ["--shape"],
                default="engine",
                metavar="SHAPE",
                help="Shape of streamed events: engine, docs, text, station or final.",
            ),
            *COMMON,
        ],
        examples=["sandbox", "sandbox --port 2021 --rate-limit 2", "sandbox --latency 0.5"],
    ),
    Command(
        "models",
        callback=calls("servers:models"),
        help="List the server's models. It is free, and checks the key.",
        params=[*output(), *SERVER, *COMMON],
        examples=["models", "models --base-url http://localhost:2020/v1", "models --json"],
    ),
]
