"""TODO recording/layers."""
