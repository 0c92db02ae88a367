"""Sending and receiving: the one room that imports httpx, and the one that knows event loops and threads."""
