"""Layers of a network: their layout, shapes and hooks."""
