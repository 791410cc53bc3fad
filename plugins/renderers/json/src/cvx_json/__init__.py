"""Explanations as documented JSON."""
