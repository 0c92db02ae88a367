"""Detect and point in tiles: cut a large image, call the skill for each tile, merge the results."""
