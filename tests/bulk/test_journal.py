"""The file of results: what may be in it, and what is never done to it."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from moondream_async import ResultsFileError
from moondream_async.bulk.journal import Journal, read_records, read_results
from moondream_async.bulk.records import Finished, key_of, to_line
from moondream_async.types import CaptionResult


def line(id: Any, *, run: str = "run", ok: bool = True) -> bytes:
    from moondream_async import ImageError

    error = None if ok else ImageError("no")
    result = CaptionResult(caption="é \udce9 \n") if ok else None
    return to_line(Finished(id, {"caption": {}}, result, error, 1, 0.5), several=False, run=run)


KEY_OF_A = key_of("a", {"caption": {}})


@contextmanager
def file_size_limit(nbytes: int) -> Iterator[None]:
    """Files can grow up to here: a disk that is full."""
    if os.name != "posix":
        pytest.skip("there is no such limit")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, limits[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def journal(path: Path, *, resume: bool = True, retry_failed: bool = False) -> Journal:
    return Journal(path, "run", resume=resume, retry_failed=retry_failed)


def test_a_torn_last_line_is_cut_at_every_byte(tmp_path: Path) -> None:
    path, whole, last = tmp_path / "r", line("a") + line("b"), line("c")
    for end in range(len(last)):
        path.write_bytes(whole + last[:end])
        opened = journal(path)
        opened.add(b"", line("d"))
        opened.close()
        found = [record["id"] for record in read_records(path)]
        # Without its last byte it is whole: only the end of the line is missing.
        assert found == (["a", "b", "c", "d"] if end == len(last) - 1 else ["a", "b", "d"])
        assert len(opened.finished) == len(found) - 1


@pytest.mark.parametrize("end", [1, 5, 100])
def test_a_torn_only_line(end: int, tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(line("a")[:end])
    if end < 20:  # it could be anybody's
        with pytest.raises(ResultsFileError, match="no file of results"):
            journal(path)
        assert path.read_bytes() == line("a")[:end]
    else:
        assert list(read_records(path)) == []
        journal(path).close()
        assert path.read_bytes() == b""


def test_zeros_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(line("a") + bytes(4096))
    assert len(list(read_results(path))) == 1
    journal(path).close()
    assert path.read_bytes() == line("a")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x89PNG\r\n\x1a\n....", "line 1, it is not JSON"),
        (b"a.jpg\nb.jpg\n", "line 1, it is not JSON"),
        (b"[1]\n", "line 1, it is not a JSON object"),
        (b'{"id": "a", "image": "a.jpg"}', "line 1, it has no 'skill'"),
        (b'{"id": "a", "image": "a.jpg"}\n{"id": "b", "im', "line 1, it has no 'skill'"),
        (b"\n", "line 1, it is not JSON"),
        (bytes(1000), "line 1, it is not JSON"),
        (b'{"id": 1, "image": "a.jpg"', "line 1, it is not JSON"),
        (b"{", "line 1, it is not JSON"),
        (line("a") + b"\n" + line("b"), "line 2, it is not JSON"),
        (line("a") + line("b")[:40] + b"\n" + line("c"), "line 2, it is not JSON"),
        (line("a") + b"half a li", "line 2, it is not JSON"),
        (line("a", run="other"), "another run"),
        (line("a") + line("b", run="other"), "another run .* line 2"),
    ],
)
def test_what_is_not_ours_is_refused_and_left_alone(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(content)
    for retry_failed in (False, True):
        with pytest.raises(ResultsFileError, match=says):
            journal(path, retry_failed=retry_failed)
    assert path.read_bytes() == content
    assert [each.name for each in tmp_path.iterdir()] == ["r"]


def test_not_asked_to_resume(tmp_path: Path) -> None:
    path = tmp_path / "r"
    journal(path, resume=False).close()
    journal(path, resume=False).close()  # empty
    path.write_bytes(line("a"))
    with pytest.raises(ResultsFileError, match="is there already"):
        journal(path, resume=False)
    assert path.read_bytes() == line("a")


@pytest.mark.parametrize("name", ["", "no/where.jsonl", "a\0b", "/dev/null"])
def test_what_is_no_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(ResultsFileError, match="cannot be used"):
        journal(tmp_path / name)


@pytest.mark.skipif(os.name != "posix", reason="files cannot be locked")
def test_in_use(tmp_path: Path) -> None:
    path = tmp_path / "r"
    opened = journal(path)
    with pytest.raises(ResultsFileError, match="another run is writing it"):
        journal(path)
    other = f"from moondream_async.bulk.journal import Journal; Journal({str(path)!r}, 'run', resume=True, retry_failed=False)"
    done = subprocess.run([sys.executable, "-c", other], capture_output=True, text=True, check=False)
    assert "another run is writing it" in done.stderr
    opened.close()
    journal(path).close()


@pytest.mark.skipif(os.name != "posix", reason="files cannot be locked")
def test_still_in_use_after_the_failed_were_taken_out(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(line("a", ok=False) + line("b"))
    opened = journal(path, retry_failed=True)
    assert path.read_bytes() == line("b")
    assert opened.before(KEY_OF_A) == json.loads(line("a", ok=False))
    with pytest.raises(ResultsFileError, match="another run is writing it"):
        journal(path)
    opened.add(KEY_OF_A, line("a"))
    assert opened.before(KEY_OF_A) is None
    opened.close()
    assert path.read_bytes() == line("b") + line("a")


def test_failed_ones_whose_turn_did_not_come_stay(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(line("a", ok=False) + line("b") + line("c", ok=False))
    opened = journal(path, retry_failed=True)
    opened.add(KEY_OF_A, line("a"))
    opened.close()
    assert path.read_bytes() == line("b") + line("a") + line("c", ok=False)


def test_a_full_disk_while_the_failed_are_taken_out(tmp_path: Path) -> None:
    path = tmp_path / "r"
    content = line("a", ok=False) + line("b") * 20
    path.write_bytes(content)
    with file_size_limit(len(line("b")) * 10 + 7), pytest.raises(ResultsFileError, match="cannot be used"):
        journal(path, retry_failed=True)
    assert path.read_bytes() == content
    assert [each.name for each in tmp_path.iterdir()] == ["r"]


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_is_taken_away(how: str, tmp_path: Path) -> None:
    path = tmp_path / "r"
    opened = journal(path)
    opened.add(b"", line("a"))
    path.unlink()
    if how == "replaced":
        path.write_bytes(line("a"))
    with pytest.raises(ResultsFileError, match="removed or replaced"):
        opened.add(b"", line("b"))
    with pytest.raises(ResultsFileError, match="removed or replaced"):
        opened.close()


def test_a_line_that_is_too_long_is_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "r"
    with path.open("wb") as file:
        file.seek(70 * 1024 * 1024)
        file.write(b"precious")
    with pytest.raises(ResultsFileError, match="too long"):
        journal(path)
    assert path.stat().st_size == 70 * 1024 * 1024 + 8


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    path, target = tmp_path / "link", tmp_path / "r"
    target.write_bytes(line("a", ok=False) + line("b"))
    path.symlink_to(target)
    journal(path, retry_failed=True).close()
    assert path.is_symlink()
    assert target.read_bytes() == line("b") + line("a", ok=False)


def test_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "r"
    opened = journal(path)
    opened.add(b"", line("a"))
    with file_size_limit(len(line("a")) + 10), pytest.raises(ResultsFileError, match="cannot be written"):
        opened.add(b"", line("b"))
    assert path.read_bytes() == line("a")  # no part of the other
    opened.add(b"", line("b"))
    opened.close()
    assert path.read_bytes() == line("a") + line("b")


def test_reading_what_is_not_ours(tmp_path: Path) -> None:
    for name, content in (("a", b"no"), ("b", line("a") + b"{}\n")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ResultsFileError, match="is no file of results"):
            list(read_results(tmp_path / name))
    with pytest.raises(ResultsFileError, match="cannot be read"):
        list(read_results(tmp_path / "none"))
    record = json.loads(line("a"))
    (tmp_path / "c").write_text(json.dumps({**record, "result": {"caption": 5}}))
    with pytest.raises(ResultsFileError, match="its result is not one of caption"):
        list(read_results(tmp_path / "c"))
