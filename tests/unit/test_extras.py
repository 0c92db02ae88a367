"""The extras that `doctor` lists are those of pyproject.toml."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

from moondream_async import _extras

_PYPROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))
_DEPENDENCIES: dict[str, list[str]] = _PYPROJECT["project"]["optional-dependencies"]
_EXTRAS = sorted(set(_DEPENDENCIES) - {"all", "benchmarks", "dev", "docs", "engines", "examples", "lint"})


def _packages(extra: str) -> set[str]:
    """Return the names of an extra's packages, except those that only some platforms have."""
    names: set[str] = set()
    for requirement in _DEPENDENCIES[extra]:
        name, others = re.match(r"([\w-]+)(?:\[([\w,]+)\])?", requirement).groups()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
        if name == "moondream-async":
            names |= {package for other in others.split(",") for package in _packages(other)}
        elif ";" not in requirement:
            names.add(name)
    return names


def test_all_extras_are_listed() -> None:
    assert sorted(_extras.EXTRAS) == _EXTRAS


@pytest.mark.parametrize("extra", _EXTRAS)
def test_the_modules_are_those_of_the_packages(extra: str) -> None:
    distributions = importlib.metadata.packages_distributions()
    modules = [module.partition(".")[0] for module in _extras.MODULES[extra]]
    installed = [{name.replace("_", "-") for name in distributions[module]} for module in modules]
    assert _packages(extra) <= set().union(*installed)
    assert all(_packages(extra) & names for names in installed)
