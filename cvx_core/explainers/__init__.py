"""TODO explainers."""
