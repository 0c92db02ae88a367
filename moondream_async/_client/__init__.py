"""`AsyncClient`, and what only it needs."""
