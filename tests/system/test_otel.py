"""OpenTelemetry without its extra."""

from __future__ import annotations

import subprocess
import sys


def test_without_the_extra() -> None:
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "import moondream_async as md\n"
        "try:\n    import moondream_async.otel\n"
        "except md.ConfigurationError as exc:\n    print(exc)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert "pip install 'moondream-async[otel]'" in done.stdout
