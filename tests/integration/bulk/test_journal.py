"""The results file: damaged and foreign content, and what a run never does to it."""

from __future__ import annotations

import errno
import inspect
import json
import os
import sys
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from moondream_async import ConfigurationError, MoondreamError, ResultsFileError
from moondream_async._bulk.journal import Journal
from moondream_async._bulk.reading import read_records, read_results
from moondream_async._bulk.records import Finished, key_of, marked, to_line
from moondream_async.types import CaptionResult
from tests.support.disk import file_size_limit


def line(id: Any, *, run: str = "run", ok: bool = True) -> bytes:
    from moondream_async import ImageError

    error = None if ok else ImageError("no")
    result = CaptionResult(caption="é \udce9 \n") if ok else None
    return to_line(Finished(id, {"caption": {}}, result, error, 1, 0.5), several=False, run=run)


KEY_OF_A = key_of("a", {"caption": {}})


def journal(path: Path, *, resume: bool = True, retry_failed: bool = False) -> Journal:
    return Journal(path, "run", resume=resume, retry_failed=retry_failed)


def ids(path: Path) -> list[tuple[Any, bool]]:
    return [(outcome.id, outcome.ok) for outcome in read_results(path)]


def test_a_torn_last_line_is_cut_at_every_byte(tmp_path: Path) -> None:
    path, whole, last = tmp_path / "r", line("a") + line("b"), line("c")
    for end in range(len(last)):
        path.write_bytes(whole + last[:end])
        opened = journal(path)
        opened.add(b"", line("d"))
        opened.close()
        found = [record["id"] for record in read_records(path)]
        # Without its last byte, the line is complete: only the line feed is missing.
        assert found == (["a", "b", "c", "d"] if end == len(last) - 1 else ["a", "b", "d"])
        assert len(opened.finished) == len(found) - 1


