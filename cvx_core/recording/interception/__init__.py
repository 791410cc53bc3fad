"""Interception of the functions that a model calls."""
