"""Tools for asyncio and trio that know nothing of HTTP."""
