"""What is drawn of results, and the formats they are exported to."""
