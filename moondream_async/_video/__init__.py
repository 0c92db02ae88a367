"""Decoding of videos for `moondream_async.video`."""
