"""Answers kept on disk, so that the same call is not paid for twice."""
