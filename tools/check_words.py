"""Check that code and docs are in plain English, without the words and phrases listed below.

`python tools/check_words.py [--list] [--at-most N] [PATH ...]` prints each finding as `file:line: word: text` and exits
with 1 if there are more than N (default: 0). `--list` prints the number of findings in each file instead. Without paths
it checks all tracked files; of a folder, the tracked files in it.

In Python files only comments, docstrings and other strings are checked, not names. A line that ends in
`# words: ok` is skipped; `ALLOWED` lists phrases in which a word is right.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = {".md", ".py", ".toml", ".yaml", ".yml"}
SKIPPED = {"tools/check_words.py"}

WORDS = {  # the pattern, and what to write instead
    r"told": "notified, passed, reported",
    r"tell apart|tells apart|told apart": "distinguish, identify",
    r"look(?:s|ed|ing)? on": "observe; hooks",
    r"lookers?-on": "observer, hooks",
    r"looked through": "validate",
    r"hand(?:s|ed|ing)? in": "submit, pass",
    r"hand(?:s|ed|ing)? on": "pass on, yield",
    r"(?:go|goes|going|gone|went) on with": "resume, continue",
    r"(?<!there )(?:is|are) (?-i:none)": "is invalid; there is no",
    r"so many": "at most N, a bounded number",
    r"so long as": "while",
    r"who asks?": "the caller",
    r"who(?:ever)? (?:reads|waits|wants|passes|calls|holds|has)": "the caller, the reader",
    r"is to be": "must be, should be",
    r"are to be": "must be, should be",
    r"of theirs|of ours|of hers|of its own accord": "their, our",
    r"of the user's|of a user's": "the user's",
    r"as it is wanted|as they are wanted": "on demand",
    r"is there already|there already": "already exists",
    r"is there no more": "no longer exists",
    r"side by side": "concurrently, in parallel",
    r"broken off": "interrupted",
    r"what became of": "the outcome of",
    r"to no purpose|pointless": "useless",
    r"of a certain kind": "typed",
    r"without repeats": "deduplicated",
    r"colours?|coloured|behaviours?|licence|grey|centres?|recognise[sd]?|artefacts?": "American spelling",
}

ALLOWED = (
    r"\bside by side\b.*\bpictures?\b",  # images next to each other
    r"so many bytes",  # a lower bound in prose on guards
    r"\"grey\"|'grey'|`grey`|gr[ae]y\b.*\bgr[ae]y",  # the sandbox reads both spellings
    r"(?:What|Which) colou?rs? ",  # questions to the model, in examples and tests
)

_PATTERN = re.compile("|".join(rf"(?P<w{n}>\b(?:{word})\b)" for n, word in enumerate(WORDS)), re.IGNORECASE)
_ALLOWED = re.compile("|".join(ALLOWED))


def prose_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that hold prose, with their numbers; for Python, only comments and strings."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    if path.suffix != ".py":
        yield from enumerate(lines, 1)
        return
    seen: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        # From 3.12 on, f-strings are split into tokens of their own.
        if token.type not in (tokenize.COMMENT, tokenize.STRING) and tokenize.tok_name[token.type] != "FSTRING_MIDDLE":
            continue
        for offset, part in enumerate(token.string.splitlines()):
            number = token.start[0] + offset
            if not lines[number - 1].rstrip().endswith("# words: ok") and (number, part) not in seen:
                yield number, part


def findings(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """Yield the line number, the matched words, what to write instead, and the line."""
    for number, line in prose_of(path):
        allowed = [match.span() for match in _ALLOWED.finditer(line)]
        for match in _PATTERN.finditer(line):
            if any(start <= match.start() and match.end() <= end for start, end in allowed):
                continue
            better = list(WORDS.values())[int(str(match.lastgroup)[1:])]
            yield number, match.group(), better, line.strip()


def tracked_files() -> list[Path]:
    """Return the files that git tracks, in order."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name]


def files(paths: list[Path]) -> Iterator[Path]:
    """Yield the files to check: those in `paths`, and the tracked files of the folders in it."""
    for path in map(Path.resolve, paths):
        yield from (each for each in tracked_files() if each.is_relative_to(path)) if path.is_dir() else (path,)


def main() -> int:
    """Check the files and print the findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="files or folders to check; default: all")
    parser.add_argument("--list", action="store_true", help="print the number of findings in each file")
    parser.add_argument("--at-most", type=int, default=0, metavar="N", help="number of findings allowed; default: 0")
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    for path in files(arguments.paths or [ROOT]):
        name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
        if path.suffix not in SUFFIXES or name in SKIPPED or not path.is_file():
            continue
        for number, word, better, line in findings(path):
            counts[name] += 1
            if not arguments.list:
                print(f"{name}:{number}: {word!r} ({better}): {line[:160]}")
    if arguments.list:
        for name, count in counts.most_common():
            print(f"{count:5} {name}")
    print(f"{counts.total()} findings in {len(counts)} files", file=sys.stderr)
    return 1 if counts.total() > arguments.at_most else 0


if __name__ == "__main__":
    sys.exit(main())
