"""Moondream Cloud's Batch API."""
