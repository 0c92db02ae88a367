"""Errors of the library, with the command's options in place of Python's arguments."""

from __future__ import annotations

from .._bulk.budget import NEEDS_PRICES
from .._bulk.journal import HOW_TO_RESUME
from .._http.image_download import HOW_TO_ALLOW_PRIVATE
from .._http.moondream import HOW_TO_SET_KEY
from .._images.formats import READ_VIDEO
from ..config import KEYS_URL, NO_KEY

_PHRASES = {
    NO_KEY: (
        f"No API key. Either: (1) run `moondream-async login` or set MOONDREAM_API_KEY (keys: {KEYS_URL}); "
        "(2) run Moondream Station and add --base-url http://localhost:2020/v1; "
        "(3) try without a model: add --sandbox."
    ),
    NEEDS_PRICES: "--max-cost needs --prices IN,OUT, or a --model with known prices.",
    HOW_TO_RESUME: "run the same command without --fresh to resume it",
    HOW_TO_ALLOW_PRIVATE: "download it yourself and pass the file",
    HOW_TO_SET_KEY: "set MOONDREAM_API_KEY or run `moondream-async login`",
    READ_VIDEO: "to process its frames, use `moondream-async run SKILL VIDEO --fps 1 -o FILE`",
}


def reword(problem: object) -> str:
    """Return the text of an error for a user of the command."""
    text = str(problem)
    for phrase, replacement in _PHRASES.items():
        text = text.replace(phrase, replacement)
    return text
