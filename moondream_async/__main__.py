"""`python -m moondream_async` is the command `moondream-async`."""

import sys

from ._cli import main

if __name__ == "__main__":
    sys.exit(main())
