"""The commands that set up the command itself."""

from __future__ import annotations

from click import Argument, Choice

from .app import Command
from .arguments import calls
from .options import COMMON, SERVER, flag, output

_URL, _MODEL, _ = SERVER

setup_commands = [
    Command(
        "login",
        callback=calls("login:run"),
        short_help="Save your API key, server and model for this command.",
        help="Save your API key, server and model in a file that only you can read.\n\nThe key is asked for, or read "
        "from standard input, and checked with a free request. Only this command reads the file; Python programs do "
        "not. Options and environment variables win: with MOONDREAM_API_KEY or another server, the file is not used.",
        params=[
            _URL,
            _MODEL,
            flag("--no-check", help="Save without asking the server."),
            flag("--remove", help="Remove the saved login."),
            *COMMON,
        ],
        examples=["login", "login --base-url http://localhost:2020/v1", "login --remove"],
    ),
    Command(
        "doctor",
        callback=calls("doctor:run"),
        short_help="Check the installation, the key and the server.",
        help="Check the installation, the key and the server, with free requests. It takes at most 10 seconds.",
        params=[*output(), *SERVER, *COMMON],
        examples=["doctor", "doctor --base-url http://localhost:2020/v1", "doctor --json"],
        exit_codes="0 all is well; 1 the server does not answer, or refuses the key.",
    ),
    Command(
        "completion",
        callback=calls("completion:run"),
        short_help="Print a script that completes commands in your shell.",
        help="Print a script that completes commands, options and file names in your shell.\n\nLoad it in the file "
        "that your shell reads when it starts: ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish.",
        params=[Argument(["shell"], type=Choice(("bash", "zsh", "fish"))), *COMMON],
        examples=[
            "completion bash >> ~/.bashrc",
            "completion zsh >> ~/.zshrc",
            "completion fish > ~/.config/fish/completions/moondream-async.fish",
        ],
    ),
]
