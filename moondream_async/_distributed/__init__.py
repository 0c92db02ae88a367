"""Skills as functions over columns, for engines that run them in many processes."""
