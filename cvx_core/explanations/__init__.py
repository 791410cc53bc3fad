"""TODO explanations."""
