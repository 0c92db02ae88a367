"""A results file is used by one process at a time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from moondream_async import ResultsFileError
from moondream_async._bulk.journal import Journal


def journal(path: Path) -> Journal:
    return Journal(path, "run", resume=True, retry_failed=False)


@pytest.mark.skipif(os.name != "posix", reason="files cannot be locked")
def test_a_results_file_in_use(tmp_path: Path) -> None:
    path = tmp_path / "r"
    opened = journal(path)
    with pytest.raises(ResultsFileError, match="another run is writing it"):
        journal(path)
    other = f"from moondream_async._bulk.journal import Journal; Journal({str(path)!r}, 'run', resume=True, retry_failed=False)"
    done = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, check=False, timeout=60)
    assert "another run is writing it" in done.stderr
    opened.close()
    journal(path).close()
