"""Explanations as a NumPy archive without pickle."""
