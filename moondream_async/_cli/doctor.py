"""The command `doctor`: what is installed, which key and server are used, and whether the server answers."""

from __future__ import annotations

import json
import os
import platform
import sys
import threading
import time

import attrs

from .._extras import EXTRAS, is_installed
from .._printable import one_line
from .._sync.client import Client
from .._version import __version__
from ..config import DEFAULT_BASE_URL, KEYS_URL, Secret, Timeouts
from ..errors import APITimeoutError, MoondreamError
from . import login, saved_login
from .arguments import Arguments
from .connection import Target, connection, find_target
from .console import show
from .exit_codes import STOPPED

_TIMEOUTS, _LIMIT = Timeouts(connect=3, total=7), 8.0  # seconds
_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
_MAX_MODELS = 5
_WIDTH = 14


@attrs.define
class _Report:
    """The lines of the report, whether all is well, and whether a request hangs."""

    lines: dict[str, str] = attrs.field(factory=dict[str, str])
    is_healthy: bool = True
    is_stuck: bool = False

    def add(self, name: str, text: str, *, fails: bool = False) -> None:
        """Add a line; `fails` if it says what is wrong."""
        self.lines[name] = one_line(text)
        self.is_healthy = self.is_healthy and not fails


def run(arguments: Arguments) -> int:
    """Print the report; return 1 if something is wrong."""
    report = _Report()
    report.add("version", f"moondream-async {__version__}, Python {platform.python_version()}, {platform.platform()}")
    installed = [name for name in EXTRAS if is_installed(name)]
    missing = ", ".join(name for name in EXTRAS if name not in installed)
    report.add("extras", ", ".join(installed) or "none")
    if missing:
        report.add("not installed", f"{missing} (pip install 'moondream-async[NAME]')")
    try:
        _add_login(report)
        target = Target(None, arguments.model) if arguments.sandbox else find_target(arguments)
        _add_key(report, target, arguments)
        _add_server(report, target, arguments)
    except MoondreamError as exc:
        report.add("problem", str(exc), fails=True)
    if arguments.json:
        show(json.dumps({**report.lines, "ok": report.is_healthy}))
    else:
        for name, text in report.lines.items():
            show(f"{name:<{_WIDTH}} {text}")
        show("All is well." if report.is_healthy else "Something is wrong; see above.")
    code = 0 if report.is_healthy else STOPPED
    if report.is_stuck:
        sys.stdout.flush()
        os._exit(code)  # the interpreter would wait for the name server
    return code


def _add_key(report: _Report, target: Target, arguments: Arguments) -> None:
    """Say which key is used, and where it comes from."""
    key = None if arguments.sandbox else target.saved_key or Secret.resolve(Secret(None))
    if key is not None:
        report.add("key", key.describe().removeprefix("the key "))
        return
    needs_key = target.server == DEFAULT_BASE_URL and not arguments.sandbox
    missing = f"none: run `moondream-async login`, or set MOONDREAM_API_KEY ({KEYS_URL})"
    report.add("key", missing if needs_key else "none", fails=needs_key)


def _add_server(report: _Report, target: Target, arguments: Arguments) -> None:
    """Say which server and model are used, and ask the server for its models, which is free."""
    server = "a sandbox" if arguments.sandbox else target.server
    report.add("server", f"{server} ({_source(target, arguments)})")
    report.add("model", target.model or "the server's default")
    proxies = [name for name in _PROXIES if os.getenv(name) or os.getenv(name.lower())]
    if proxies:
        report.add("proxies", f"{', '.join(proxies)} set")
    if not report.is_healthy:
        return
    started = time.monotonic()
    models = _ask_for_models(report, arguments)
    if isinstance(models, MoondreamError):
        report.add("answer", str(models), fails=True)
        return
    shown = ", ".join(models[:_MAX_MODELS]) + (", ..." if len(models) > _MAX_MODELS else "")
    report.add("answer", f"{time.monotonic() - started:.2f} s, {len(models)} models: {shown}")
    if target.model is not None and models and not any(target.model.startswith(model) for model in models):
        report.add("model", f"{target.model}: the server does not list it", fails=True)


def _ask_for_models(report: _Report, arguments: Arguments) -> list[str] | MoondreamError:
    """Return the server's models, or what is wrong, within the limit of time: a name server may hang for longer."""
    answers: list[list[str] | MoondreamError] = []

    def ask() -> None:
        try:
            with connection(arguments, timeout=_TIMEOUTS, retry=1, hooks=()) as options, Client(**options) as client:
                answers.append([one_line(model.id) for model in client.models()])
        except MoondreamError as exc:
            answers.append(exc)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_LIMIT)
    report.is_stuck = not answers
    return answers[0] if answers else APITimeoutError(f"No answer within {_LIMIT:g} s.")


def _source(target: Target, arguments: Arguments) -> str:
    if arguments.sandbox or arguments.base_url:
        return "an option"
    if target.uses_login:
        return "the saved login"
    return next((name for name in ("MOONDREAM_BASE_URL", "MOONDREAM_ENDPOINT") if os.getenv(name)), "the default")


def _add_login(report: _Report) -> None:
    saved = saved_login.read()
    if saved is None:
        report.add("login", "none saved")
        return
    report.add("login", f"{login.describe(saved)} ({saved_login.path()})")
    if not saved_login.is_private():
        report.add("permissions", f"other users can read {saved_login.path()}: run chmod 600 on it", fails=True)
