"""Draw results on images, and export them to the formats of other tools."""
