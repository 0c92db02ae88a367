"""Show the progress of long work: a bar in a terminal, a line in a notebook, or the user's callback."""
