"""The wire format, without I/O: request bodies, responses, errors, stream events, retry and rate decisions."""
