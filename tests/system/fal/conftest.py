"""Fixtures for fal."""

from tests.support.fal import fal, fal_sandbox, no_fal_environment, short_delays

__all__ = ["fal", "fal_sandbox", "no_fal_environment", "short_delays"]
