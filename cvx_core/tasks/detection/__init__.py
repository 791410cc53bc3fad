"""TODO tasks/detection."""
