"""TODO tasks/classification."""
