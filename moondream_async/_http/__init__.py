"""HTTP: requests, retries, streams, downloads and the connection pool; the only package that imports httpx."""
