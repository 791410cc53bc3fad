"""Fixes that need no new data, evaluated on held-out inputs."""
