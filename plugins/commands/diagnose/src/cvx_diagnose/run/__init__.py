"""Runs: configuration, rows, resuming, and the work that engines execute."""
