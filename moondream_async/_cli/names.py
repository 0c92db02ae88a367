"""The names of the command."""

PROGRAM = "moondream-async"
COMPLETION = "_MOONDREAM_ASYNC_COMPLETE"
"""The environment variable with which a shell asks for completions."""
