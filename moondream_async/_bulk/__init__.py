"""Process many images: `map`, resumable runs, results files, exports."""
