"""The commands about servers: `models` and `sandbox`."""

from __future__ import annotations

import json
import threading

from .._printable import one_line
from .._sync.client import Client
from .arguments import Arguments
from .connection import connection
from .console import show


def models(arguments: Arguments) -> None:
    """Print the server's models."""
    with connection(arguments) as target, Client(**target) as client:
        for model in client.models():
            show(json.dumps(model.to_dict()) if arguments.json else one_line(model.id))


def sandbox(arguments: Arguments) -> None:
    """Run the sandbox until Ctrl-C."""
    from ..sandbox import NOTICE, Sandbox

    server = Sandbox(
        host=arguments.host,
        port=arguments.port,
        rate_limit=arguments.rate_limit,
        latency=arguments.latency,
        shape=arguments.shape,
    )
    with server:
        show(f"moondream-async sandbox on {server.base_url} ({NOTICE})", flush=True)
        show("Any key, or none, is accepted. Ctrl-C stops it.", flush=True)
        forever = threading.Event()
        while not forever.wait(1.0):  # a Ctrl-C just before an endless wait would not end it
            pass
