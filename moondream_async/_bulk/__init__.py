"""Many images: `map`, resumable runs, results files, exports."""
