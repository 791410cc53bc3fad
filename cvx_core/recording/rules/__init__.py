"""Propagation rules: the interface, and what frozen gates hold constant in each function."""
