"""Many images: `map` over them, bounded, each outcome an object, no item ever lost."""
