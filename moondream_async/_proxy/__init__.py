"""The proxy behind `moondream_async.proxy`."""
