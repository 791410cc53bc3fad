"""TODO cli/kit."""
