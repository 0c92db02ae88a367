"""The commands that serve browsers and agents."""

from __future__ import annotations

from click import FloatRange, IntRange, Option

from .app import Command
from .arguments import calls
from .options import COMMON, FILE, PRICES, SERVER, flag

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
        "mcp",
        callback=calls("mcp_server:mcp"),
        short_help="Give the skills to agents and assistants (MCP).",
        help="Give the skills to agents and assistants, as tools of an MCP server.\n\nIt reads only images under the "
        "folders of --root (default: those of the client, else the working directory) and from public URLs, and writes "
        "only to --output.",
        params=[
            Option(["--root"], type=FILE, multiple=True, metavar="FOLDER", help="Folder to read; repeat for several."),
            Option(
                ["--output"],
                type=FILE,
                metavar="FOLDER",
                help="Where to write pictures and results; default: a temporary folder, deleted at the end.",
            ),
            Option(["--max-calls"], type=IntRange(min=0), metavar="N", help="Refuse calls of the model above N."),
            Option(
                ["--max-cost"],
                type=FloatRange(min=0, min_open=True),
                metavar="USD",
                help="Refuse calls that could exceed this cost in total.",
            ),
            PRICES,
            flag("--http", help="Serve over HTTP on this machine, not on stdin and stdout."),
            Option(
                ["--port"], type=IntRange(0, 65535), default=8080, show_default=True, help="For --http; 0 picks one."
            ),
            *SERVER,
            *COMMON,
        ],
        examples=["mcp --sandbox", "mcp --root ~/Pictures --max-calls 500", "mcp --http --port 8080 --root photos"],
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
