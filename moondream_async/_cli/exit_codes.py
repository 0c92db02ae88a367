"""The exit codes of the command; 0 is success."""

STOPPED, WRONG_USAGE, SOME_FAILED = 1, 2, 3
SIGNALED = 128  # plus the number of the signal