def test_a_torn_only_line_is_cut_at_every_byte(tmp_path: Path) -> None:
    path, whole = tmp_path / "r", line("a")
    several = to_line(Finished(-1.5, {"caption": {}, "query": {}}, None, None, 1, 0.5), several=True, run="run")
    for only in (whole, several):
        for end in range(1, len(only) - 1):
            path.write_bytes(only[:end])
            assert list(read_records(path)) == []
            journal(path).close()
            assert path.read_bytes() == b"", end


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
        (b'{"id": 1, "image": "a.jpg"', "line 1, it is not JSON"),
        (b'{"id": "a", "skill": "caption", "image": "aaaa"}\n', "line 1, it has no 'arguments'"),  # a batch's line
        (b'{"id": "a", "skill": "caption", "ima', "line 1, it is not JSON"),
        (b'{"id": "a", "skill": "caption", "image": "aaaa"}\n' * 30 + line("a"), "line 1, it has no 'arguments'"),
        (b"\n\0\0\n\nno", "line 4, it is not JSON"),
        (line("a", run="other"), "another run"),
    ],
)
def test_foreign_files_are_rejected_and_unchanged(content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(content)
    for retry_failed in (False, True):
        with pytest.raises(ResultsFileError, match=says):
            journal(path, retry_failed=retry_failed)
    assert path.read_bytes() == content
    assert [each.name for each in tmp_path.iterdir()] == ["r"]


def test_an_existing_file_without_resume(tmp_path: Path) -> None:
    path = tmp_path / "r"
    journal(path, resume=False).close()
    journal(path, resume=False).close()  # empty
    path.write_bytes(line("a"))
    with pytest.raises(ResultsFileError, match="already exists"):
        journal(path, resume=False)
    assert path.read_bytes() == line("a")


@pytest.mark.parametrize("name", ["", "no/where.jsonl", "a\0b", "/dev/null"])
def test_paths_that_are_not_regular_files(name: str, tmp_path: Path) -> None:
    with pytest.raises(ResultsFileError, match="cannot be used"):
        journal(tmp_path / name)


def test_failed_lines_stay_until_they_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "r"
    before = line("a", ok=False) + line("b") + line("c", ok=False)
    path.write_bytes(before)
    opened = journal(path, retry_failed=True)
    assert opened.finished == {key_of("b", {"caption": {}})}
    assert opened.failed == set()
    assert path.read_bytes() == before
    assert opened.previous_record(KEY_OF_A) == json.loads(line("a", ok=False))
    opened.add(KEY_OF_A, line("a"))
    assert opened.previous_record(KEY_OF_A) is None
    assert path.read_bytes() == before + marked(line("a"))
    assert ids(path) == [("b", True), ("c", False), ("a", True)]  # as after a kill
    opened.close()
    assert path.read_bytes() == line("b") + line("c", ok=False) + line("a")
    assert ids(path) == [("b", True), ("c", False), ("a", True)]


def test_killed_during_retry_failed(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(line("a", ok=False) + line("b") + marked(line("a", ok=False)) + line("c"))
    again = journal(path, retry_failed=True)
    again.add(KEY_OF_A, line("a"))
    again._file.close()  # killed  # pyright: ignore[reportPrivateUsage]
    assert ids(path) == [("b", True), ("c", True), ("a", True)]
    last = journal(path)
    assert (len(last.finished), last.failed) == (3, set())
    last.close()
    assert path.read_bytes() == line("b") + line("c") + line("a")


def test_duplicate_items_in_the_file(tmp_path: Path) -> None:
    """Equal items of a batch have one line each, and each failed line is replaced once."""
    path = tmp_path / "r"
    path.write_bytes(line("a", ok=False) + line("a", ok=False) + line("b", ok=False) + line("b"))
    opened = journal(path, retry_failed=True)
    assert opened.finished == {key_of("b", {"caption": {}})}  # it has a result
    opened.add(KEY_OF_A, line("a"))
    assert ids(path) == [("a", False), ("b", False), ("b", True), ("a", True)]
    opened.add(KEY_OF_A, line("a"))
    opened.add(KEY_OF_A, line("a"))
    opened.close()
    assert path.read_bytes() == line("b", ok=False) + line("b") + line("a") * 3


def test_results_are_kept_if_compaction_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r"
    path.write_bytes(line("a", ok=False))
    opened = journal(path, retry_failed=True)
    opened.add(KEY_OF_A, line("a"))

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("moondream_async._bulk.journal.shutil.copymode", full)
    opened.close()
    assert path.read_bytes() == line("a", ok=False) + marked(line("a"))
    assert ids(path) == [("a", True)]
    assert [each.name for each in tmp_path.iterdir()] == ["r"]


@pytest.mark.parametrize("accepted", range(0, 140, 7))
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("cut_fails", [False, True])
def test_a_write_that_fails_at_any_byte(
    accepted: int, code: int, cut_fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing written before is lost, whether or not the torn line can be cut off."""
    path = tmp_path / "r"
    before = line("a", ok=False) + line("b")
    path.write_bytes(before)
    opened = journal(path, retry_failed=True)

    def fails(file: FileIO, data: bytes) -> None:
        file.write(data[:accepted])
        raise OSError(code, os.strerror(code))

    def cannot(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as broken:
        broken.setattr("moondream_async._bulk.journal.write_all", fails)
        if cut_fails:
            broken.setattr("os.ftruncate", cannot)
        with pytest.raises(ResultsFileError, match="cannot be written"):
            opened.add(KEY_OF_A, line("a"))
        assert ids(path) == [("a", False), ("b", True)]
        if cut_fails:
            with pytest.raises(ResultsFileError, match="cannot be written"):
                opened.add(b"", line("c"))
    opened.add(KEY_OF_A, line("a"))  # the disk has space again
    assert ids(path) == [("b", True), ("a", True)]
    opened.close()
    assert path.read_bytes() == line("b") + line("a")


def test_a_disk_that_fails_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = journal(tmp_path / "r")
    opened.add(b"", line("a"))

    def fails(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("os.fsync", fails)
    with pytest.raises(ResultsFileError, match="cannot be written"):
        opened.close()


NESTED = line("b").replace(b'"caption": "', b'"like": {"id": "y", "skill": "caption", "arguments": {}}, "caption": "')
WHOLE = [("a", True), ("b", True), ("c", True)]


@pytest.mark.parametrize(
    ("content", "found", "damaged"),
    [
        (b"\n" + line("a") + b"\n \t\r\n" + line("b") + line("c") + b"\n", WHOLE, 4),
        (b"\xef\xbb\xbf" + line("a") + line("b") + line("c"), WHOLE, 0),
        ((line("a") + line("b") + line("c")).replace(b"\n", b"\r\n"), WHOLE, 0),
        (line("a") + bytes(4096) + line("b") + line("c"), WHOLE, 0),
        (line("a") + line("b") + bytes(5) + b"\n" + line("c") + bytes(5), WHOLE, 2),
        (bytes(10) + line("a") + line("b") + line("c"), WHOLE, 0),
        (line("a")[:10] + b"\n" + line("a") + line("b") + line("c"), WHOLE, 1),
        (line("a")[:-5] + line("a") + line("b") + line("c"), WHOLE, 1),
        (line("a") + line("b") + line("x")[:40] + line("c"), WHOLE, 1),
        (line("a") + line("b") + line("x")[:40] + bytes(99) + line("c"), WHOLE, 1),
        (line("a") + line("b").strip() + line("c"), WHOLE, 0),
        (line("a") + line("b").strip() + bytes(9) + line("c"), WHOLE, 0),
        (line("a") + line("b").strip() + line("x")[:9] + b"\n" + line("c"), WHOLE, 1),
        (line("a") + line("x")[:40] + NESTED + line("c"), WHOLE, 1),
        (line("a") + b"[" * 5000 + line("b") + line("c"), WHOLE, 1),
        (line("a") + b'{"id": "\xe9' + line("b") + line("c"), WHOLE, 1),
        (line("a") + b"{}\n[]\nnull\n7\n\xff\n" + line("b") + line("c"), WHOLE, 5),
        (b"# by hand\n" + line("a") + line("b") + line("c") + b"half a li", WHOLE, 2),
        (line("a") + line("b").replace(b"caption", b"captio") + line("b") + line("c"), WHOLE, 1),
        (line("a") + line("b") + line("c") + b"[" * 100_000 + b"\n", WHOLE, 1),
        (line("a") + line("b") + line("c") + b'{"id": ' + b"9" * 5000 + b"}\n", WHOLE, 1),
    ],
)
def test_a_damaged_line_does_not_affect_others(
    content: bytes, found: list[Any], damaged: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "r"
    path.write_bytes(content)
    reader = read_results(path)
    assert [(outcome.id, outcome.ok) for outcome in reader] == found
    assert reader.damaged_lines == damaged
    assert ("were skipped" in caplog.text) == bool(damaged)
    opened = journal(path, retry_failed=True)
    assert opened.damaged_lines == damaged
    assert opened.finished == {key_of(name, {"caption": {}}) for name, _ in found}
    opened.add(b"", line("d"))
    opened.close()
    assert ids(path) == [*found, ("d", True)]


def test_lines_of_another_run_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(line("a") + line("b", run="other") + line("c"))
    opened = journal(path)
    assert opened.finished == {key_of(name, {"caption": {}}) for name in "ac"}
    assert opened.damaged_lines == 1
    opened.close()
    assert path.read_bytes() == line("a") + line("b", run="other") + line("c")


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\n", bytes(1000), bytes(9) + b"\n"])
def test_a_file_of_blanks_or_zeros_is_empty(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(content)
    assert ids(path) == []
    opened = journal(path)
    opened.add(b"", line("a"))
    opened.close()
    assert path.read_bytes() == line("a")


@pytest.mark.parametrize(
    "edit",
    [
        {"result": None},
        {"result": 5},
        {"result": {"caption": 5}},
        {"skill": "unheard"},
        {"skill": []},
        {"skill": ["caption"]},
        {"skill": {}},
        {"skill": None},
        {"arguments": []},
        {"id": None},
        {"id": True},
        {"id": ["a"]},
        {"ok": 1},
        {"run": 5},
        {"attempts": "many"},
        {"elapsed": None},
        {"image_size": 7},
    ],
)
def test_items_of_lines_edited_by_hand_run_again(edit: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "r"
    edited = json.dumps({**json.loads(line("a")), **edit}).encode() + b"\n"
    path.write_bytes(line("b") + edited + line("c"))
    reader = read_results(path)
    assert [outcome.id for outcome in reader] == ["b", "c"]
    assert reader.damaged_lines == 1
    opened = journal(path, retry_failed=True)
    assert opened.finished == {key_of(name, {"caption": {}}) for name in "bc"}
    opened.close()
    assert path.read_bytes() == line("b") + edited + line("c")


@pytest.mark.parametrize(
    "error", [None, 5, "no", [], {}, {"type": 7}, {"type": "APIError", "status": "x"}, {"type": "Any"}]
)
def test_a_failed_line_with_an_invalid_error_counts_as_failed(error: Any, tmp_path: Path) -> None:
    path = tmp_path / "r"
    record = {**json.loads(line("a", ok=False)), "error": error}
    if error is None:
        del record["error"]
    path.write_text(json.dumps(record) + "\n")
    [outcome] = read_results(path)
    assert type(outcome.error) is MoondreamError
    opened = journal(path, retry_failed=True)
    assert opened.previous_record(KEY_OF_A) == record
    opened.close()


def test_read_from_a_deep_stack(tmp_path: Path) -> None:
    path = tmp_path / "r"
    nested = b"[" * 900 + b"]" * 900
    path.write_bytes(
        line("a") + line("b").replace(b'"caption": "', b'"more": ' + nested + b', "caption": "') + line("c")
    )

    def deeper(frames: int) -> list[Any]:
        return deeper(frames - 1) if frames else ids(path)

    used = len(inspect.stack(0))
    for free in (900, 500, 200, 90):
        assert deeper(sys.getrecursionlimit() - used - free) == WHOLE


def test_replaced_entries_of_a_damaged_line_stay(tmp_path: Path) -> None:
    path = tmp_path / "r"
    content = line("x")[:40] + line("a", ok=False) + marked(line("a"))
    path.write_bytes(content)
    journal(path).close()
    assert path.read_bytes() == content
    assert ids(path) == [("a", True)]


@pytest.mark.parametrize("length", [0, 1, -2])
def test_a_file_that_is_truncated(length: int, tmp_path: Path) -> None:
    path = tmp_path / "r"
    path.write_bytes(line("0"))
    opened = journal(path)
    opened.add(b"", line("a"))
    opened.add(b"", line("b", ok=False))
    assert opened.count_written() == {True: 1, False: 1}
    os.truncate(path, length % path.stat().st_size)
    for _ in range(2):
        with pytest.raises(ResultsFileError, match="truncated"):
            opened.add(b"", line("c"))
    assert opened.is_lost
    assert opened.count_written() == ({True: 1} if length < 0 else {})
    with pytest.raises(ResultsFileError, match="truncated"):
        opened.close()


def test_what_another_program_appends_stays(tmp_path: Path) -> None:
    path = tmp_path / "r"
    opened = journal(path)
    with path.open("ab") as file:
        file.write(b"# noted\n")
    opened.add(b"", line("a"))
    opened.close()
    assert path.read_bytes() == b"# noted\n" + line("a")


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_file_that_is_removed_or_replaced(how: str, tmp_path: Path) -> None:
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


def test_an_overlong_line_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "r"
    with path.open("wb") as file:
        for _ in range(70):
            file.write(b"x" * 1024 * 1024)
        file.write(b"precious")
    with pytest.raises(ResultsFileError, match="longer than"):
        journal(path)
    assert path.stat().st_size == 70 * 1024 * 1024 + 8


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    path, target = tmp_path / "link", tmp_path / "r"
    target.write_bytes(line("a", ok=False) + line("b"))
    path.symlink_to(target)
    journal(path, retry_failed=True).close()
    assert path.is_symlink()
    assert target.read_bytes() == line("a", ok=False) + line("b")


def test_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "r"
    opened = journal(path)
    opened.add(b"", line("a"))
    with file_size_limit(len(line("a")) + 10), pytest.raises(ResultsFileError, match="cannot be written"):
        opened.add(b"", line("b"))
    assert path.read_bytes() == line("a")  # nothing of the line that did not fit
    opened.add(b"", line("b"))
    opened.close()
    assert path.read_bytes() == line("a") + line("b")


def test_reading_a_foreign_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"no")
    with pytest.raises(ResultsFileError, match="is not a results file"):
        list(read_results(tmp_path / "a"))
    for name in ("none", "a\0b", ""):
        with pytest.raises(ResultsFileError, match="cannot be read"):
            list(read_results(tmp_path / name))
    with pytest.raises(ConfigurationError, match="path"):
        list(read_results(None))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
