"""The commands that serve browsers."""

from __future__ import annotations

from click import FloatRange, IntRange, Option

from .app import Command
from .arguments import calls
from .options import COMMON, SERVER, flag

serve_commands = [
    Command(
        "playground",
        callback=calls("serving:playground"),
        short_help="Try the skills on your pictures in the browser.",
        help="Try the skills on your pictures in the browser.\n\nThe page works offline, and only this machine can "
        "open it.",
        params=[
            Option(["--port"], type=IntRange(0, 65535), default=8080, show_default=True, help="Port; 0 picks one."),
            flag("--open", help="Open the page in the browser."),
            *SERVER,
            *COMMON,
        ],
        examples=["playground --sandbox", "playground --open", "playground --base-url http://localhost:2020/v1"],
    ),
    Command(
        "proxy",
        callback=calls("serving:proxy"),
        short_help="Call Moondream and fal.ai for browsers, which then need no key.",
        help="Call Moondream and fal.ai for browsers, which then need no key.\n\nMoondream's API is at /v1, fal.ai's "
        "proxy at /api/fal/proxy, if FAL_KEY is set. Without --authorize, only programs and pages of this machine are "
        "admitted.",
        params=[
            Option(["--port"], type=IntRange(0, 65535), default=8080, show_default=True, help="Port; 0 picks one."),
            Option(["--host"], default="127.0.0.1", show_default=True, help="Address to listen on."),
            Option(
                ["--authorize"],
                metavar="MODULE:FUNCTION",
                help="Function that takes a Starlette request, and returns True or the visitor's name to admit it.",
            ),
            Option(
                ["--allow-origin"],
                multiple=True,
                metavar="ORIGIN",
                help="Pages of this origin may call it, such as https://app.example; repeat for several.",
            ),
            Option(
                ["--rate-limit"],
                type=FloatRange(min=0),
                default=5.0,
                metavar="R",
                show_default=True,
                help="Calls per second for each visitor; 0 for no limit.",
            ),
            Option(
                ["--max-body"],
                type=FloatRange(min=0, min_open=True),
                default=20.0,
                metavar="MB",
                show_default=True,
                help="Maximum size of a request.",
            ),
            *SERVER,
            *COMMON,
        ],
        examples=[
            "proxy --sandbox",
            "proxy --port 8080",
            "proxy --host 0.0.0.0 --authorize myapp.auth:check --allow-origin https://app.example",
        ],
    ),
]
