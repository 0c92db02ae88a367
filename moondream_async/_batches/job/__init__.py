"""A batch job on disk: its folder, manifest, index and rejected items."""
