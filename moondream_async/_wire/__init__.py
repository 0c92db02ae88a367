"""The wire, without I/O: request bodies, answers, errors, stream events, retry and pace decisions."""
