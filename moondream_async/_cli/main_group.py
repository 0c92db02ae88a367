"""The command `moondream-async` itself."""

from __future__ import annotations

from .app import Group
from .ask_commands import ask_commands
from .many_commands import many_commands
from .names import PROGRAM
from .options import ANYWHERE
from .serve_commands import serve_commands
from .setup_commands import setup_commands
from .try_commands import try_commands

main_group = Group(
    PROGRAM,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Call Moondream: the cloud, Station, or a local sandbox.",
    epilog="MOONDREAM_API_KEY sets the API key, MOONDREAM_BASE_URL the server, MOONDREAM_MODEL the model.",
    params=ANYWHERE,
    sections={
        "Ask": ask_commands,
        "Many": many_commands,
        "Serve": serve_commands,
        "Set up": setup_commands,
        "Try": try_commands,
    },
    examples=[
        'query photo.jpg "What is on the table?"',
        "run detect photos --object face -o faces.jsonl",
        "demo",
    ],
)
