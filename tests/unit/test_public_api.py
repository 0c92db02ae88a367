"""Nothing public is lost by accident: names and signatures beside those of 0.1.0, and some that were added since."""

from __future__ import annotations

from pathlib import Path

from tools.public_api import HERE, MODULES, lines

CHANGED = {
    # The client makes them, not users.
    "AsyncBatches": "constructor",
    "AsyncMap": "constructor",
    "AsyncFinetune": "constructor",
    "AsyncTuning": "constructor",
    # Prices are known by model: `MODEL_PRICES`, `Prices.of`, `Prices.batch`.
    "prices.CLOUD_PRICES": "one price for all models",
    "prices.BATCH_PART": "a factor for all models",
    # For type checkers it is `Done[R] | Failed`; at run time, a class with the same members.
    **{
        f"{module}Outcome{member}": "a union"
        for module in ("", "bulk.")
        for member in ("", ".attempts", ".elapsed", ".error", ".id", ".index", ".ok", ".result", ".unwrap")
    },
}
"""Intended changes since 0.1.0, with the reason; by the name below `moondream_async.`."""

RENAMED = {"stop_when_pointless": "stop_on_auth_error", "without_repeats": "nms"}
"""Names since 0.1.0; nothing was released under the old ones."""


def test_every_public_name_of_the_first_version_is_there() -> None:
    now = dict(map(split, lines(HERE, MODULES)))
    listed = (Path(__file__).parent / "public_api.txt").read_text()
    for old, new in RENAMED.items():
        listed = listed.replace(old, new)
    missing, changed = [], []
    for name, parameters in map(split, listed.splitlines()):
        if name.partition(".")[2] in CHANGED:
            continue
        if name not in now:
            missing.append(name)
        elif not is_compatible(parameters, now[name]):
            changed.append(f"{name}: {', '.join(parameters)} -> {', '.join(now[name])}")
    assert missing == []
    assert changed == []


def split(line: str) -> tuple[str, list[str]]:
    """The name, and its parameters; those that are keyword-only begin with `*`."""
    name, _, rest = line.partition("(")
    parameters, keyword_only = [], ""
    for each in filter(None, rest.removesuffix(")").split(", ")):
        if each == "*":
            keyword_only = "*"
        else:
            parameters.append(each if each.startswith("*") else f"{keyword_only}{each}")
            keyword_only = "*" if each.startswith("*") else keyword_only
    return name, parameters


def is_compatible(old: list[str], new: list[str]) -> bool:
    """Whether every call that fits the old parameters fits the new ones."""
    positional = [each for each in old if not each.startswith("*")]
    if new[: len(positional)] != positional:
        return False
    rest = new[len(positional) :]
    added = [each for each in rest if each not in old]
    return all(each in rest for each in old[len(positional) :]) and all(
        "=" in each or each[:2] == "**" for each in added
    )


def test_the_comparison_notices_what_breaks_calls() -> None:
    assert is_compatible(["a", "b=1", "*c=2"], ["a", "b=1", "*d=3", "*c=2", "**rest"])
    for worse in (["a"], ["b=1", "a", "*c=2"], ["a", "b=2", "*c=2"], ["a", "b=1", "*c"], ["a", "b=1", "*c=2", "*d"]):
        assert not is_compatible(["a", "b=1", "*c=2"], worse)
