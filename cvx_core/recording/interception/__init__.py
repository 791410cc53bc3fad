"""TODO recording/interception."""
