"""What the sandbox sees in an image."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from moondream_async._sandbox import pixels


def _png(color: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (32, 32), color).save(file, "PNG")
    return file.getvalue()


def test_each_analysis_has_a_palette_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow frees the palette's color cache after a conversion: with a shared palette, other threads crash."""
    palettes: list[Image.Image] = []
    quantize = Image.Image.quantize

    def spy(image: Image.Image, **options: Any) -> Image.Image:
        palettes.append(options["palette"])
        return quantize(image, **options)

    monkeypatch.setattr(Image.Image, "quantize", spy)
    assert pixels.analyze(_png("red")).background == "red"
    assert pixels.analyze(_png("blue")).background == "blue"
    assert palettes[0].im is not palettes[1].im
