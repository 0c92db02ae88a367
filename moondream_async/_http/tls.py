"""Create the TLS context of all clients, and explain problems with the certificates that the environment names."""

from __future__ import annotations

import functools
import os
import re
import ssl
from pathlib import Path

import httpx

from .._concurrency.forks import no_fork
from ..errors import ConfigurationError

_NO_CERTIFICATE = "it holds no certificate"
_HASHED_NAME = re.compile(r"[0-9a-f]{8}\.\d+")  # OpenSSL looks certificates up in a directory by such names


@functools.cache
def shared_ssl_context() -> ssl.SSLContext:
    """Return the TLS context that all clients share: creating one costs more than a hundred requests.

    Raises:
        ConfigurationError: `SSL_CERT_FILE` or `SSL_CERT_DIR` names no usable certificates.
    """
    file, directories = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    try:
        with no_fork():
            context = httpx.create_ssl_context()
    except (OSError, ValueError) as exc:  # ssl.SSLError is an OSError
        problem = _reason(exc)
    else:
        if _has_certificates(context, file, directories):
            return context
        problem = _NO_CERTIFICATE
    if file:  # httpx ignores the directory if the file is set
        advice = f"SSL_CERT_FILE is {file!r}, which cannot be used: {problem}. Set it to a file of PEM certificates"
    elif directories:
        advice = (
            f"SSL_CERT_DIR is {directories!r}, which cannot be used: {problem}. "
            "Set it to a directory prepared with `openssl rehash`"
        )
    else:
        raise ConfigurationError(f"The TLS certificates of this system cannot be read: {problem}.")
    raise ConfigurationError(f"{advice}, or unset it.")


def _has_certificates(context: ssl.SSLContext, file: str | None, directories: str | None) -> bool:
    if file or not directories:
        return context.cert_store_stats()["x509"] > 0
    return any(map(_is_certificate_directory, directories.split(os.pathsep)))


def _is_certificate_directory(directory: str) -> bool:
    try:
        return any(_HASHED_NAME.fullmatch(entry.name) for entry in Path(directory).iterdir())
    except (OSError, ValueError):
        return False


def _reason(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLError):
        return _NO_CERTIFICATE
    return getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
