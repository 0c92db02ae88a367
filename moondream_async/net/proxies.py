"""Whether the environment names a proxy for a URL."""

from __future__ import annotations

import urllib.request
from urllib.parse import urlsplit


def is_proxied(url: str) -> bool:
    """Whether a request to this URL goes through a proxy of the environment."""
    parts = urlsplit(url)
    proxies = urllib.request.getproxies()
    if not (parts.scheme in proxies or "all" in proxies):
        return False
    return not urllib.request.proxy_bypass(parts.netloc)
