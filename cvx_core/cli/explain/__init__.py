"""TODO cli/explain."""
