"""Fixtures for fal."""

from tests.support.fal import fal, fal_sandbox, no_fal_environment, short_pauses

__all__ = ["fal", "fal_sandbox", "no_fal_environment", "short_pauses"]
