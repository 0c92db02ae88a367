"""Fixtures for batches."""

from tests.support.batches import at_sandbox, batch_state, photos

__all__ = ["at_sandbox", "batch_state", "photos"]
