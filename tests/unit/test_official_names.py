"""Names of the official package and of fal-client that do not exist here say what to use instead."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

import moondream_async as md
from moondream_async import _official_names

ADVICE: dict[str, dict[str, str]] = _official_names._ADVICE  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("from moondream_async.types import CaptionOutput", "use moondream_async.CaptionResult"),
        (
            "import moondream_async.types as t; t.Region",
            "moondream_async.types has no Region: use moondream_async.BoundingBox",
        ),
        ("import moondream_async as md; md.photon('moondream3')", "import moondream for it"),
        ("from moondream_async import photon_models", "Photon runs models in this process"),
        ("from moondream_async.fal import SyncClient", "use fal.FalClient"),
        ("from moondream_async import fal; fal.run('a', {})", "use fal.subscribe, which goes through fal's queue"),
    ],
)
def test_the_error_says_what_to_use(code: str, message: str) -> None:
    with pytest.raises(ImportError, match=message):
        exec(code)


def test_other_names_are_missing_as_usual() -> None:
    modules: list[Any] = [
        md,
        importlib.import_module("moondream_async.types"),
        importlib.import_module("moondream_async.fal"),
    ]
    for module in modules:
        assert not hasattr(module, "__wrapped__")
        with pytest.raises(AttributeError, match=f"^module '{module.__name__}' has no attribute 'nothing'$"):
            _ = module.nothing


def test_the_advice_names_what_exists() -> None:
    for module, names in ADVICE.items():
        for name, advice in names.items():
            here: Any = importlib.import_module(f"moondream_async.{module}".rstrip("."))
            assert name not in vars(here)
            package, _, target = advice.removeprefix("use ").partition(",")[0].partition(";")[0].partition(".")
            if advice.startswith(("use moondream_async.", "use fal.")):
                assert hasattr(md if package == "moondream_async" else md.fal, target)


def test_public_modules_are_attributes_of_the_package() -> None:
    for name in ("bulk", "config", "errors", "fal", "hooks", "prices", "types", "video", "vision"):
        assert getattr(md, name) is importlib.import_module(f"moondream_async.{name}")


def test_local_models_are_left_to_the_official_package() -> None:
    with pytest.raises(md.ConfigurationError, match="with Photon, which only the official package `moondream` has"):
        md.vl(local=True)
