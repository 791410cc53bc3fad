"""Receptive fields: what a position reads, and what a patch of the image affects."""
