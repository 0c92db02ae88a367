"""Moondream Cloud's Batch API: many images at half the price, as jobs that run on the server."""
