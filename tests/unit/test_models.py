"""What known models can do."""

from __future__ import annotations

from typing import Any

import pytest
import respx

from moondream_async import AsyncClient, ConfigurationError, EncodedImage, prices
from moondream_async.models import MODELS, capabilities_of, check_skill


@pytest.mark.parametrize(
    ("model", "base"),
    [
        ("moondream3-preview", "moondream3-preview"),
        ("moondream/moondream3-preview", "moondream3-preview"),
        ("moondream3-preview/my-finetune@100", "moondream3-preview"),
        ("moondream/moondream3.1-9B-A2B/f@1", "moondream3.1-9B-A2B"),
        ("moondream4", None),
        ("my/moondream3-preview", None),
        ("", None),
        (None, None),
    ],
)
def test_names(model: str | None, base: str | None):
    assert capabilities_of(model) is (None if base is None else MODELS[base])


def test_each_model_has_a_price():
    assert set(MODELS) == set(prices.MODEL_PRICES)


def test_an_error_names_a_model_that_can():
    with pytest.raises(ConfigurationError, match=r"moondream3\.1-9B-A2B cannot segment; moondream3-preview can\."):
        check_skill("segment", "moondream3.1-9B-A2B")
    check_skill("segment", "moondream3-preview")
    check_skill("segment", "unknown")
    check_skill("segment", None)


@respx.mock
async def test_nothing_is_sent(tiny: EncodedImage, tmp_path: Any):
    async with AsyncClient("k" * 20, model="moondream3.1-9B-A2B") as client:
        with pytest.raises(ConfigurationError, match="cannot segment"):
            await client.segment(tiny, "cat")
        with pytest.raises(ConfigurationError, match="cannot segment"):
            await client.segment(tiny, "cat", stream=True)
        with pytest.raises(ConfigurationError, match="cannot segment"):
            client.map("segment", [tiny], object="cat")
        with pytest.raises(ConfigurationError, match="cannot segment"):
            await client.run("segment", [("a", tiny)], tmp_path / "out.jsonl", object="cat")
    assert not (tmp_path / "out.jsonl").exists()
